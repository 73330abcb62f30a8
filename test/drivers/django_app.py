# SPDX-License-Identifier: ISC
#
# django_app.py - an application of Django's ORM over psycopg 2, in one file.
"""Connects as the PG* environment says; prints what it sees."""
import datetime
import decimal
import os
import threading
from itertools import zip_longest

import django
from django.apps import AppConfig
from django.conf import settings

SCHEMA = "drv_django"


class Library(AppConfig):
    name, label = __name__, "library"


settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
        "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"], "CONN_MAX_AGE": 600,
        "OPTIONS": {"options": f"-c search_path={SCHEMA}"}}},
    INSTALLED_APPS=["django.contrib.postgres", f"{__name__}.Library"], USE_TZ=True, TIME_ZONE="Europe/Berlin",
    DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402 - Django has to be set up first
from django.core.signals import request_finished, request_started  # noqa: E402
from django.db import IntegrityError, OperationalError, connection, models, transaction  # noqa: E402
from django.db.models import Avg, Count, F, Sum  # noqa: E402
from django.db.utils import DataError  # noqa: E402


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    born = models.DateField(null=True)
    tags = ArrayField(models.TextField(), default=list)

    class Meta:
        app_label = "library"


class Book(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    title = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    sold = models.IntegerField(default=0)
    printed = models.DateTimeField(default=datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc))
    cover = models.BinaryField(null=True)
    extra = models.JSONField(null=True)

    class Meta:
        app_label = "library"


def show(label, *values):
    print(f"{label}:", *map(repr, values))


def attempt(label, act):
    """Show what act() returns, or the error that it raises."""
    try:
        show(label, act())
    except (IntegrityError, OperationalError, DataError) as error:
        show(label, type(error).__name__, error.__cause__.pgcode, str(error).splitlines()[0])


def objects():
    print("# objects")
    ada = Author.objects.create(name="Ada", born=datetime.date(1815, 12, 10), tags=["first", "ü"])
    Author.objects.bulk_create([Author(name=f"author {n}") for n in range(1, 51)])
    Book.objects.bulk_create([
        Book(author=author, title=f"book {n} of {author.name}", price=decimal.Decimal(n) + author.pk,
             cover=b"\0\xff", extra={"n": n, "none": None})
        for author in Author.objects.order_by("pk")[:20] for n in range(5)], batch_size=30)
    book = Book.objects.select_related("author").filter(author=ada).order_by("pk").first()
    show("book", book.title, book.author.name, book.author.tags, book.price, bytes(book.cover),
         book.extra, book.printed)
    show("by json", Book.objects.filter(extra__n=3).count(), Author.objects.filter(tags__contains=["ü"]).count())
    show("aggregated", Author.objects.annotate(n=Count("books"), s=Sum("books__price")).filter(n__gt=0)
         .aggregate(Count("pk"), Avg("n"), Sum("s")))
    show("day", Book.objects.dates("printed", "day").first(), Book.objects.filter(printed__hour=13).count())
    Book.objects.filter(author=ada).update(sold=F("sold") + 3)
    show("sold", Book.objects.aggregate(Sum("sold")))
    show("got or made", *(Author.objects.get_or_create(name="Bea")[1] for _ in range(2)))
    show("deleted", Author.objects.filter(name="Bea").delete())
    show("prefetched", [(a.name, len(a.books.all()))
                        for a in Author.objects.prefetch_related("books").order_by("pk")[:3]])


def transactions():
    print("# transactions")
    with transaction.atomic():
        Author.objects.create(name="kept")
        attempt("in a savepoint", duplicate_in_savepoint)
        transaction.on_commit(lambda: show("on commit", connection.in_atomic_block))
    try:
        with transaction.atomic():
            Author.objects.create(name="lost")
            raise ValueError
    except ValueError:
        show("kept, lost", *(Author.objects.filter(name=name).exists() for name in ("kept", "lost")))
    attempt("duplicate", lambda: Author.objects.create(name="kept"))
    attempt("too long", lambda: Author.objects.create(name="x" * 51))
    attempt("foreign key", lambda: Book.objects.create(author_id=-1, title="", price=0))
    with transaction.atomic():
        locked = Author.objects.select_for_update(skip_locked=True).get(name="kept")
        show("locked", locked.name)
        with transaction.atomic(savepoint=False):
            transaction.set_rollback(True)
    show("usable", Author.objects.filter(name="kept").count())


def duplicate_in_savepoint():
    with transaction.atomic():
        Author.objects.create(name="kept")


def cursors():
    print("# server-side cursors")
    show("iterated", sum(book.sold + 1 for book in Book.objects.iterator(chunk_size=10)))
    with transaction.atomic():
        first, second = (Book.objects.order_by(order).values_list("pk", flat=True).iterator(chunk_size=7)
                         for order in ("pk", "-pk"))
        show("two at a time", [pair for pair in zip_longest(first, second)][::25])
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int, %s, now() = now(), current_setting('TimeZone')", [1, "it's"])
        show("raw", cursor.fetchall())
        cursor.callproc("lower", ["ABC"])
        show("procedure", cursor.fetchone())
        cursor.execute("SET statement_timeout = '50ms'")
        attempt("timed out", lambda: cursor.execute("SELECT pg_sleep(60)"))
        cursor.execute("RESET statement_timeout")


def visitor(n):
    for turn in range(15):
        request_started.send(visitor)  # looks whether the connection still works, and how old it is
        with transaction.atomic():
            author = Author.objects.select_for_update().get(name=f"author {1 + (n + turn) % 5}")
            author.tags.append("seen")
            author.save()
        Book.objects.filter(author__name=author.name).update(sold=F("sold") + 1)
        request_finished.send(visitor)
    connection.close()


def requests():
    print("# requests, on connections that are kept")
    visitors = [threading.Thread(target=visitor, args=[n]) for n in range(6)]
    for each in visitors:
        each.start()
    for each in visitors:
        each.join()
    show("seen", sum(a.tags.count("seen") for a in Author.objects.all()), Book.objects.aggregate(Sum("sold")))


def main():
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Book)
    show("tables", connection.introspection.table_names())
    objects()
    transactions()
    cursors()
    requests()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


main()
