#!/usr/bin/env bash
# django-simple-history 3.13.0: history has values that were never written.
#
# Expected: save(update_fields=["name"]) and bulk_update_with_history(..., ["name"]) record
#   the row as it is after the UPDATE, which changes the name.
# Seen: the historical row has what all attributes of the object are, also those that were
#   not among the fields: a price that no row ever had.
# Who meets it: whoever writes some fields of an object that is changed further: history says
#   a change that did not happen, and the next one seems to undo it. What helps is
#   refresh_from_db() before, or triggers.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet django==5.2.19 django-simple-history==3.13.0

mkdir "$work/shop"
touch "$work/shop/__init__.py"
cd "$work"
"$python" - <<'END'
import sys
from importlib.metadata import version

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "simple_history",
        "shop",
    ],
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command
from django.db import connection, models
from simple_history.models import HistoricalRecords
from simple_history.utils import bulk_update_with_history


class Offer(models.Model):
    name = models.TextField()
    price = models.IntegerField()
    history = HistoricalRecords(app="shop")

    class Meta:
        app_label = "shop"


call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    editor.create_model(Offer)
    editor.create_model(Offer.history.model)


def saved(offer):
    offer.save(update_fields=["name"])


def updated_in_bulk(offer):
    bulk_update_with_history([offer], Offer, ["name"])


seen = []
for write in (saved, updated_in_bulk):
    offer = Offer.objects.create(name="tea", price=1)
    offer.name, offer.price = "chai", 99
    write(offer)
    seen.append((Offer.objects.get(pk=offer.pk).price, offer.history.first().price))
print(f"django-simple-history {version('django-simple-history')}, the price, and in history")
print("  expected: [(1, 1), (1, 1)]")
print(f"  seen:     {seen}")
if seen != [(1, 99), (1, 99)]:
    print("  that has changed")
    sys.exit(1)
END
