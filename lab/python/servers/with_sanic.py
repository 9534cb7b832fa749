"""A service of Sanic: python with_sanic.py 8080"""

import sys

from sanic import Sanic, response

import claims

app = Sanic("lab")


def reply(status, answer):
    return response.json(answer, status=status)


@app.get("/api/data")
async def data(request):
    return reply(*claims.data(request.headers.get("Authorization")))


@app.get("/api/profile")
async def profile(request):
    return reply(*claims.profile(request.headers.get("Authorization")))


@app.post("/api/upload")
async def upload(request):
    return reply(*claims.upload(request.body, request.headers.get("Authorization")))


@app.get("/users/<number>")
async def user(request, number):
    return reply(*claims.user(number, request.headers.get("Authorization")))


@app.get("/health")
async def health(request):
    return reply(*claims.health(request.headers.get("Authorization")))


@app.get("/truth")
async def truth(_request):
    return reply(*claims.truth())


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), single_process=True, access_log=False, motd=False)
