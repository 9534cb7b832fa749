"""Growth without requests, and growth that ends."""

import threading
import time

from flask import jsonify

from auth import current_claims
from innocent import items_of

TABLES = 2000

samples = []
tables = {}


def take_sample():
    samples.append(b"s" * 2048 + str(time.time()).encode())


def collect_samples():
    """Collects samples for a sender that does not exist."""
    while True:
        time.sleep(0.01)
        take_sample()


def start_collecting():
    threading.Thread(target=collect_samples, daemon=True).start()


def load_next_table():
    """Each of the first requests loads one table, until all are loaded."""
    number = len(tables)
    if number < TABLES:
        tables[number] = str(number).encode().ljust(2048, b"t")


def get_data_warm():
    claims = current_claims()
    load_next_table()
    return jsonify(items_of(claims["sub"]))
