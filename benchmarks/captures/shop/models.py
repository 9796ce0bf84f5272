"""Tables of the shop, and the session every request opens.

Written so that SQLAlchemy 1.4 and 2.0 both map it: a project on its way from one to the other.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    String,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.orm import declarative_base, relationship, sessionmaker

if TYPE_CHECKING:
    import sqlite3

Base = declarative_base()
Session = sessionmaker()

PRODUCTS = 500
CUSTOMERS = 600
LAST_ITEMS_EVERY = 100
NOUNS = ["lamp", "kettle", "chair", "desk", "shelf", "mug", "rug", "clock", "vase", "bowl"]
ADJECTIVES = ["oak", "steel", "linen", "blue", "green", "round", "tall", "small", "heavy", "plain"]


class Product(Base):
    """Something for sale."""

    __tablename__ = "products"
    sku = Column(String, primary_key=True)
    name = Column(String, nullable=False)
    category = Column(String, nullable=False, index=True)
    price_cents = Column(Integer, nullable=False)
    weight_grams = Column(Integer, nullable=False)
    stock = Column(Integer, nullable=False)
    rating = Column(Integer, nullable=False)


class Customer(Base):
    """Somebody who shops."""

    __tablename__ = "customers"
    id = Column(Integer, primary_key=True)
    email = Column(String, nullable=False, unique=True)
    zone = Column(String, nullable=False)


class CartLine(Base):
    """One product in one customer's cart."""

    __tablename__ = "cart_lines"
    customer_id = Column(Integer, ForeignKey("customers.id"), primary_key=True)
    sku = Column(String, ForeignKey("products.sku"), primary_key=True)
    quantity = Column(Integer, nullable=False)
    product = relationship(Product, lazy="joined")


class Order(Base):
    """A paid cart."""

    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer, ForeignKey("customers.id"), nullable=False, index=True)
    idempotency_key = Column(String, nullable=False, unique=True)
    total_cents = Column(Integer, nullable=False)


class ShippingRate(Base):
    """What a carrier asks for a parcel up to a weight."""

    __tablename__ = "shipping_rates"
    id = Column(Integer, primary_key=True)
    zone = Column(String, nullable=False)
    carrier = Column(String, nullable=False)
    max_weight_grams = Column(Integer, nullable=False)
    price_cents = Column(Integer, nullable=False)


class Review(Base):
    """A customer's word on a product: one each."""

    __tablename__ = "reviews"
    __table_args__ = (UniqueConstraint("customer_id", "sku"),)
    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer, ForeignKey("customers.id"), nullable=False)
    sku = Column(String, ForeignKey("products.sku"), nullable=False)
    stars = Column(Integer, nullable=False)


def connect(path: str) -> None:
    """Point every `Session` of this process at the database file."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA busy_timeout = 5000")

    Session.configure(bind=engine)


def sku_of(number: int) -> str:
    """The stock-keeping unit of the product with this number, counted from 0."""
    return f"SKU-{number:05d}"


def create(path: str) -> None:
    """Make the tables and fill them."""
    connect(path)
    source = random.Random(7)
    with Session() as session:
        Base.metadata.create_all(session.get_bind())
        session.add_all(
            Product(
                sku=sku_of(number),
                name=f"{source.choice(ADJECTIVES)} {noun}",
                category=noun,
                price_cents=source.randrange(500, 30_000, 5),
                weight_grams=source.randrange(100, 4_000, 50),
                stock=2 if number % LAST_ITEMS_EVERY == LAST_ITEMS_EVERY - 1 else 1_000_000,
                rating=source.randint(1, 5),
            )
            for number in range(PRODUCTS)
            for noun in [NOUNS[number % len(NOUNS)]]
        )
        session.add_all(
            Customer(
                id=number,
                email=f"customer{number}@example.com",
                zone=source.choice(["domestic", "europe", "overseas"]),
            )
            for number in range(1, CUSTOMERS + 1)
        )
        session.add_all(
            ShippingRate(
                zone=zone, carrier=carrier, max_weight_grams=weight, price_cents=base + weight // 20
            )
            for zone, base in [("domestic", 400), ("europe", 900), ("overseas", 2_100)]
            for carrier in ["post", "courier"]
            for weight in [1_000, 5_000, 20_000, 1_000_000]
        )
        session.commit()


if __name__ == "__main__":
    create(sys.argv[1])
