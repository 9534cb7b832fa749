"""Services that leak."""

import functools
import json
import mmap
import threading
import time
from collections import deque

from starlette.datastructures import State

import native
from auth import decode
from service import Service, items_of


class TokenVerifier:
    """Decoding is slow, so it is done once per token."""

    def __init__(self):
        self._verified = {}

    def verify(self, token: str) -> dict:
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verified[token] = decode(token)
        return claims


verifier = TokenVerifier()


class TokenCache(Service):
    container = verifier._verified

    def data(self, token: str) -> dict:
        return items_of(verifier.verify(token)["sub"])


def make_directory():
    """The first claims of each subject."""
    profiles = {}

    def remember(claims: dict) -> None:
        if claims["sub"] not in profiles:
            profiles[claims["sub"]] = claims

    return remember


class SubjectCache(Service):
    _remember = staticmethod(make_directory())

    @property
    def container(self) -> dict:
        return self._remember.__closure__[0].cell_contents

    def data(self, token: str) -> dict:
        claims = decode(token)
        SubjectCache._remember(claims)
        return items_of(claims["sub"])


previews = []


def remember_preview(body: bytes) -> None:
    """The first bytes of each upload; the view keeps the whole body alive."""
    previews.append(memoryview(body)[:16])


class BodyRetained(Service):
    container = previews

    def upload(self, body: bytes) -> dict:
        remember_preview(body)
        return super().upload(body)


state = State()  # the application's, app.state
state.cleanups = []


def audit(claims: dict, data: dict) -> str:
    return json.dumps({"user": claims["sub"], "items": len(data["items"])})


def register_cleanup(claims: dict, data: dict) -> None:
    """Registered for the end of the process instead of the request."""
    state.cleanups.append(functools.partial(audit, claims, data=data))


class ContextRegistry(Service):
    @property
    def container(self) -> list:
        return state.cleanups

    def data(self, token: str) -> dict:
        claims = decode(token)
        data = items_of(claims["sub"])
        register_cleanup(claims, data)
        return data


class NativeNames(Service):
    """A C library keeps the name of each token."""

    def data(self, token: str) -> dict:
        claims = decode(token)
        native.intern_name(claims["jti"])
        return items_of(claims["sub"])


samples = deque()


def take_sample() -> None:
    samples.append(b"s" * 2048 + str(time.time()).encode())


def collect_samples() -> None:
    """Collects samples for a sender that does not exist."""
    while True:
        time.sleep(0.01)
        take_sample()


class Background(Service):
    container = samples

    def start(self) -> None:
        threading.Thread(target=collect_samples, daemon=True).start()


SIZES = {"data": 1_001, "profile": 2_003, "upload": 3_001, "user": 5_003}
blocks = []


def keep_block(route: str) -> None:
    blocks.append(bytearray(SIZES[route]))
    touch_fresh_pages()


def touch_fresh_pages() -> None:
    """Each of them causes a page fault, which identifies the code."""
    with mmap.mmap(-1, 4 * mmap.PAGESIZE) as pages:
        for at in range(0, len(pages), mmap.PAGESIZE):
            pages[at] = 1


class Attribution(Service):
    """Every route keeps one block per request, of a size that no other route uses: kept bytes per route
    are exactly known, so that attribution can be right or wrong block by block."""

    container = blocks

    def query(self):
        return None, 0.002

    def data(self, token: str) -> dict:
        keep_block("data")
        return super().data(token)

    def profile(self, token: str) -> dict:
        keep_block("profile")
        return super().profile(token)

    def upload(self, body: bytes) -> dict:
        keep_block("upload")
        return super().upload(body)

    def user(self, user_id: int) -> dict:
        keep_block("user")
        return super().user(user_id)
