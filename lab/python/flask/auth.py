"""Bearer tokens: JWTs signed with HS256, checked on each request."""

import jwt
from flask import abort, request

SECRET = "heaptide-lab-hs256-secret"  # the load generator signs with it


def bearer():
    """The token of this request."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        abort(401)
    return token


def decode(token):
    """Checks a token and returns its claims."""
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], audience="lab")
    except jwt.InvalidTokenError:
        abort(401)


def current_claims():
    return decode(bearer())
