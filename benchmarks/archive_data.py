"""Events to archive: changed keys, deletions and rows that are inserted again.

Two years of one model, in 24 partitions that have an end and one that is open, with a
context on every second event. What a number of events is made of does not depend on
chance, so two databases with as many events have the same ones.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

import sa_history as history
from benchmarks.partitions import MONTHS, START
from sa_history.capture.partitioning import bound_at

EVENTS_OF_ROW = 40
"""How many events most of the rows have."""

DAYS = 30 * MONTHS

CONTEXT_ID = """(
  lpad(to_hex({start_ms} + {context} * 10 * ({days}::bigint * 86400000) / {events}),
    12, '0')
  || '7' || substr(md5(({context})::text), 1, 3)
  || '8' || substr(md5(({context})::text), 4, 15)
)::uuid"""
"""The id of a context, which begins with the time like those of the library."""

# In each round each row has an event. Of 50 rows one is deleted, inserted again and,
# every other time, deleted for good; one gets another key, and every other time a new
# row gets the key that it had; one gets another key and gets its own back.
EVENTS = """
INSERT INTO {partition} (pgh_id, pgh_created_at, pgh_xact_id, pgh_context_id,
  pgh_obj_id, pgh_op, pgh_label, pgh_old_key, id, owner, balance, status)
SELECT i, timestamptz '{start}' + i * (interval '{days} days' / {events}),
  i / 5 - {events}, CASE WHEN i % 2 = 0 THEN {context_id} END, key, op, 'snapshot',
  CASE WHEN old_key IS NOT NULL THEN jsonb_build_array(old_key) END, key,
  'owner of account number ' || o, (state % 10007)::int,
  (ARRAY['new', 'open', 'held', 'closed'])[1 + (state / {rows}) % 4]
FROM (
  SELECT i, o, CASE WHEN op = 'D' THEN i - {rows} ELSE i END AS state, op,
    CASE
      WHEN o % 50 = 1 AND (round >= 25 AND o % 100 = 1 AND round % 2 = 1) THEN o
      WHEN o % 50 = 1 AND round >= 20 THEN o + {rows}
      WHEN o % 50 = 2 AND round BETWEEN 15 AND 17 THEN o + {rows}
      ELSE o
    END AS key,
    CASE
      WHEN o % 50 = 1 AND round = 20 OR o % 50 = 2 AND round = 15 THEN o
      WHEN o % 50 = 2 AND round = 18 THEN o + {rows}
    END AS old_key
  FROM (
    SELECT i, o, round, CASE
      WHEN round = 0 OR o % 50 = 0 AND round = 12 OR o % 100 = 1 AND round = 25 THEN 'I'
      WHEN o % 50 = 0 AND round = 10 OR o % 100 = 0 AND round = 30 THEN 'D'
      WHEN o % 50 = 0 AND round = 11 OR o % 100 = 0 AND round > 30 THEN NULL
      ELSE 'U'
    END AS op
    FROM (
      SELECT i, ((i * 7919) % {rows} + 1)::int AS o, ((i - 1) / {rows})::int AS round
      FROM generate_series({first}::bigint, {last}) AS i
    ) AS numbered
  ) AS operations
  WHERE op IS NOT NULL
) AS keys
"""

ROWS = """
INSERT INTO account
SELECT id, owner, balance, status FROM (
  SELECT DISTINCT ON (pgh_obj_id) pgh_op, id, owner, balance, status
  FROM account_event WHERE pgh_id > {events} - 2 * {rows}
  ORDER BY pgh_obj_id, pgh_id DESC
) AS last WHERE pgh_op <> 'D'
"""

CONTEXTS = """
INSERT INTO pghistory_context (id, created_at, updated_at, metadata)
SELECT {context_id}, at, at, jsonb_build_object('user', k % 1000, 'url', '/rows/' || k)
FROM generate_series(0, {events}::bigint / 10) AS k,
  LATERAL (
    SELECT timestamptz '{start}' + k * 10 * (interval '{days} days' / {events}) AS at
  ) AS times
"""


def fill(engine: Engine, base: Any, events: int) -> None:
    """Create the tables, and make all events, contexts and rows.

    :param base: of the models of ``benchmarks.partitions``, partitioned.
    :param events: a multiple of 40; some are left out, of rows that are deleted.
    """
    values = {
        "start": START.isoformat(),
        "start_ms": int(START.timestamp() * 1000),
        "days": DAYS,
        "events": events,
        "rows": events // EVENTS_OF_ROW,
    }
    base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        _fill_events(connection, values, events)
        _fill_contexts(connection, values)
        for statement in (
            "ALTER TABLE account DISABLE TRIGGER USER",
            ROWS.format(**values),
            "ALTER TABLE account ENABLE TRIGGER USER",
            f"SELECT setval('pghistory_id_seq', {events})",
        ):
            connection.execute(text(statement))
        # It closes the partitions that have an end.
        history.partitions(engine, base)
        connection.execute(text("VACUUM ANALYZE"))


def _fill_events(connection: Connection, values: dict[str, Any], events: int) -> None:
    """Make a table of each month, and attach it: its indexes are made at once."""
    connection.execute(text("DROP TABLE account_event_p1"))
    width = events // MONTHS
    bounds = [1 + width * month for month in range(MONTHS)]
    # The last one is open, and has the events of a week.
    open_from = events - width // 4
    uppers = [*bounds[1:], open_from]
    for lower, upper in [*zip(bounds, uppers, strict=True), (open_from, None)]:
        partition = f"account_event_p{lower}"
        made = values | {
            "partition": partition,
            "context_id": CONTEXT_ID.format(**values, context="(i / 10)"),
            "first": lower,
            "last": events if upper is None else upper - 1,
        }
        end = "MAXVALUE" if upper is None else upper
        for statement in (
            f"CREATE TABLE {partition} (LIKE account_event INCLUDING DEFAULTS)",
            EVENTS.format(**made),
            f"ALTER TABLE account_event ATTACH PARTITION {partition}"
            f" FOR VALUES FROM ({lower}) TO ({end})",
        ):
            connection.execute(text(statement))


def _fill_contexts(connection: Connection, values: dict[str, Any]) -> None:
    connection.execute(text("DROP TABLE pghistory_context_p1"))
    times = [START + timedelta(days=30 * month) for month in range(1, MONTHS + 1)]
    ids = [f"'{uuid.UUID(int=bound_at(time))}'" for time in times]
    lowers, uppers = ["MINVALUE", *ids], [*ids, "MAXVALUE"]
    names = ["1", *(f"{time:%Y%m%d}" for time in times)]
    for name, lower, upper in zip(names, lowers, uppers, strict=True):
        connection.execute(
            text(
                f"CREATE TABLE pghistory_context_p{name} PARTITION OF pghistory_context"
                f" FOR VALUES FROM ({lower}) TO ({upper})"
            )
        )
    contexts = CONTEXTS.format(
        **values, context_id=CONTEXT_ID.format(**values, context="k")
    )
    connection.execute(text(contexts))
