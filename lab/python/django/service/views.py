"""The routes without leaks."""

import zlib

from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from service.authentication import authenticated


def items_of(user):
    """The database's items of a user."""
    return {
        "user": user,
        "items": [{"id": number, "name": f"item {number} of {user}"} for number in range(1, 9)],
    }


@require_GET
@authenticated
def data(request):
    return JsonResponse(items_of(request.claims["sub"]))


@require_GET
@authenticated
def profile(request):
    claims = request.claims
    return JsonResponse({"sub": claims["sub"], "email": claims["email"], "roles": claims["roles"]})


@require_POST
def upload(request):
    return JsonResponse({"bytes": len(request.body), "checksum": zlib.crc32(request.body)}, status=201)


@require_GET
def health(request):
    return HttpResponse("ok")


@require_GET
def user(request, user_id):
    return JsonResponse({"id": user_id, "name": f"user {user_id}"})
