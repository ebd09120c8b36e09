#!/usr/bin/env bash
# django-auditlog 3.4.1: the log has an expression as a value, and changes that were none.
#
# Expected: after offer.sold = F("sold") + 1 and save(), the log has the number that the row
#   got, or leaves it out. Another save() of the object changes the other fields alone.
# Seen: ["1", "F(sold) + Value(1)"], and in the same entry the price went from "0.00" to "0": the
#   old value is read from the database, the new one from the object, and their texts are
#   compared. The next entry says so again.
# Who meets it: counters that are raised by the database, and decimals whose default is an int:
#   what a row was cannot be told from the log. What helps is refresh_from_db(), and
#   Decimal("0.00") as the default.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet django==5.2.19 django-auditlog==3.4.1

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
        "auditlog",
        "shop",
    ],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.core.management import call_command
from django.db import connection, models
from django.db.models import F


class Offer(models.Model):
    name = models.TextField()
    sold = models.IntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)

    class Meta:
        app_label = "shop"


auditlog.register(Offer)
call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    editor.create_model(Offer)
offer = Offer.objects.create(name="tea", sold=1)
offer.sold = F("sold") + 1
offer.save()
offer.name = "chai"
offer.save(update_fields=["name", "price"])
stored = Offer.objects.values_list("sold", "price").get()
entries = LogEntry.objects.get_for_object(offer).order_by("id")
seen = [entry.changes for entry in entries][1:]
print(f"django-auditlog {version('django-auditlog')}, of a row with {stored}")
print("  expected: [{'sold': ['1', '2']}, {'name': ['tea', 'chai']}]")
print(f"  seen:     {seen}")
if seen != [
    {"sold": ["1", "F(sold) + Value(1)"], "price": ["0.00", "0"]},
    {"name": ["tea", "chai"], "price": ["0.00", "0"]},
]:
    print("  that has changed")
    sys.exit(1)
END
