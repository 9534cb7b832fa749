"""GET /truth and the middleware that counts for it."""

from django.http import JsonResponse

import books

# Names of urls.py, in the order of books.ROUTES.
NAMES = ("data", "profile", "upload", "health", "user")


class CountRequests:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        from service.variants import variant

        response = self.get_response(request)
        match = request.resolver_match
        if match and match.url_name in NAMES:
            books.count(NAMES.index(match.url_name), request.headers.get("Authorization"))
            books.publish(books.size_of(variant.container))
        return response


def truth(request):
    from service.variants import name, variant

    return JsonResponse(books.truth(name, variant.container))
