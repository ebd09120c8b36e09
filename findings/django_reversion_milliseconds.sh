#!/usr/bin/env bash
# django-reversion 6.4.0: a reverted row has its times without microseconds.
#
# Expected: revert() writes what the row had when the version was made.
# Seen: of a DateTimeField or TimeField the milliseconds, since versions are stored by
#   Django's serializer for JSON. Ranges of times, beside it, keep their microseconds.
# Who meets it: whoever compares a time for optimistic locking, joins by it, or orders events
#   by it: a row that was changed and reverted is another one than before.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet django==5.2.19 django-reversion==6.4.0

mkdir "$work/shop"
touch "$work/shop/__init__.py"
cd "$work"
"$python" - <<'END'
import datetime
import sys
from importlib.metadata import version

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "reversion", "shop"],
    USE_TZ=True,
)
django.setup()

import reversion
from django.core.management import call_command
from django.db import connection, models
from reversion.models import Version


@reversion.register
class Order(models.Model):
    paid = models.DateTimeField()

    class Meta:
        app_label = "shop"


call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    editor.create_model(Order)
given = datetime.datetime(2026, 1, 1, 1, 2, 3, 123456, tzinfo=datetime.timezone.utc)
with reversion.create_revision():
    order = Order.objects.create(paid=given)
(made,) = Version.objects.get_for_object(order)
made.revision.revert()
seen = Order.objects.get().paid
print(f"django-reversion {version('django-reversion')}")
print(f"  expected: {given}")
print(f"  seen:     {seen}")
if seen != given.replace(microsecond=123000):
    print("  that has changed")
    sys.exit(1)
END
