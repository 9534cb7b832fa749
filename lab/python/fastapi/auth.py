"""Bearer tokens: JWTs signed with HS256, as FastAPI's dependencies."""

from typing import Annotated

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

SECRET = "heaptide-lab-hs256-secret"  # the load generator signs with it

scheme = HTTPBearer(auto_error=False)


def bearer(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> str:
    """The token of a request."""
    if credentials is None:
        raise HTTPException(401)
    return credentials.credentials


def decode(token: str) -> dict:
    """Checks a token and returns its claims."""
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], audience="lab")
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error


Token = Annotated[str, Depends(bearer)]
