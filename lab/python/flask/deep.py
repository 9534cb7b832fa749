"""Leaks whose container is small: objects that refer to others, and memory that a C library allocates."""

from flask import jsonify

import native
from auth import current_claims
from innocent import items_of

sessions = {}
counters = {}


class Cart:
    """The items of a session, each with its own prices."""

    def __init__(self, data):
        self.rows = [{"item": dict(item), "prices": [item["id"] * day for day in range(1, 15)]} for item in data["items"]]


class Session:
    """What is known of a visitor."""

    def __init__(self, claims, data):
        self.claims = claims
        self.cart = Cart(data)
        self.history = [("view", row["item"]["id"], {"at": number}) for number, row in enumerate(self.cart.rows)]


def open_session(claims, data):
    if claims["jti"] not in sessions:
        sessions[claims["jti"]] = Session(claims, data)


def get_data_of_session():
    claims = current_claims()
    data = items_of(claims["sub"])
    open_session(claims, data)
    return jsonify(data)


def count_call(claims):
    """A rate limiter by token that never forgets one."""
    counters[hash(claims["jti"])] = counters.get(hash(claims["jti"]), 0) + 1


def get_data_limited():
    claims = current_claims()
    count_call(claims)
    return jsonify(items_of(claims["sub"]))


def get_data_copied():
    data = items_of(current_claims()["sub"])
    native.copy_headers(data)
    return jsonify(data)


def get_data_named():
    claims = current_claims()
    native.intern_name(claims["jti"])
    return jsonify(items_of(claims["sub"]))


def get_data_checked():
    claims = current_claims()
    native.check_once("user-([0-9]+|guest)", claims["sub"])
    return jsonify(items_of(claims["sub"]))


def get_data_checked_fast():
    claims = current_claims()
    native.check_cached(claims["jti"][:8] + "|user-[0-9]+", claims["sub"])
    return jsonify(items_of(claims["sub"]))
