"""What the services of this folder do, whatever serves it: check a token, keep its claims for ever, or the newest."""

import os
from collections import OrderedDict

import jwt

import books

SECRET = "heaptide-lab-hs256-secret"  # the load generator signs with it
NEWEST = 5000

variant = os.environ.get("VARIANT", "stateless")
claims_cache = {}
newest_claims = OrderedDict()


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


def newest_claims_for(token):
    if token in newest_claims:
        newest_claims.move_to_end(token)
        return newest_claims[token]
    claims = decode(token)
    if claims is not None:
        newest_claims[token] = claims
        while len(newest_claims) > NEWEST:
            newest_claims.popitem(last=False)
    return claims


def fill():
    """Entries as large as those of the load generator: the cache is as full as after hours."""
    for number in range(NEWEST):
        user = f"user-{90_000_000 + number}"
        claims = {"sub": user, "aud": "lab", "jti": f"{number:036x}", "email": f"{user}@lab.example", "roles": ["reader"]}
        newest_claims["eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9." + "c" * 350 + f".{number:043}"] = claims


checks = {"stateless": decode, "token-cache": claims_for, "lru-5000-full": newest_claims_for}
check = checks[variant]
if check is newest_claims_for:
    fill()


def bearer(authorization):
    scheme, _, token = (authorization or "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def count(route, authorization):
    books.count(books.ROUTES.index(route), authorization)
    books.publish(len(claims_cache))


def data(authorization):
    claims = check(bearer(authorization))
    count("GET /api/data", authorization)
    if claims is None:
        return 401, {}
    return 200, {"user": claims["sub"], "items": [{"id": number} for number in range(8)]}


def profile(authorization):
    count("GET /api/profile", authorization)
    claims = decode(bearer(authorization))
    return (401, {}) if claims is None else (200, {"email": claims["email"]})


def user(number, authorization):
    count("GET /users/{id}", authorization)
    return 200, {"id": number}


def upload(body, authorization):
    count("POST /api/upload", authorization)
    return 201, {"bytes": len(body)}


def health(authorization):
    count("GET /health", authorization)
    return 200, "ok"


def truth():
    """Counts to compare with."""
    return 200, books.truth(variant, claims_cache)


def respond(method, path, authorization, body):
    """The router of the services without a framework."""
    if path == "/api/data":
        return data(authorization)
    if path == "/api/profile":
        return profile(authorization)
    if path == "/health":
        return health(authorization)
    if path == "/truth":
        return truth()
    if path.startswith("/users/"):
        return user(path.rpartition("/")[2], authorization)
    if (method, path) == ("POST", "/api/upload"):
        return upload(body, authorization)
    return 404, {}
