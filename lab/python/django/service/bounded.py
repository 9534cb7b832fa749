"""Views that keep memory for a while, or for the duration of a request."""

import gc
import itertools
import math
import threading
import time
from collections import OrderedDict, deque

from django.http import JsonResponse
from django.views.decorators.http import require_GET

from service.authentication import JWTAuthentication, authenticated, bearer, decode
from service.views import items_of


class LruAuthentication(JWTAuthentication):
    """The 1,024 tokens last used."""

    capacity = 1024
    recent = OrderedDict()
    lock = threading.Lock()

    def authenticate(self, request):
        token = bearer(request)
        with self.lock:
            claims = self.recent.get(token)
            if claims is None:
                claims = self.recent[token] = decode(token)
            self.recent.move_to_end(token)
            while len(self.recent) > self.capacity:
                self.recent.popitem(last=False)
        return claims


class TimedAuthentication(JWTAuthentication):
    """Tokens and when they were first seen."""

    seen = {}

    def authenticate(self, request):
        token = bearer(request)
        entry = self.seen.get(token)
        if entry is None:
            entry = self.seen[token] = (time.monotonic(), decode(token))
        return entry[1]

    @classmethod
    def sweep_expired(cls):
        while True:
            time.sleep(1)
            oldest = time.monotonic() - 15
            for token in [token for token, (since, _) in list(cls.seen.items()) if since < oldest]:
                del cls.seen[token]

    @classmethod
    def clear_batches(cls):
        while True:
            time.sleep(20)
            cls.seen.clear()


def start_sweeping():
    threading.Thread(target=TimedAuthentication.sweep_expired, daemon=True).start()


def start_clearing():
    threading.Thread(target=TimedAuthentication.clear_batches, daemon=True).start()


@require_GET
@authenticated(by=LruAuthentication)
def data_lru(request):
    return JsonResponse(items_of(request.claims["sub"]))


@require_GET
@authenticated(by=TimedAuthentication)
def data_timed(request):
    return JsonResponse(items_of(request.claims["sub"]))


@require_GET
@authenticated
def data_permitted(request):
    """Permissions from another service are large, and freed with the request."""
    user = request.claims["sub"]
    request.permissions = [f"{user}:item:{number}:read" for number in range(200)]
    return JsonResponse({"user": user, "permissions": len(request.permissions)})


class BufferPool:
    """Reused buffers."""

    def __init__(self):
        self.free = deque()

    def take(self):
        try:
            return self.free.pop()
        except IndexError:
            return bytearray(16 * 1024)

    def give_back(self, buffer):
        self.free.append(buffer)


buffers = BufferPool()


@require_GET
@authenticated
def data_pooled(request):
    buffer = buffers.take()
    name = request.claims["sub"].encode()
    buffer[: len(name)] = name
    response = items_of(buffer[: len(name)].decode())
    buffers.give_back(buffer)
    return JsonResponse(response)


class TableLoader:
    """Each of the first requests loads one table, until all are loaded."""

    count = 2000

    def __init__(self):
        self.tables = {}

    def load_next(self):
        number = len(self.tables)
        if number < self.count:
            self.tables[number] = str(number).encode().ljust(2048, b"t")


loader = TableLoader()


@require_GET
@authenticated
def data_warm(request):
    loader.load_next()
    return JsonResponse(items_of(request.claims["sub"]))


def slowness():
    """The delay varies with a period of 20 s, and with it the number in flight."""
    return 0.15 + 0.12 * math.sin(time.time() * math.tau / 20)


@require_GET
@authenticated
def data_slowly(request):
    result = bytes(64 * 1024)
    time.sleep(slowness())
    return JsonResponse({"user": request.claims["sub"], "sum": sum(result[:64])})


served = itertools.count(1)


@require_GET
@authenticated
def data_report(request):
    """Every 500th request builds a report of 32 MiB in small pieces, and frees it."""
    user = request.claims["sub"]
    rows = 32 * 1024 if next(served) % 500 == 0 else 8
    report = [f"row {row} of {user}".rjust(1000) for row in range(rows)]
    return JsonResponse({"user": user, "rows": len(report), "last": report[-1]})


class Element:
    """An element of a document, in cycles that wait for the collector."""

    def __init__(self, document, text):
        self.document = document
        self.text = text


@require_GET
@authenticated
def data_document(request):
    user = request.claims["sub"]
    document = []
    document.extend(Element(document, f"{user}-{number}" * 40) for number in range(50))
    return JsonResponse({"user": user, "elements": len(document)})


def collect_rarely():
    """A common setting for throughput: a collection about every 10 s."""
    gc.set_threshold(50_000, 1_000, 1_000)
