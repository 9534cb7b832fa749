"""A FastAPI service whose variants leak or not in known ways; see lab/services.toml.

    VARIANT=token-cache ENDPOINTS=async uvicorn --app-dir fastapi app:app

ENDPOINTS says whether the endpoints are `async def`, or `def`, which run in worker threads.
"""

import asyncio
import contextlib
import os
import time
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse

import books
import bounded
import leaking
from auth import Token
from service import Service

VARIANTS = {
    "stateless": Service,
    "token-cache": leaking.TokenCache,
    "big-claims": leaking.TokenCache,
    "subject-cache": leaking.SubjectCache,
    "body-retained": leaking.BodyRetained,
    "context-registry": leaking.ContextRegistry,
    "native-names": leaking.NativeNames,
    "background": leaking.Background,
    "attribution": leaking.Attribution,
    "lru-1024": bounded.Lru,
    "ttl": bounded.Ttl,
    "ttl-batch": bounded.TtlBatch,
    "request-state": bounded.RequestState,
    "pool": bounded.Pool,
    "warm-up": bounded.WarmUp,
    "working-set": bounded.WorkingSet,
    "burst-retention": bounded.BurstRetention,
    "gc-sawtooth": bounded.GcSawtooth,
}

name = os.environ.get("VARIANT", "stateless")
service = VARIANTS[name]()


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    service.start()
    yield


app = FastAPI(lifespan=lifespan, openapi_url=None)
app.state = leaking.state


async def read_body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(read_body)]

# In the order of books.ROUTES; the last with any id.
PATHS = {"/api/data": 0, "/api/profile": 1, "/api/upload": 2, "/health": 3}


class CountRequests:
    """Counts before and publishes after each request; plain ASGI, to avoid an additional task."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            path = scope["path"]
            route = PATHS.get(path, 4 if path.startswith("/users/") else None)
            if route is not None:
                headers = dict(scope["headers"])
                books.count(route, headers.get(b"authorization", b"").decode())
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            books.publish(books.size_of(service.container))


app.add_middleware(CountRequests)

if os.environ.get("ENDPOINTS", "async") == "async":

    async def query_database():
        _held, seconds = service.query()
        if seconds:
            await asyncio.sleep(seconds)

    @app.get("/api/data")
    async def get_data(token: Token):
        await query_database()
        return service.data(token)

    @app.get("/api/profile")
    async def get_profile(token: Token):
        await query_database()
        return service.profile(token)

    @app.post("/api/upload", status_code=201)
    async def post_upload(body: Body):
        await query_database()
        return service.upload(body)

    @app.get("/users/{user_id}")
    async def get_user(user_id: int):
        await query_database()
        return service.user(user_id)

else:

    def query_database():
        _held, seconds = service.query()
        if seconds:
            time.sleep(seconds)

    @app.get("/api/data")
    def get_data(token: Token):
        query_database()
        return service.data(token)

    @app.get("/api/profile")
    def get_profile(token: Token):
        query_database()
        return service.profile(token)

    @app.post("/api/upload", status_code=201)
    def post_upload(body: Body):
        query_database()
        return service.upload(body)

    @app.get("/users/{user_id}")
    def get_user(user_id: int):
        query_database()
        return service.user(user_id)


@app.get("/health", response_class=PlainTextResponse)
async def health():
    return "ok"


@app.get("/truth")
async def truth():
    by_route = None
    if name == "attribution":
        counts = {size: 0 for size in leaking.SIZES.values()}
        for block in leaking.blocks:
            counts[len(block)] += 1
        routes = ("GET /api/data", "GET /api/profile", "POST /api/upload", "GET /users/{id}")
        by_route = {
            route: {"block_bytes": size, "count": counts[size], "bytes": size * counts[size]}
            for route, size in zip(routes, leaking.SIZES.values())
        }
    return books.truth(name, service.container, by_route)
