"""Memory that is large for a while, and then freed or reused."""

import gc
import itertools
import math
import time

from flask import g, jsonify

from auth import current_claims
from innocent import items_of

pool = []
served = itertools.count(1)


def load_permissions():
    """A user's permissions from another service: large, and freed with the request."""
    g.claims = current_claims()
    g.permissions = [f"{g.claims['sub']}:item:{number}:read" for number in range(200)]


def get_data_permitted():
    load_permissions()
    return jsonify(user=g.claims["sub"], permissions=len(g.permissions))


def take_buffer():
    try:
        return pool.pop()
    except IndexError:
        return bytearray(16 * 1024)


def get_data_pooled():
    claims = current_claims()
    buffer = take_buffer()
    name = claims["sub"].encode()
    buffer[: len(name)] = name
    data = items_of(buffer[: len(name)].decode())
    pool.append(buffer)
    return jsonify(data)


def slowness():
    """The delay varies with a period of 20 s, and with it the number in flight."""
    return 0.15 + 0.12 * math.sin(time.time() * math.tau / 20)


def get_data_slowly():
    claims = current_claims()
    result = bytes(64 * 1024)
    time.sleep(slowness())
    return jsonify(user=claims["sub"], sum=sum(result[:64]))


def get_data_report():
    """Every 500th request builds a report of 32 MiB in small pieces, and frees it."""
    claims = current_claims()
    rows = 32 * 1024 if next(served) % 500 == 0 else 8
    report = [f"row {row} of {claims['sub']}".rjust(1000) for row in range(rows)]
    return jsonify(user=claims["sub"], rows=len(report), last=report[-1])


class Element:
    """An element of a document, in cycles that wait for the collector."""

    def __init__(self, document, text):
        self.document = document
        self.text = text


def parse_document(user):
    document = []
    document.extend(Element(document, f"{user}-{number}" * 40) for number in range(50))
    return document


def get_data_document():
    claims = current_claims()
    document = parse_document(claims["sub"])
    return jsonify(user=claims["sub"], elements=len(document))


def collect_rarely():
    """A common setting for throughput: a collection about every 10 s."""
    gc.set_threshold(50_000, 1_000, 1_000)
