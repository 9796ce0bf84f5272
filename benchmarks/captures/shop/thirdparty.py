"""HTTP clients for the services that the shop buys: payments, prices and recommendations."""

from __future__ import annotations

import os
import threading

import requests

TIMEOUT_SECONDS = (0.5, 1.5)

_local = threading.local()


def _session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    return _local.session


def _url(path: str) -> str:
    return f"http://127.0.0.1:{os.environ['THIRD_PARTY_PORT']}{path}"


def charge(customer_id: int, cents: int) -> int:
    """Take money; the receipt's number."""
    response = _session().post(
        _url("/charge"), json={"customer": customer_id, "cents": cents}, timeout=TIMEOUT_SECONDS
    )
    response.raise_for_status()
    return response.json()["receipt"]


def market_price(sku: str) -> int | None:
    """What others ask for it, in cents; None when the feed does not know it."""
    response = _session().get(_url(f"/prices/{sku}"), timeout=TIMEOUT_SECONDS)
    response.raise_for_status()
    return response.json().get("cents")


def recommendations(sku: str) -> list[str]:
    """SKUs that sell with this one."""
    response = _session().get(_url(f"/recommendations/{sku}"), timeout=TIMEOUT_SECONDS)
    response.raise_for_status()
    return response.json()["skus"]
