#!/usr/bin/env bash
# psqlpy 0.13.1: the mask of an inet is lost, and a large oid is negative.
#
# Expected: '10.0.0.1/8' as an IPv4Interface, as psycopg and asyncpg give it, or an error,
#   as psqlpy raises for ranges; and the oid 4000000000 as it is.
# Seen: IPv4Address('10.0.0.1'), and -294967296.
# Who meets it: whoever copies or compares rows, such as a log of logins, or reads the oids
#   of a large object or a table of an old database. What helps is a cast to text or bigint.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet psqlpy==0.13.1
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import asyncio
import sys
from importlib.metadata import version

import psqlpy


async def main():
    url = f"postgresql://postgres@/postgres?host={sys.argv[1]}"
    connection = await psqlpy.connect(dsn=url)
    read = await connection.fetch("SELECT inet '10.0.0.1/8' AS address, oid '4000000000' AS id")
    (row,) = read.result()
    connection.close()
    return str(row["address"]), row["id"]


seen = asyncio.run(main())
print(f"psqlpy {version('psqlpy')}")
print("  expected: ('10.0.0.1/8', 4000000000), or an error")
print(f"  seen:     {seen}")
if seen != ("10.0.0.1", -294967296):
    print("  that has changed")
    sys.exit(1)
END
