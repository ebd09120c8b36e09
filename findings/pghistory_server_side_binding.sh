#!/usr/bin/env bash
# django-pghistory 3.9.2: with Django's server-side binding, each write in a context is an error.
#
# Expected: pghistory.context() works with "server_side_binding", the option of Django for
#   psycopg 3, as tracking does.
# Seen: "cannot insert multiple commands into a prepared statement" for each INSERT, UPDATE and
#   DELETE in a context. The context is set by a SELECT before the statement, in one message, and
#   a message with parameters has one statement. pgtrigger.ignore() does the same.
# Who meets it: whoever switches the option on, to have plans kept on the server: tests without
#   a context pass. What helps is to leave it off.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet django==5.2.19 django-pghistory==3.9.2 \
    django-pgtrigger==4.17.0 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

mkdir "$work/shop"
touch "$work/shop/__init__.py"
cat >"$work/shop/models.py" <<'END'
import pghistory
from django.db import models


@pghistory.track()
class Offer(models.Model):
    price = models.IntegerField()
END
cat >"$work/write.py" <<'END'
import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": sys.argv[1],
            "OPTIONS": {"server_side_binding": sys.argv[2] == "True"},
        }
    },
    INSTALLED_APPS=["pgtrigger", "pghistory", "shop"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

import pghistory
from django.core.management import call_command
from django.db.utils import ProgrammingError
from shop.models import Offer

call_command("migrate", verbosity=0, run_syncdb=True)
Offer.objects.create(price=1)
try:
    with pghistory.context(user=7):
        Offer.objects.create(price=2)
    print("a row is written")
except ProgrammingError as error:
    print(error)
END

cd "$work"
off=$("$python" write.py "$work/data" False)
on=$("$python" write.py "$work/data" True)
echo "django-pghistory 3.9.2, a write in a context"
echo "  expected: $off, as without server-side binding"
echo "  seen:     $on"
if [ "$on" != "cannot insert multiple commands into a prepared statement" ] ||
    [ "$off" != "a row is written" ]; then
    echo "  that has changed"
    exit 1
fi
