"""What it costs to send a cart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from shop.models import CartLine, Customer


def rates_for(session: Session, zone: str, weight_grams: int) -> list[dict[str, str | int]]:
    """The carriers that take this weight to this zone, cheapest first."""
    rows = session.execute(
        "SELECT carrier, MIN(price_cents) AS price_cents FROM shipping_rates"
        " WHERE zone = :zone AND max_weight_grams >= :weight"
        " GROUP BY carrier ORDER BY price_cents",
        {"zone": zone, "weight": weight_grams},
    )
    return [{"carrier": row.carrier, "price_cents": row.price_cents} for row in rows]


def quote(
    session: Session, customer: Customer, lines: list[CartLine]
) -> list[dict[str, str | int]]:
    """Rates for all lines of a cart in one parcel."""
    weight = sum(line.quantity * line.product.weight_grams for line in lines)
    return rates_for(session, customer.zone, weight)
