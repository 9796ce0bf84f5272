"""The catalog service: search, product pages, recommendations, reviews."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
from flask import Flask, jsonify, request
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from shop import thirdparty, web
from shop.models import Product, Review, Session

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from sqlalchemy import orm

PAGE_SIZE = 20
MAX_STARS = 5

app = Flask(__name__)
web.install(app)
log = app.logger


def _as_json(product: Product) -> dict[str, str | int]:
    return {"sku": product.sku, "name": product.name, "cents": product.price_cents}


def bestsellers(session: orm.Session) -> list[str]:
    """What is shown where nothing better is known."""
    query = select(Product.sku).order_by(Product.rating.desc(), Product.sku).limit(5)
    return list(session.execute(query).scalars())


@app.get("/categories")
def list_categories() -> ResponseReturnValue:
    """Categories and how many products each has."""
    with Session() as session:
        rows = session.execute(select(Product.category, func.count()).group_by(Product.category))
        return jsonify(categories=dict(row for row in rows))


@app.get("/products")
def search() -> ResponseReturnValue:
    """Products whose name has the words of `q`."""
    words = request.args.get("q", "").split()
    query = select(Product)
    for word in words:
        query = query.where(Product.name.contains(word))
    with Session() as session:
        found = session.execute(query.order_by(Product.sku).limit(PAGE_SIZE)).scalars().all()
        if not found:
            log.info("search for %r found nothing", " ".join(words))
        return jsonify(products=[_as_json(product) for product in found])


@app.get("/products/<sku>")
def show_product(sku: str) -> ResponseReturnValue:
    """One product, with the price that others ask."""
    with Session() as session:
        product = session.get(Product, sku)
        if product is None:
            log.info("no product %s", sku)
            return jsonify(error="sku"), 404
        try:
            market = thirdparty.market_price(sku)
        except requests.RequestException:
            log.exception("price feed failed for %s", sku)
            market = None
        else:
            if market is None:
                log.error("price feed has no entry for %s, list price %d", sku, product.price_cents)
        return jsonify(_as_json(product) | {"market_cents": market})


@app.get("/products/<sku>/recommendations")
def show_recommendations(sku: str) -> ResponseReturnValue:
    """What sells with this product."""
    try:
        skus = thirdparty.recommendations(sku)
    except requests.RequestException:
        log.exception("recommendations for %s unavailable", sku)
        with Session() as session:
            skus = bestsellers(session)
    return jsonify(skus=skus)


@app.post("/products/<sku>/reviews")
def add_review(sku: str) -> ResponseReturnValue:
    """One customer's stars for one product."""
    stars = request.json["stars"]
    if not isinstance(stars, int) or not 1 <= stars <= MAX_STARS:
        log.warning("review of %s rejected: %r stars", sku, stars)
        return jsonify(error="stars"), 400
    with Session() as session:
        session.add(Review(customer_id=web.customer_id(), sku=sku, stars=stars))
        try:
            session.commit()
        except IntegrityError:
            log.exception("customer %s reviewed %s twice", web.customer_id(), sku)
            return jsonify(error="reviewed"), 409
    return jsonify(sku=sku, stars=stars), 201
