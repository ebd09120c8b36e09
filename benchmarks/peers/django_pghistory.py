"""django-pghistory: a typed table for each model, by row or statement triggers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models, transaction
from sqlalchemy import URL, DateTime, Float, Integer, String, Text

from benchmarks.subject import (
    PAGE,
    TABLES,
    USER,
    Subject,
    Write,
    change_object,
    new_objects,
)

FIELDS: dict[Any, Any] = {
    Integer: models.IntegerField,
    String: models.CharField,
    Text: models.TextField,
    Float: models.FloatField,
    DateTime: models.DateTimeField,
}


class Untracked(Subject):
    """Django without a history: what its ORM takes for itself."""

    level: str | None = None

    def __init__(self, url: URL, timeout: int = 60) -> None:
        super().__init__(url, timeout)
        settings.configure(
            SECRET_KEY="none",
            USE_TZ=True,
            DATABASES={"default": _database(url, self.options)},
            INSTALLED_APPS=[
                "django.contrib.contenttypes",
                "pgtrigger",
                "pghistory",
                "benchmarks.peers",  # which the models belong to
            ],
        )
        django.setup()

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a model of which everything is recorded."""
        return self._tracked(self._model(name, attributes), None)

    def declare_rare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a model of which negative ``int_field`` are recorded."""
        import pgtrigger

        condition = pgtrigger.Q(new__int_field__lt=0)
        return self._tracked(self._model(name, attributes), condition)

    def configure(self) -> None:
        """Nothing is left to do."""

    def create(self) -> None:
        """Create the tables, and what tracks them."""
        import pgtrigger

        call_command("migrate", run_syncdb=True, verbosity=0)
        pgtrigger.install()

    def _model(self, name: str, attributes: dict[str, Any]) -> Any:
        fields = {"id": models.AutoField(primary_key=True)}
        for key, column in attributes.items():
            if not column.primary_key:
                more = {"max_length": 64} if type(column.type) is String else {}
                fields[key] = FIELDS[type(column.type)](null=True, **more)
        meta = type("Meta", (), {"app_label": "peers", "db_table": name})
        more = {"__module__": "benchmarks.peers.models", "Meta": meta}
        return type(name.title(), (models.Model,), {**fields, **more})

    def _tracked(self, model: Any, condition: Any) -> Any:
        if self.level is None:
            return model
        import pghistory  # it cannot be imported before the settings are made

        if condition is None:
            trackers = [
                pghistory.InsertEvent(),
                pghistory.UpdateEvent(),
                pghistory.DeleteEvent(),
            ]
        else:
            trackers = [pghistory.UpdateEvent(condition=condition)]
        level = {"row": pghistory.Row, "statement": pghistory.Statement}[self.level]
        return pghistory.track(*trackers, level=level)(model)

    def told(self, target: Any) -> contextlib.AbstractContextManager[Any]:
        """Be in a context of this transaction's own, as a request is."""
        import pghistory

        return pghistory.context(user=USER, url=PAGE)

    def fresh(self) -> None:
        """Begin anew with a connection."""
        connection.close()
        connection.ensure_connection()

    def close(self) -> None:
        """End all connections."""
        connection.close()

    @contextlib.contextmanager
    def transaction(self, context: bool) -> Iterator[Any]:
        """Give what :meth:`perform` takes, and commit at the end."""
        with self.in_context(None, context), transaction.atomic():
            yield None

    session = transaction

    def perform(self, target: Any, write: Write) -> None:
        """Execute a statement that writes many rows."""
        with connection.cursor() as cursor:
            cursor.execute(write.sql)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Give a connection, which is the thread's own."""
        connection.ensure_connection()
        yield None
        connection.close()

    def update_one(self, target: Any, id_: int, context: bool) -> None:
        """Update a row, in a transaction."""
        with self.transaction(context):
            self.core(None, id_)

    def core(self, target: Any, id_: int) -> None:
        """Update a row by a query."""
        self.item.objects.filter(pk=id_).update(int_field=models.F("int_field") + 1)

    def add(self, session: Any, count: int, cls: Any = None) -> None:
        """Add objects."""
        cls = cls or self.item
        cls.objects.bulk_create(new_objects(cls, count))

    def change(self, session: Any, cls: Any = None) -> None:
        """Change all objects, three attributes of each.

        Django has no unit of work; this is how it updates many objects at once.
        """
        cls = cls or self.item
        changed = list(cls.objects.all())
        for number, each in enumerate(changed):
            change_object(each, number)
        wide = cls.__name__ == "Wide"
        fields = ("i1", "s1", "f1") if wide else ("int_field", "char_field", "note")
        cls.objects.bulk_update(changed, fields)

    def remove(self, session: Any) -> None:
        """Delete all objects."""
        ids = [each.pk for each in self.item.objects.all()]
        self.item.objects.filter(pk__in=ids).delete()

    @contextlib.contextmanager
    def connected_to(self, url: URL) -> Iterator[Any]:
        """Have the connection of this thread lead to another URL."""
        was = dict(connection.settings_dict)
        connection.close()
        connection.settings_dict.update(_database(url, dict(url.query)))
        yield None
        connection.close()
        connection.settings_dict.update(was)

    def ways(self) -> dict[str, Any]:
        """Return ways to write in a transaction."""

        def save(_: Any) -> None:
            with transaction.atomic():
                self.item(int_field=1).save()

        def core(_: Any) -> None:
            with transaction.atomic():
                self.core(None, 1)

        def bulk_create(_: Any) -> None:
            with transaction.atomic():
                self.add(None, 20)

        return {"ORM flush": save, "Core": core, "executemany": bulk_create}


class Row(Untracked):
    """django-pghistory as it is by default."""

    level = "row"
    history = (*(f"peers_{table}event" for table in TABLES), "pghistory_context")
    events = (
        "peers_itemevent",
        {
            "pgh_created_at": "now()",
            "pgh_label": "'update'",
            "pgh_context_id": "context.id",
            "pgh_obj_id": "item.id",
        },
    )

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return f"SELECT count(*), count(pgh_context_id) FROM peers_{table}event"


class Statement(Row):
    """django-pghistory with statement triggers."""

    level = "statement"


def _database(url: URL, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username,
        "PASSWORD": url.password or "",
        "HOST": url.host or url.query.get("host", ""),
        "PORT": url.port or url.query.get("port", ""),
        "OPTIONS": options,
    }
