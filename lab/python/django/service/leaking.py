"""Views that leak."""

import json
import threading
import time

from django.http import JsonResponse
from django.views.decorators.http import require_GET

from service.authentication import CachedJWTAuthentication, authenticated
from service.views import items_of


@require_GET
@authenticated(by=CachedJWTAuthentication)
def data_cached(request):
    return JsonResponse(items_of(request.claims["sub"]))


class ProfileDirectory:
    """The first claims of each subject."""

    def __init__(self):
        self._profiles = {}

    def remember(self, claims):
        if claims["sub"] not in self._profiles:
            self._profiles[claims["sub"]] = claims


directory = ProfileDirectory()


@require_GET
@authenticated
def data_by_subject(request):
    directory.remember(request.claims)
    return JsonResponse(items_of(request.claims["sub"]))


class Introspection:
    """Debugging code that was never removed: the last responses, never trimmed."""

    def __init__(self):
        self.entries = []

    def log_response(self, request, response):
        self.entries.append(json.dumps({"active": True, "claims": request.claims, "data": response}))


introspection = Introspection()


@require_GET
@authenticated
def data_logged(request):
    response = items_of(request.claims["sub"])
    introspection.log_response(request, response)
    return JsonResponse(response)


class Collector:
    """Collects samples for a sender that does not exist."""

    def __init__(self):
        self.samples = []

    def start(self):
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            time.sleep(0.01)
            self.take_sample()

    def take_sample(self):
        self.samples.append(b"s" * 2048 + str(time.time()).encode())


collector = Collector()
