"""Caches that evict: by use, by age, and all at once."""

import threading
import time
from functools import lru_cache

from flask import jsonify

from auth import bearer, decode
from innocent import items_of

TIME_TO_LIVE = 15.0
BATCH = 20.0

timed = {}


@lru_cache(maxsize=1024)
def lru_claims_for(token):
    return decode(token)


def get_data_lru():
    claims = lru_claims_for(bearer())
    return jsonify(items_of(claims["sub"]))


def timed_claims_for(token):
    entry = timed.get(token)
    if entry is None:
        entry = timed[token] = (time.monotonic(), decode(token))
    return entry[1]


def get_data_timed():
    claims = timed_claims_for(bearer())
    return jsonify(items_of(claims["sub"]))


def sweep_expired():
    while True:
        time.sleep(1)
        oldest = time.monotonic() - TIME_TO_LIVE
        for token in [token for token, (since, _) in list(timed.items()) if since < oldest]:
            del timed[token]


def clear_batches():
    while True:
        time.sleep(BATCH)
        timed.clear()


def start_sweeping():
    threading.Thread(target=sweep_expired, daemon=True).start()


def start_clearing():
    threading.Thread(target=clear_batches, daemon=True).start()
