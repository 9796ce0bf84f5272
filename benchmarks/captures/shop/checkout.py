"""The checkout service: carts, shipping quotes, orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
from flask import Flask, jsonify, request
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from shop import shipping, thirdparty, web
from shop.models import CartLine, Customer, Order, Product, Session

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from sqlalchemy import orm

MAX_QUANTITY = 20

app = Flask(__name__)
web.install(app)
log = app.logger


def _lines(session: orm.Session, customer_id: int) -> list[CartLine]:
    found = session.execute(select(CartLine).where(CartLine.customer_id == customer_id))
    return found.scalars().all()


@app.get("/cart")
def show_cart() -> ResponseReturnValue:
    """The lines of the customer's cart and their sum."""
    with Session() as session:
        lines = _lines(session, web.customer_id())
        total = sum(line.quantity * line.product.price_cents for line in lines)
        return jsonify(
            lines=[{"sku": line.sku, "quantity": line.quantity} for line in lines],
            total_cents=total,
        )


@app.post("/cart/lines")
def add_line() -> ResponseReturnValue:
    """Put a product into the cart, or change its quantity."""
    sku, quantity = request.json["sku"], request.json["quantity"]
    if not isinstance(quantity, int) or not 1 <= quantity <= MAX_QUANTITY:
        log.warning("cart line rejected: %r is no quantity for %s", quantity, sku)
        return jsonify(error="quantity"), 400
    with Session() as session:
        if session.get(Product, sku) is None:
            return jsonify(error="sku"), 404
        session.merge(CartLine(customer_id=web.customer_id(), sku=sku, quantity=quantity))
        session.commit()
    return jsonify(sku=sku, quantity=quantity)


@app.delete("/cart/lines/<sku>")
def remove_line(sku: str) -> ResponseReturnValue:
    """Take a product out of the cart."""
    with Session() as session:
        line = session.get(CartLine, (web.customer_id(), sku))
        if line is not None:
            session.delete(line)
            session.commit()
    return "", 204


@app.get("/cart/shipping")
def show_shipping() -> ResponseReturnValue:
    """What sending the cart would cost."""
    with Session() as session:
        customer = session.get(Customer, web.customer_id())
        return jsonify(rates=shipping.quote(session, customer, _lines(session, customer.id)))


@app.post("/orders")
def place_order() -> ResponseReturnValue:
    """Pay for the cart and empty it. The same idempotency key gives the same order."""
    key = request.json["idempotency_key"]
    with Session() as session:
        known = session.execute(select(Order).where(Order.idempotency_key == key)).scalar()
        if known is not None:
            return jsonify(order=known.id)
        lines = _lines(session, web.customer_id())
        if not lines:
            return jsonify(error="cart is empty"), 400
        for line in lines:
            if line.product.stock < line.quantity:
                log.error(
                    "stock of %s is %d, order %s wants %d",
                    *(line.sku, line.product.stock, key, line.quantity),
                )
                session.delete(line)
                session.commit()
                return jsonify(error="stock", sku=line.sku), 409
        total = sum(line.quantity * line.product.price_cents for line in lines)
        try:
            thirdparty.charge(web.customer_id(), total)
        except requests.RequestException:
            log.exception("payment of order %s failed", key)
            return jsonify(error="payment"), 502
        order = Order(customer_id=web.customer_id(), idempotency_key=key, total_cents=total)
        session.add(order)
        for line in lines:
            line.product.stock -= line.quantity
            session.delete(line)
        try:
            session.commit()
        except IntegrityError:
            log.exception("order %s was placed twice", key)
            return jsonify(error="placed twice"), 409
        log.info("order %s placed: %d lines, %d cents", key, len(lines), total)
        return jsonify(order=order.id), 201


@app.get("/orders")
def list_orders() -> ResponseReturnValue:
    """The customer's last orders."""
    with Session() as session:
        orders = session.execute(
            select(Order)
            .where(Order.customer_id == web.customer_id())
            .order_by(Order.id.desc())
            .limit(10)
        ).scalars()
        return jsonify(orders=[{"id": order.id, "cents": order.total_cents} for order in orders])


@app.put("/profile/email")
def change_email() -> ResponseReturnValue:
    """Give the customer another e-mail address."""
    email = request.json["email"]
    with Session() as session:
        session.get(Customer, web.customer_id()).email = email
        try:
            session.commit()
        except IntegrityError:
            log.exception("e-mail address %s is taken", email)
            return jsonify(error="taken"), 409
    return jsonify(email=email)
