"""Bearer tokens: JWTs signed with HS256, checked by the decorator `authenticated`."""

import functools

import jwt
from django.conf import settings
from django.http import JsonResponse


class AuthenticationFailed(Exception):
    """There is no token, or it is invalid."""


def bearer(request):
    """The token of a request."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationFailed
    return token


def decode(token):
    """Checks a token and returns its claims."""
    try:
        return jwt.decode(token, settings.SECRET_KEY, algorithms=["HS256"], audience="lab")
    except jwt.InvalidTokenError as error:
        raise AuthenticationFailed from error


class JWTAuthentication:
    """Checks each request's token."""

    def authenticate(self, request):
        return decode(bearer(request))


class CachedJWTAuthentication(JWTAuthentication):
    """Checks each token once. The cache is in the class, because an instance lives for one request."""

    claims_by_token = {}

    def authenticate(self, request):
        token = bearer(request)
        claims = self.claims_by_token.get(token)
        if claims is None:
            claims = self.claims_by_token[token] = decode(token)
        return claims


def authenticated(view=None, *, by=JWTAuthentication):
    """A view that is called with the claims of the request, or answers 401."""
    if view is None:
        return functools.partial(authenticated, by=by)

    @functools.wraps(view)
    def wrapper(request, *args, **kwargs):
        try:
            request.claims = by().authenticate(request)
        except AuthenticationFailed:
            return JsonResponse({"detail": "not authenticated"}, status=401)
        return view(request, *args, **kwargs)

    return wrapper
