"""What the services of this folder do, whatever serves it: check a token, or keep its claims for ever."""

import os

import jwt

SECRET = "heaptide-lab-hs256-secret"  # the load generator signs with it

variant = os.environ.get("VARIANT", "stateless")
claims_cache = {}
requests = {}


def decode(token):
    """The claims of a valid token, else None."""
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], audience="lab")
    except jwt.InvalidTokenError:
        return None


def claims_for(token):
    claims = claims_cache.get(token)
    if claims is None:
        claims = decode(token)
        if claims is not None:
            claims_cache[token] = claims
    return claims


def bearer(authorization):
    scheme, _, token = (authorization or "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def count(route):
    requests[route] = requests.get(route, 0) + 1


def data(authorization):
    count("GET /api/data")
    token = bearer(authorization)
    claims = claims_for(token) if variant == "token-cache" else decode(token)
    if claims is None:
        return 401, {}
    return 200, {"user": claims["sub"], "items": [{"id": number} for number in range(8)]}


def profile(authorization):
    count("GET /api/profile")
    claims = decode(bearer(authorization))
    return (401, {}) if claims is None else (200, {"email": claims["email"]})


def user(number):
    count("GET /users/{id}")
    return 200, {"id": number}


def upload(body):
    count("POST /api/upload")
    return 201, {"bytes": len(body)}


def truth():
    """Counts to compare with."""
    total = sum(requests.values())
    return 200, {"variant": variant, "entries": len(claims_cache), "requests": requests, "total_requests": total}


def respond(method, path, authorization, body):
    """The router of the services without a framework."""
    if path == "/api/data":
        return data(authorization)
    if path == "/api/profile":
        return profile(authorization)
    if path == "/health":
        return 200, "ok"
    if path == "/truth":
        return truth()
    if path.startswith("/users/"):
        return user(path.rpartition("/")[2])
    if (method, path) == ("POST", "/api/upload"):
        return upload(body)
    return 404, {}
