"""Caches that are as full at the start as they are after hours."""

import json
import threading
import time
from collections import OrderedDict

from flask import jsonify

from auth import bearer, decode
from innocent import items_of

MINUTES = 300.0

first = OrderedDict()
second = OrderedDict()
timed = OrderedDict()


def entry_of(number):
    """The claims of an earlier token, as large as those of the load generator."""
    user = f"user-{90_000_000 + number}"
    return json.loads(
        json.dumps(
            {
                "sub": user,
                "iss": "https://identity.lab.example",
                "aud": "lab",
                "jti": f"00000000-{number:012x}",
                "email": f"{user}@lab.example",
                "scope": "openid profile email data:read data:write",
                "roles": ["reader", "writer", "auditor"],
                "iat": 1_700_000_000,
                "exp": 1_700_086_400,
            }
        )
    )


def token_of(number):
    return "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9." + "c" * 350 + f".{number:043}"


def put(cache, most, token, value):
    cache[token] = value
    while len(cache) > most:
        cache.popitem(last=False)


def cached(cache, most, token, make):
    """Least recently used entries are evicted."""
    if token in cache:
        cache.move_to_end(token)
        return cache[token]
    value = make(token)
    put(cache, most, token, value)
    return value


def get_data_lru():
    claims = cached(first, 5000, bearer(), decode)
    return jsonify(items_of(claims["sub"]))


def get_data_two():
    token = bearer()
    claims = cached(first, 2000, token, decode)
    data = cached(second, 3000, token, lambda _: items_of(claims["sub"]))
    return jsonify(data)


def get_data_timed():
    now = time.monotonic()
    while timed and next(iter(timed.values()))[0] < now - MINUTES:
        timed.popitem(last=False)
    token = bearer()
    if token not in timed:
        timed[token] = (now, decode(token))
    return jsonify(items_of(timed[token][1]["sub"]))


def fill_lru():
    for number in range(5000):
        put(first, 5000, token_of(number), entry_of(number))


def fill_two():
    for number in range(3000):
        put(first, 2000, token_of(number), entry_of(number))
        put(second, 3000, token_of(number), items_of(f"user-{90_000_000 + number}"))


def fill_timed():
    now = time.monotonic()
    # 43.5 new tokens per second, as the load generator sends by default.
    for number in range(13_050):
        timed[token_of(number)] = (now - MINUTES + number * 0.023, entry_of(number))
