#!/usr/bin/env bash
# asyncpg 0.32.0: an argument that asyncpg refuses itself is an error with the SQLSTATE of
# the server.
#
# Expected: a PostgresError is an answer of the server, whose SQLSTATE it has, and after it
#   the transaction has failed. What asyncpg does not accept itself is an InterfaceError.
# Seen: DataError with SQLSTATE 22000, which is a PostgresError. The statement was not
#   sent, and the transaction is alive.
# Who meets it: whoever tells by the class or the SQLSTATE whether a transaction can go on.
#   What helps is to send a statement and see.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet asyncpg==0.32.0
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import asyncio
import sys

import asyncpg


async def attempt(connection, statement, *arguments):
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.fetchval(statement, *arguments)
    except asyncpg.PostgresError as error:
        told = f"{type(error).__name__} {error.sqlstate}"
    except asyncpg.InterfaceError as error:
        told = type(error).__name__
    try:
        alive = await connection.fetchval("SELECT true")
    except asyncpg.InFailedSQLTransactionError:
        alive = False
    await transaction.rollback()
    return f"{told}, the transaction {'goes on' if alive else 'has failed'}"


async def main(host):
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    of_server = await attempt(connection, "SELECT 1 / $1::int", 0)
    of_driver = await attempt(connection, "SELECT $1::int", "one")
    await connection.close()
    return of_server, of_driver


of_server, of_driver = asyncio.run(main(sys.argv[1]))
print(f"asyncpg {asyncpg.__version__}")
print(f"  an error of the server:    {of_server}")
print("  expected for an argument that is not sent: no PostgresError")
print(f"  seen:     {of_driver}")
if of_driver != "DataError 22000, the transaction goes on" or "failed" not in of_server:
    print("  that has changed")
    sys.exit(1)
END
