#!/usr/bin/env bash
# dbt-core 1.11.16, dbt-adapters 1.24.5: a snapshot of a row that was deleted and came back
# has two versions at the same time.
#
# Expected: with strategy timestamp and hard_deletes, the versions of a row follow one another:
#   deleted at the second run, there again at the third, it has no version between these two.
# Seen: the version of the third run is valid from the row's updated_at, which is before the
#   deletion. With `invalidate` two versions are valid at each time until the deletion, with the
#   same dbt_scd_id. With `new_record` the deletion is valid from its run to the updated_at, so
#   it ends before it begins.
# Who meets it: whoever asks a snapshot for the rows of then, by dbt_valid_from and dbt_valid_to,
#   where rows are restored from a backup, or leave the filter of a source and come back: sums
#   count them twice. What helps is strategy check, whose versions begin with their run.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet dbt-core==1.11.16 dbt-adapters==1.24.5 dbt-postgres==1.11.0
source "$(dirname "$0")/_postgres.sh"

mkdir -p "$work/project/snapshots" "$work/project/models"
cd "$work/project"
cat >dbt_project.yml <<'END'
name: shop
version: "1.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
END
cat >profiles.yml <<END
shop:
  target: dev
  outputs:
    dev:
      {type: postgres, host: $work/data, port: 5432, user: postgres, password: none,
       dbname: postgres, schema: history, threads: 1}
END
cat >models/sources.yml <<'END'
version: 2
sources: [{name: shop, schema: public, tables: [{name: orders}]}]
END
cat >snapshots/orders.yml <<'END'
snapshots:
  - name: invalidate
    relation: source('shop', 'orders')
    config:
      {unique_key: id, strategy: timestamp, updated_at: updated_at, hard_deletes: invalidate}
  - name: new_record
    relation: source('shop', 'orders')
    config:
      {unique_key: id, strategy: timestamp, updated_at: updated_at, hard_deletes: new_record}
END

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import psycopg2
from dbt.cli.main import dbtRunner

connection = psycopg2.connect(host=sys.argv[1], user="postgres", dbname="postgres")
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("CREATE TABLE orders (id int, updated_at timestamp)")
runner = dbtRunner()
ROW = "INSERT INTO orders VALUES (1, '2020-01-01')"
for statement in (ROW, "DELETE FROM orders", ROW):
    cursor.execute(statement)
    done = runner.invoke(["--quiet", "snapshot", "--profiles-dir", "."])
    assert done.success, done.exception
VERSIONS = """
SELECT dbt_valid_from, dbt_valid_to FROM history.{} ORDER BY dbt_valid_from, dbt_valid_to
"""
seen = {}
print(f"dbt-core {version('dbt-core')}, a row that was deleted and is there again")
print("  expected: versions that follow one another")
for name in ("invalidate", "new_record"):
    cursor.execute(VERSIONS.format(name))
    rows = [(f"{begin:%Y}", "now" if end is None else f"{end:%Y}") for begin, end in cursor]
    seen[name] = [tuple("run" if year > "2020" else year for year in row) for row in rows]
    print(f"  seen:     {name}: {', '.join(f'{begin} to {end}' for begin, end in rows)}")
first = [("2020", "run"), ("2020", "run")]
if [[(b, "run" if e == "now" else e) for b, e in rows] for rows in seen.values()] != [
    first,
    [*first, ("run", "2020")],
]:
    print("  that has changed")
    sys.exit(1)
END
