#!/usr/bin/env bash
# tortoise-orm 1.1.9: the average of an integer column is cut to an integer.
#
# Expected: Avg("stars") of 1, 2 and 2 is 1.67, as PostgreSQL and Django's Avg calculate it.
# Seen: 1. The numeric that the server returns is converted to the type of the field. A price
#   of 1.005 for a DecimalField(10, 2) is stored as 1.00 by create(), and as 1.01 by an UPDATE
#   that adds it up: the one rounds half to even in Python, the other half up in the server.
# Who meets it: whoever shows averages of ratings, ages or amounts in cents. What helps is
#   RawSQL("avg(stars)"), or a FloatField.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "tortoise-orm[asyncpg]==1.1.9" asyncpg==0.32.0
source "$(dirname "$0")/_postgres.sh"

cat >"$work/shop.py" <<'END'
from tortoise import fields, models


class Rating(models.Model):
    id = fields.IntField(primary_key=True)
    stars = fields.IntField()
    price = fields.DecimalField(10, 2)
END
PYTHONPATH="$work" "$python" - "$work/data" <<'END'
import asyncio
import sys
from decimal import Decimal
from importlib.metadata import version

from shop import Rating
from tortoise import Tortoise, connections
from tortoise.expressions import F, RawSQL
from tortoise.functions import Avg

SERVER = {
    "host": sys.argv[1],
    "port": 5432,
    "user": "postgres",
    "password": "",
    "database": "postgres",
}
CONFIG = {
    "connections": {"default": {"engine": "tortoise.backends.asyncpg", "credentials": SERVER}},
    "apps": {"shop": {"models": ["shop"], "default_connection": "default"}},
}


async def main():
    await Tortoise.init(CONFIG)
    await Tortoise.generate_schemas()
    for stars in (1, 2, 2):
        await Rating.create(stars=stars, price=Decimal("1.005"))
    average = (await Rating.annotate(average=Avg("stars")).values("average"))[0]["average"]
    right = (await Rating.annotate(average=RawSQL("avg(stars)")).values("average"))[0]["average"]
    created = (await Rating.first()).price
    await Rating.all().update(price=F("price") + Decimal("0.005"))
    updated = (await Rating.first()).price
    await connections.close_all()
    return average, right, str(created), str(updated)


average, right, created, updated = asyncio.run(main())
print(f"tortoise-orm {version('tortoise-orm')}")
print(f"  the average of 1, 2 and 2: expected {right:.2f}, seen {average!r}")
print(f"  a price of 1.005: created {created}, updated {updated}")
if (average, round(right, 2), created, updated) != (1, Decimal("1.67"), "1.00", "1.01"):
    print("  that has changed")
    sys.exit(1)
END
