"""django-pghistory's aggregate events, on data like that of :mod:`benchmarks.reading`.

It is a program of its own, since Django has one configuration in a process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models
from sqlalchemy import make_url

from benchmarks.peers.django_pghistory import _database

VERSIONS = 5


def main(url: str, tables: int, events: int, timeout: int) -> None:
    """Fill tables, and print the seconds of each answer as JSON; None for no answer.

    :param events: of each table.
    :param timeout: of a statement, in seconds.
    """
    settings.configure(
        SECRET_KEY="none",
        USE_TZ=True,
        DATABASES={"default": _database(make_url(url), {})},
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "pgtrigger",
            "pghistory",
            "benchmarks.peers",
        ],
    )
    django.setup()
    import pghistory
    from pghistory.models import Events

    made = [_model(number) for number in range(tables)]
    for model in made:
        pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent())(model)
    call_command("migrate", run_syncdb=True, verbosity=0)
    rows = events // VERSIONS
    with connection.cursor() as cursor:
        for number in range(tables):
            for statement in _fill(
                f"thing_{number}", f"peers_thing{number}event", rows
            ):
                cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute(f"SET statement_timeout = '{timeout}s'")
    newest = Events.objects.order_by("-pgh_created_at", "-pgh_id")[:50]
    one = made[0].objects.get(pk=1)
    of_one = Events.objects.tracks(one).order_by("-pgh_id")[:50]
    print(
        json.dumps(
            {
                "newest 50 of all tables": _seconds(newest),
                "newest 50 of one object": _seconds(of_one),
            }
        )
    )


def _model(number: int) -> Any:
    fields = {
        "id": models.AutoField(primary_key=True),
        "parent_id": models.IntegerField(null=True, db_index=True),
        "name": models.TextField(null=True),
        "amount": models.IntegerField(null=True),
    }
    meta = type("Meta", (), {"app_label": "peers", "db_table": f"thing_{number}"})
    more = {"__module__": "benchmarks.peers.models", "Meta": meta}
    return type(f"Thing{number}", (models.Model,), {**fields, **more})


def _fill(table: str, events: str, rows: int) -> list[str]:
    return [
        f"INSERT INTO {table} (id, parent_id, name, amount) SELECT n + 1, n / 20 + 1,"
        f" 'name ' || n, {VERSIONS} * 100 + n % 100"
        f" FROM generate_series(0, {rows - 1}) n",
        f"TRUNCATE {events}",
        f"INSERT INTO {events} (pgh_label, pgh_created_at, pgh_obj_id, id, parent_id,"
        " name, amount) SELECT CASE v WHEN 1 THEN 'insert' ELSE 'update' END,"
        f" now() - interval '1 day' * ({VERSIONS} - v) / {VERSIONS}, n + 1, n + 1,"
        " n / 20 + 1, 'name ' || n, v * 100 + n % 100"
        f" FROM generate_series(1, {VERSIONS}) v, generate_series(0, {rows - 1}) n",
        f"INSERT INTO {events} (pgh_label, pgh_created_at, pgh_obj_id, id, parent_id,"
        " name, amount) SELECT 'update', now(), 1, 1, 1, 'name 0', v"
        " FROM generate_series(1, 5000) v",
    ]


def _seconds(query: Any) -> float | None:
    started = time.perf_counter()
    try:
        list(query)
    except django.db.OperationalError:  # it took too long
        return None
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
