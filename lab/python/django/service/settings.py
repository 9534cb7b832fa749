"""Settings of a small API without a database."""

import os

VARIANT = os.environ.get("VARIANT", "stateless")

SECRET_KEY = "heaptide-lab-hs256-secret"  # the load generator signs with it
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "service.urls"
WSGI_APPLICATION = "service.wsgi.application"
INSTALLED_APPS = []
MIDDLEWARE = [
    "service.truth.CountRequests",
    "django.middleware.common.CommonMiddleware",
]
USE_TZ = True
# runserver logs each request, and every 401 is a warning.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {
        "django.server": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},
    },
}
