"""A service of Starlette: uvicorn with_starlette:app"""

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import claims


def reply(status, answer):
    return JSONResponse(answer, status_code=status)


async def data(request):
    return reply(*claims.data(request.headers.get("authorization")))


async def profile(request):
    return reply(*claims.profile(request.headers.get("authorization")))


async def upload(request):
    return reply(*claims.upload(await request.body(), request.headers.get("authorization")))


async def user(request):
    return reply(*claims.user(request.path_params["number"], request.headers.get("authorization")))


async def health(request):
    return reply(*claims.health(request.headers.get("authorization")))


async def truth(_request):
    return reply(*claims.truth())


app = Starlette(
    routes=[
        Route("/api/data", data),
        Route("/api/profile", profile),
        Route("/api/upload", upload, methods=["POST"]),
        Route("/users/{number:int}", user),
        Route("/health", health),
        Route("/truth", truth),
    ]
)
