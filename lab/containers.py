"""Containers whose names and sizes a test knows. Prints "ready", then obeys its standard input."""
import asyncio
import collections
import functools
import gc
import sys
import threading

by_name = {f"key-{n}": {"sub": f"user-{n}", "exp": n} for n in range(1000)}
plain_list = [object() for _ in range(777)]
a_set = set(range(1000, 1555))
a_deque = collections.deque((str(n) for n in range(300)), maxlen=4096)
ordered = collections.OrderedDict((n, str(n)) for n in range(444))
by_default = collections.defaultdict(list)
for n in range(100):
    by_default[f"sub-{n}"].extend(range(n % 7, 20))


class Registry:
    shared = {n: n for n in range(123)}

    def __init__(self):
        self._items = [str(n) for n in range(222)]
        self.nested = Nested()


class Nested:
    __slots__ = ("deep", "also")

    def __init__(self):
        self.also = None
        self.deep = {n: str(n) for n in range(333)}


class Cache(dict):
    def __init__(self):
        super().__init__((n, n) for n in range(88))
        self.hits = [n for n in range(99)]


class Node:
    def __init__(self):
        self.me = self


registry = Registry()
cache = Cache()


@functools.lru_cache(maxsize=1024)
def decode(n):
    return str(n) * 3


@functools.lru_cache(maxsize=None)
def decode_all(n):
    return str(n) * 3


for n in range(200):
    decode(n)
for n in range(150):
    decode_all(n)


def make():
    captured = {n: None for n in range(111)}

    def handler(n, seen=[0] * 66):
        captured[n] = n
        seen.append(n)

    return handler


handler = make()
local = threading.local()


class State:
    """As Starlette's: what is set as an attribute lies in a dictionary."""

    def __init__(self):
        self._state = {}


state = State()
state._state["cleanups"] = [0] * 77
registry.alias = by_name


def worker(started, stop):
    local.claims = [str(n) for n in range(55)]
    inside = {n: n for n in range(144)}
    started.set()
    stop.wait()
    return inside


async def background():
    events = [str(n) for n in range(167)]
    await asyncio.sleep(3600)
    return events


def looping():
    async def run():
        waiting = asyncio.ensure_future(background())
        await waiting

    asyncio.run(run())


def churn(stop):
    """Changes everything all the time, so that reads from outside are torn."""
    n = 0
    while not stop.is_set():
        n += 1
        scratch = {k: [k] for k in range(n % 500)}
        churned[n % 97] = scratch
        moving.extend(range(n % 64))
        if len(moving) > 20000:
            moving.clear()
        if n % 50 == 0:
            gc.collect()


churned = {}
moving = []


def weigh():
    """Bytes of `by_name` and of what only its entries hold."""
    sizeof, head = sys.getsizeof, 16
    total = sizeof(by_name) + head
    for key, value in by_name.items():
        total += sizeof(key) + sizeof(value) + head + sizeof(value["sub"])
        total += sizeof(value["exp"]) if value["exp"] > 256 else 0
    return total


def main():
    started, stop = threading.Event(), threading.Event()
    threading.Thread(target=worker, args=(started, stop), daemon=True).start()
    threading.Thread(target=looping, daemon=True).start()
    started.wait()
    print("ready", flush=True)
    churning = None
    for line in sys.stdin:
        what, *numbers = line.split()
        count = int(numbers[0]) if numbers else 0
        if what == "grow":
            size = len(by_name)
            for n in range(size, size + count):
                by_name[f"key-{n}"] = {"sub": f"user-{n}", "exp": n}
        elif what == "lru":
            for n in range(count):
                decode(n)
        elif what == "cycles":
            gc.disable()
            for _ in range(count):
                Node()
        elif what == "big":
            for n in range(count):
                plain_list.append({"n": n, "text": f"{n}" * 4, "inner": [n, str(n)]})
        elif what == "secret":
            # a credential as key, as value and, worst, as the name of an attribute
            token = "".join(("eyJhbGciOiJIUzI1NiJ9", ".", "c3ViLTQ3MTE", ".", "s" * 43))
            vault[token] = [token] * 50
            setattr(registry, token, [token] * 60)
        elif what == "weigh":
            print("weighs", weigh(), flush=True)
        elif what == "churn":
            stop_churn = threading.Event()
            churning = threading.Thread(target=churn, args=(stop_churn,), daemon=True)
            churning.start()
        elif what == "calm" and churning:
            stop_churn.set()
            churning.join()
            churning = None
        print("done", what, flush=True)


vault = {}

if __name__ == "__main__":
    main()
