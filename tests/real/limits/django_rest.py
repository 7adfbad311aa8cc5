"""A paged listing behind two throttles of Django REST framework, both of which hold.

python django_rest.py PORT LOG RATE LONG_RATE        (rates as it writes them: 10/s, 100/min)
"""

import sys

import django
from django.conf import settings

from listing import page, serve

port, log, rate, long_rate = sys.argv[1:]
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.throttling import AnonRateThrottle  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Short(AnonRateThrottle):
    scope = "short"
    rate = rate


class Long(AnonRateThrottle):
    scope = "long"
    rate = long_rate


class Items(APIView):
    throttle_classes = [Short, Long]

    def get(self, request):
        asked = request.query_params
        return Response(page(int(asked["page"]), int(asked["per_page"])))


urlpatterns = [path("items", Items.as_view())]

serve(get_wsgi_application(), int(port), log)
