"""Books behind the three paginators of Django REST framework: by page number, by offset, by cursor.

python django_pages.py PORT DATABASE COUNT
"""

import sys

import django
from django.conf import settings

from quiet import serve

port, database, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import generics, pagination, serializers  # noqa: E402


class Book(models.Model):
    title = models.TextField()
    # Many books of one year: a cursor must not lose those that are equal.
    year = models.IntegerField()

    class Meta:
        app_label = "books"


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ["id", "title", "year"]


class ByNumber(pagination.PageNumberPagination):
    page_size = 20
    page_size_query_param = "page_size"


class ByOffset(pagination.LimitOffsetPagination):
    default_limit = 20


class ByCursor(pagination.CursorPagination):
    page_size = 20
    ordering = "year"


def books(paginator):
    return type(
        paginator.__name__,
        (generics.ListAPIView,),
        {
            "queryset": Book.objects.order_by("id"),
            "serializer_class": BookSerializer,
            "pagination_class": paginator,
        },
    ).as_view()


urlpatterns = [
    path("numbers", books(ByNumber)),
    path("offsets", books(ByOffset)),
    path("cursors", books(ByCursor)),
]

with connection.schema_editor() as editor:
    editor.create_model(Book)
Book.objects.bulk_create(
    Book(id=at, title=f"book {at}, \"bound\"", year=1990 + at % 3) for at in range(1, count + 1)
)

serve(get_wsgi_application(), port)
