"""A service of aiohttp: python with_aiohttp.py 8080"""

import sys

from aiohttp import web

import claims


def reply(status, answer):
    return web.json_response(answer, status=status)


async def data(request):
    return reply(*claims.data(request.headers.get("Authorization")))


async def profile(request):
    return reply(*claims.profile(request.headers.get("Authorization")))


async def upload(request):
    return reply(*claims.upload(await request.read(), request.headers.get("Authorization")))


async def user(request):
    return reply(*claims.user(request.match_info["number"], request.headers.get("Authorization")))


async def health(request):
    return reply(*claims.health(request.headers.get("Authorization")))


async def truth(_request):
    return reply(*claims.truth())


app = web.Application()
app.add_routes(
    [
        web.get("/api/data", data),
        web.get("/api/profile", profile),
        web.post("/api/upload", upload),
        web.get("/users/{number}", user),
        web.get("/health", health),
        web.get("/truth", truth),
    ]
)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
