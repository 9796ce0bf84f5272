"""Customers of the shop: `python visitors.py checkout --members FILE` until SIGTERM.

Each customer thinks, acts, and sometimes retries; requests go round-robin to the instances that the
members file names at that moment, as behind a load balancer. How busy they are swells and ebbs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp

CUSTOMERS = 500
PRODUCTS = 500
MEAN_THINK_SECONDS = {"checkout": 11.0, "catalog": 8.0}
ATTEMPTS = 3
GATEWAY_SECONDS = 6.0
WORDS = ["oak", "steel", "linen", "blue", "lamp", "kettle", "chair", "vase", "round", "velvet"]


class Balancer:
    """Round-robin over the instances in the members file, re-read whenever it changes."""

    def __init__(self, members: Path) -> None:
        self._members = members
        self._changed = 0.0
        self._urls: list[str] = []
        self._turn = 0

    def next(self) -> str:
        """The instance whose turn it is."""
        changed = self._members.stat().st_mtime
        if changed != self._changed:
            self._urls = json.loads(self._members.read_text(encoding="utf-8"))
            self._changed = changed
        self._turn += 1
        return self._urls[self._turn % len(self._urls)]


class Customer:
    """One customer with one trace per action; retries of an action belong to its trace."""

    def __init__(self, number: int, http: aiohttp.ClientSession, balancer: Balancer) -> None:
        self.number = number
        self._http = http
        self._balancer = balancer

    async def call(self, method: str, path: str, **content: Any) -> int:
        """Send one request, again when it failed for no fault of ours; the last status, or 0."""
        trace = uuid.uuid4().hex
        status = 0
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(0.3 * 2**attempt * random.uniform(0.5, 1.5))
            headers = {
                "X-Customer-Id": str(self.number),
                "traceparent": f"00-{trace}-{random.getrandbits(64):016x}-01",
            }
            try:
                async with self._http.request(
                    method, self._balancer.next() + path, headers=headers, **content
                ) as response:
                    await response.read()
                    status = response.status
            except (aiohttp.ClientError, TimeoutError):
                continue
            if status < 500:
                break
        return status


def product() -> str:
    """A product, the first ones far more often than the last."""
    return f"SKU-{int(PRODUCTS * random.random() ** 2):05d}"


async def show_cart(customer: Customer) -> None:
    """Look at the cart."""
    await customer.call("GET", "/cart")


async def add_line(customer: Customer) -> None:
    """Put something into the cart; a few people type nonsense."""
    quantity = random.choice([0, 99, "two"]) if random.random() < 0.03 else random.randint(1, 4)
    await customer.call("POST", "/cart/lines", json={"sku": product(), "quantity": quantity})


async def remove_line(customer: Customer) -> None:
    """Change one's mind."""
    await customer.call("DELETE", f"/cart/lines/{product()}")


async def show_shipping(customer: Customer) -> None:
    """Ask what shipping costs."""
    await customer.call("GET", "/cart/shipping")


async def place_order(customer: Customer) -> None:
    """Buy; some people click twice."""
    await customer.call("POST", "/cart/lines", json={"sku": product(), "quantity": 1})
    order = {"idempotency_key": str(uuid.uuid4())}
    clicks = 2 if random.random() < 0.04 else 1
    await asyncio.gather(*(customer.call("POST", "/orders", json=order) for _ in range(clicks)))


async def list_orders(customer: Customer) -> None:
    """Look at past orders."""
    await customer.call("GET", "/orders")


async def change_email(customer: Customer) -> None:
    """Change the address; some people try one that they use on another account."""
    if random.random() < 0.15:
        email = f"customer{random.randint(1, CUSTOMERS)}@example.com"
    else:
        email = f"customer{customer.number}.{random.randint(1, 999)}@example.com"
    await customer.call("PUT", "/profile/email", json={"email": email})


async def search(customer: Customer) -> None:
    """Search; the newest client can ask for an order, which older releases ignore."""
    words = " ".join(random.sample(WORDS, random.randint(1, 2)))
    order = {"sort": "rating"} if random.random() < 0.15 else {}
    await customer.call("GET", "/products", params={"q": words} | order)


async def show_product(customer: Customer) -> None:
    """Look at a product; a few bookmarks are out of date."""
    sku = f"OLD-{random.randint(1, 99)}" if random.random() < 0.01 else product()
    await customer.call("GET", f"/products/{sku}")


async def show_recommendations(customer: Customer) -> None:
    """See what goes with a product."""
    await customer.call("GET", f"/products/{product()}/recommendations")


async def add_review(customer: Customer) -> None:
    """Review a product; some people click twice."""
    stars = random.choice([0, 6, "ten"]) if random.random() < 0.03 else random.randint(1, 5)
    path = f"/products/{product()}/reviews"
    clicks = 2 if random.random() < 0.05 else 1
    for _ in range(clicks):
        await customer.call("POST", path, json={"stars": stars})


async def list_categories(customer: Customer) -> None:
    """Browse."""
    await customer.call("GET", "/categories")


ACTIONS = {
    "checkout": {
        show_cart: 33,
        add_line: 26,
        remove_line: 6,
        show_shipping: 8,
        place_order: 11,
        list_orders: 13,
        change_email: 3,
    },
    "catalog": {
        search: 32,
        show_product: 40,
        show_recommendations: 16,
        add_review: 6,
        list_categories: 6,
    },
}


def busyness(elapsed: float) -> float:
    """How much livelier than on average the shop is: a day in five minutes, and a flutter."""
    return (
        1
        + 0.25 * math.sin(2 * math.pi * elapsed / 300)
        + 0.1 * math.sin(2 * math.pi * elapsed / 37)
    )


async def live(customer: Customer, service: str, began: float) -> None:
    """Think and act for ever."""
    actions, weights = zip(*ACTIONS[service].items(), strict=True)
    while True:
        pace = MEAN_THINK_SECONDS[service] / busyness(time.monotonic() - began)
        await asyncio.sleep(random.expovariate(1 / pace))
        (action,) = random.choices(actions, weights)
        await action(customer)


async def visit(service: str, members: Path) -> None:
    """All customers at once, until SIGTERM."""
    balancer = Balancer(members)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    timeout = aiohttp.ClientTimeout(total=GATEWAY_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        began = time.monotonic()
        lives = [
            asyncio.create_task(live(Customer(number, http, balancer), service, began))
            for number in range(1, CUSTOMERS + 1)
        ]
        await ended.wait()
        for task in lives:
            task.cancel()
        for task in lives:
            with contextlib.suppress(asyncio.CancelledError):
                await task


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=ACTIONS)
    parser.add_argument("--members", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(visit(arguments.service, arguments.members))
