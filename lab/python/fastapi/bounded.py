"""Services that keep memory for a while, or for the duration of a request."""

import gc
import itertools
import math
import threading
import time

from cachetools import LRUCache, TTLCache

from auth import decode
from service import Service, items_of

lock = threading.Lock()  # cachetools' caches are not safe for threads


class Lru(Service):
    container = LRUCache(maxsize=1024)

    def data(self, token: str) -> dict:
        with lock:
            claims = self.container.get(token)
            if claims is None:
                claims = self.container[token] = decode(token)
        return items_of(claims["sub"])


class Ttl(Lru):
    """Expired entries are dropped at the next access."""

    container = TTLCache(maxsize=100_000, ttl=15)


class TtlBatch(Lru):
    container = {}

    def start(self) -> None:
        threading.Thread(target=self.clear_batches, daemon=True).start()

    def clear_batches(self) -> None:
        while True:
            time.sleep(20)
            with lock:
                self.container.clear()


class RequestState(Service):
    """Permissions from another service are large, and freed with the request."""

    def data(self, token: str) -> dict:
        user = decode(token)["sub"]
        permissions = [f"{user}:item:{number}:read" for number in range(200)]
        return {"user": user, "permissions": len(permissions)}


class Pool(Service):
    """Reused buffers."""

    container = []

    def take(self) -> bytearray:
        try:
            return self.container.pop()
        except IndexError:
            return bytearray(16 * 1024)

    def data(self, token: str) -> dict:
        buffer = self.take()
        name = decode(token)["sub"].encode()
        buffer[: len(name)] = name
        data = items_of(buffer[: len(name)].decode())
        self.container.append(buffer)
        return data


class WarmUp(Service):
    """Each of the first requests loads one table, until all are loaded."""

    container = {}

    def load_next(self) -> None:
        number = len(self.container)
        if number < 2000:
            self.container[number] = str(number).encode().ljust(2048, b"t")

    def data(self, token: str) -> dict:
        self.load_next()
        return super().data(token)


class WorkingSet(Service):
    """The delay varies with a period of 20 s, and with it the number in flight."""

    def query(self):
        return bytes(64 * 1024), 0.15 + 0.12 * math.sin(time.time() * math.tau / 20)


class BurstRetention(Service):
    """Every 500th request builds a report of 32 MiB in small pieces, and frees it."""

    served = itertools.count(1)

    def data(self, token: str) -> dict:
        user = decode(token)["sub"]
        rows = 32 * 1024 if next(self.served) % 500 == 0 else 8
        report = [f"row {row} of {user}".rjust(1000) for row in range(rows)]
        return {"user": user, "rows": len(report), "last": report[-1]}


class Element:
    """An element of a document, in cycles that wait for the collector."""

    def __init__(self, document: list, text: str):
        self.document = document
        self.text = text


class GcSawtooth(Service):
    def start(self) -> None:
        """A common setting for throughput: a collection about every 10 s."""
        gc.set_threshold(50_000, 1_000, 1_000)

    def data(self, token: str) -> dict:
        user = decode(token)["sub"]
        document = []
        document.extend(Element(document, f"{user}-{number}" * 40) for number in range(50))
        return {"user": user, "elements": len(document)}
