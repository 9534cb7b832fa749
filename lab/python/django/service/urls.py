"""Routes; a variant replaces the view of one of them."""

from django.urls import path

from service import truth, views
from service.variants import variant

urlpatterns = [
    path("api/data", variant.data, name="data"),
    path("api/profile", views.profile, name="profile"),
    path("api/upload", views.upload, name="upload"),
    path("health", views.health, name="health"),
    path("users/<int:user_id>", views.user, name="user"),
    path("truth", truth.truth),
]
