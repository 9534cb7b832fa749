"""The truth for comparison with heaptide: the counts behind GET /truth.

They must not grow while the service is observed, and must be whole when workers share the work. So
they lie in one anonymous shared mapping, a page-touched slot per worker, made before the workers are
forked (gunicorn.conf.py imports this module in the master).
"""

import itertools
import mmap
import sys
import threading

ROUTES = (
    "GET /api/data",
    "GET /api/profile",
    "POST /api/upload",
    "GET /health",
    "GET /users/{id}",
)

SLOTS = 8
COUNTERS = 4096  # bytes: a page of 64-bit counters, then the bits
ENTRIES = len(ROUTES)  # the counter after the routes'
TOKEN_BITS = 1 << 22  # a bit per token: at 4,000 tokens 2 are taken for seen before
SLOT = COUNTERS + TOKEN_BITS // 8
SAMPLE = 200

_mapping = mmap.mmap(-1, SLOTS * SLOT)
_lock = threading.Lock()
_slot = 0
_counters = None
_bits = None


def open_slot(number):
    """Takes the slot and touches its pages, so that later writes are not page faults."""
    global _slot, _counters, _bits, _lock
    _slot = number % SLOTS
    _lock = threading.Lock()
    start = _slot * SLOT
    _mapping[start : start + SLOT] = bytes(SLOT)
    view = memoryview(_mapping)[start : start + SLOT]
    _counters = view[:COUNTERS].cast("Q")
    _bits = view[COUNTERS:]


def count(route, authorization):
    """Counts a request of ROUTES[route] and its token."""
    with _lock:
        _counters[route] += 1
        if authorization and authorization.startswith("Bearer "):
            place = hash(authorization) % TOKEN_BITS
            _bits[place >> 3] |= 1 << (place & 7)


def publish(entries):
    """Publishes the number of entries of this worker's container."""
    _counters[ENTRIES] = entries


def truth(variant, container, by_route=None):
    """The response of GET /truth; `container` is the variant's container, or None."""
    publish(size_of(container))
    counters = [0] * (ENTRIES + 1)
    tokens = 0
    for slot in range(SLOTS):
        start = slot * SLOT
        words = memoryview(_mapping)[start : start + COUNTERS].cast("Q")
        for place in range(ENTRIES + 1):
            counters[place] += words[place]
        tokens |= int.from_bytes(_mapping[start + COUNTERS : start + SLOT], "little")
    requests = {name: served for name, served in zip(ROUTES, counters) if served}
    entry_bytes = bytes_of_entries(container, counters[ENTRIES])
    table_bytes = sys.getsizeof(container) if container is not None else 0
    answer = {
        "variant": variant,
        "entries": counters[ENTRIES],
        "entry_bytes": entry_bytes,
        "table_bytes": table_bytes,
        "kept_bytes": None if entry_bytes is None else entry_bytes + table_bytes,
        "distinct_tokens": bin(tokens).count("1"),
        "requests": requests,
        "total_requests": sum(counters[:ENTRIES]),
    }
    if by_route is not None:
        answer["by_route"] = by_route
    return answer


def size_of(container):
    """Entries of a container, of functools.lru_cache too."""
    if container is None:
        return 0
    if hasattr(container, "cache_info"):
        return container.cache_info().currsize
    return len(container)


def bytes_of_entries(container, entries):
    """Bytes of so many entries, estimated from a sample; None if they are opaque."""
    if container is None or entries == 0:
        return 0
    if hasattr(container, "cache_info"):
        return None
    seen = set()
    if hasattr(container, "items"):
        # Atomically: other threads may add entries.
        sample = list(itertools.islice(container.items(), SAMPLE))
        size = sum(deep(key, seen) + deep(value, seen) for key, value in sample)
    else:
        sample = list(itertools.islice(container, SAMPLE))
        size = sum(deep(entry, seen) for entry in sample)
    return round(size / max(len(sample), 1) * entries)


def deep(value, seen):
    """Bytes of a value and of objects that only it keeps; objects seen before are shared."""
    if value is None or isinstance(value, (type, bool)) or id(value) in seen:
        return 0
    seen.add(id(value))
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        size += sum(deep(key, seen) + deep(item, seen) for key, item in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        size += sum(deep(item, seen) for item in value)
    elif isinstance(value, memoryview):
        size += deep(value.obj, seen)
    elif getattr(value, "__closure__", None):
        size += sum(sys.getsizeof(cell) + deep(cell.cell_contents, seen) for cell in value.__closure__)
    elif hasattr(value, "func") and hasattr(value, "args"):
        size += deep(value.args, seen) + deep(value.keywords, seen)
    elif hasattr(value, "__dict__") and not callable(value):
        size += deep(vars(value), seen)
    return size


open_slot(0)
