"""Eight questions to a history: live, and to its archive by DuckDB and Apache Spark.

Each answer is a list of rows in some order, of values that all of them have alike.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

import sa_history as history
import sa_history.spark as history_spark
from sa_history import AggregateEvent

Rows = list[tuple[Any, ...]]

VALUES = ("id", "owner", "balance", "status")
EVENT = ("pgh_id", "pgh_op", "pgh_label", "pgh_old_key", *VALUES)

QUESTIONS = (
    "events of an object",
    "diffs of an object",
    "a row as of",
    "all rows as of",
    "all diffs",
    "events a month by user",
    "a transaction",
    "a context",
)
"""What is asked; each is a method of those that answer, with ``_`` for blanks."""

ALL_DIFFS = """
SELECT pgh_op, count(*) AS events,
  sum(CAST(CAST('x' || substr(md5(said), 1, 8) AS bit(32)) AS bigint)) AS digest
FROM (
  SELECT pgh_op, concat_ws(' ', CAST(pgh_id AS text), {changed}) AS said
  FROM (
  SELECT pgh_id, pgh_op, looks, {values}, {previous}
  FROM (
    SELECT pgh_obj_id AS key, pgh_id, pgh_op, {values}, pgh_old_key IS NULL AS looks
    FROM account_event
    UNION ALL
    SELECT CAST(pgh_old_key->>0 AS int), pgh_id, pgh_op, {values}, true
    FROM account_event WHERE pgh_old_key IS NOT NULL
  ) AS by_key
  WINDOW before AS (PARTITION BY key ORDER BY pgh_id)
  ) AS events
  WHERE looks
) AS texts
GROUP BY pgh_op
"""
"""By a window, as the library's own list of all events looks up each one before.

An event that changed the key is there under the old key as well, where it comes after
the last event of its row. What comes after it there is an INSERT, which begins anew.
"""

ALL_ROWS = """
SELECT {values} FROM (
  SELECT DISTINCT ON (key) * FROM (
    SELECT pgh_obj_id AS key, pgh_id, pgh_op, {values}, false AS is_left
    FROM account_event WHERE pgh_created_at <= :when
    UNION ALL
    SELECT CAST(pgh_old_key->>0 AS int), pgh_id, pgh_op, {values}, true
    FROM account_event WHERE pgh_old_key IS NOT NULL AND pgh_created_at <= :when
  ) AS by_key
  ORDER BY key, pgh_id DESC
) AS last
WHERE NOT is_left AND pgh_op <> 'D'
"""
"""As one would write it by hand for all rows of a table.

``history.as_of`` takes longer for all of 20 million events with changed keys: it looks
for each row whether it has left its key, which is quick for some rows.
"""

_CHANGED = [
    f"CASE WHEN previous_pgh_id IS NOT NULL AND {name} <> previous_{name}"
    f" THEN CAST({value} AS VARCHAR(100)) END"
    for name in VALUES
    for value in (f"previous_{name}", name)
]
SAID = f"concat_ws(' ', CAST(pgh_id AS VARCHAR(100)), {', '.join(_CHANGED)})"
"""What an event changed, in the SQL of DuckDB and of Spark."""

BY_MONTH = """
SELECT to_char(e.pgh_created_at AT TIME ZONE 'UTC', 'YYYY-MM'), c.metadata->>'user',
  count(*)
FROM account_event AS e LEFT JOIN pghistory_context AS c ON c.id = e.pgh_context_id
GROUP BY 1, 2
"""


@dataclass(frozen=True)
class About:
    """What the questions are about.

    :param key: the key of an object.
    :param when: a point in time.
    :param transaction: the number of a transaction.
    :param context: the id of a context.
    """

    key: int
    when: datetime.datetime
    transaction: int
    context: str


def choose(session: Session, account: Any, events: int) -> About:
    """Return what to ask about, of a history of that many events.

    The object's key was left by one row and taken by another one.
    """
    table = account.events.table
    middle = session.execute(
        select(table.c.pgh_created_at, table.c.pgh_xact_id, table.c.pgh_context_id)
        .where(table.c.pgh_id >= events * 2 // 3, table.c.pgh_context_id.is_not(None))
        .order_by(table.c.pgh_id)
        .limit(1)
    ).one()
    return About(1, middle[0], middle[1], str(middle[2]))


def _select_events(session: Session, account: Any, column: str, value: Any) -> Rows:
    """Return the events with a value, by a session of either database."""
    table = account.events.table
    columns = [table.c[name] for name in EVENT]
    found = session.execute(
        select(*columns, table.c.pgh_created_at).where(table.c[column] == value)
    )
    return [(*row[:-1], _microseconds(row[-1])) for row in found]


@dataclass(frozen=True)
class ByPostgreSQL:
    """Asks the live history, by the library where it has the question.

    :param session: the database.
    :param account: the tracked class.
    :param about: what is asked about.
    """

    session: Session
    account: Any
    about: About

    def _events(self, column: str, value: Any) -> Rows:
        return _select_events(self.session, self.account, column, value)

    def events_of_an_object(self) -> Rows:
        """Return the events that have the object's key."""
        return self._events("pgh_obj_id", self.about.key)

    def diffs_of_an_object(self) -> Rows:
        """Return what they changed."""
        target = self.account, self.about.key
        found = self.session.execute(AggregateEvent.select(target))
        return [(row.pgh_id, _sorted(row.pgh_diff or {})) for row in found]

    def a_row_as_of(self) -> Rows:
        """Return the row that had the key."""
        with history.as_of(self.session, self.about.when) as past:
            row = past.get(self.account, self.about.key)
            return [tuple(getattr(row, name) for name in VALUES)] if row else []

    def all_rows_as_of(self) -> Rows:
        """Return all rows."""
        statement = text(ALL_ROWS.format(values=", ".join(VALUES)))
        found = self.session.execute(statement, {"when": self.about.when})
        return [tuple(row) for row in found]

    def all_diffs(self) -> Rows:
        """Return, for each operation, a digest of what all events changed."""
        statement = ALL_DIFFS.format(
            values=", ".join(VALUES),
            previous=", ".join(
                f"lag({name}) OVER before AS previous_{name}" for name in VALUES
            ),
            changed=", ".join(
                f"CASE WHEN pgh_op <> 'I' AND {name} <> previous_{name}"
                f" THEN CAST({value} AS text) END"
                for name in VALUES
                for value in (f"previous_{name}", name)
            ),
        )
        return [tuple(row) for row in self.session.execute(text(statement))]

    def events_a_month_by_user(self) -> Rows:
        """Return how many events each user made in each month."""
        return [tuple(row) for row in self.session.execute(text(BY_MONTH))]

    def a_transaction(self) -> Rows:
        """Return the events of one transaction."""
        return self._events("pgh_xact_id", self.about.transaction)

    def a_context(self) -> Rows:
        """Return the events of one context."""
        return self._events("pgh_context_id", self.about.context)


@dataclass(frozen=True)
class ByDuckDB:
    """Asks the archive, together with the live events, by DuckDB.

    What is asked of all events is asked in SQL, of the views that the archive gives.

    :param archive: the archive, as ``history.archived`` returns it.
    :param connection: a connection of DuckDB with the views of the archive.
    :param account: the tracked class.
    :param about: what is asked about.
    """

    archive: Any
    connection: Any
    account: Any
    about: About

    def _of_events(self, found: Iterable[Any]) -> Rows:
        return [
            (
                *(getattr(event, name) for name in EVENT),
                _microseconds(event.pgh_created_at),
            )
            for event in found
        ]

    def _events(self, column: str, value: Any) -> Rows:
        return _select_events(self.archive.session, self.account, column, value)

    def events_of_an_object(self) -> Rows:
        """Return the events that have the object's key."""
        return self._of_events(self.archive.events(self.account, self.about.key))

    def diffs_of_an_object(self) -> Rows:
        """Return what they changed."""
        found = self.archive.aggregate((self.account, self.about.key))
        return [(row.pgh_id, _sorted(row.pgh_diff or {})) for row in found]

    def a_row_as_of(self) -> Rows:
        """Return the row that had the key."""
        row = self.archive.as_of(self.about.when).get(self.account, self.about.key)
        return [tuple(getattr(row, name) for name in VALUES)] if row else []

    def all_rows_as_of(self) -> Rows:
        """Return all rows."""
        columns = [getattr(self.account, name) for name in VALUES]
        past = self.archive.as_of(self.about.when)
        return [tuple(row) for row in past.execute(select(*columns))]

    def all_diffs(self) -> Rows:
        """Return, for each operation, a digest of what all events changed."""
        return self._sql(
            f"""
            SELECT pgh_op, count(*),
              CAST(sum(CAST('0x' || substr(md5({SAID}), 1, 8) AS BIGINT)) AS BIGINT)
            FROM account_event_with_previous GROUP BY pgh_op
            """
        )

    def events_a_month_by_user(self) -> Rows:
        """Return how many events each user made in each month."""
        return self._sql(
            """
            SELECT strftime(pgh_created_at, '%Y-%m'), pgh_context ->> '$.user', count(*)
            FROM account_event_with_context GROUP BY ALL
            """
        )

    def _sql(self, statement: str) -> Rows:
        found: Rows = self.connection.sql(statement).fetchall()
        return found

    def a_transaction(self) -> Rows:
        """Return the events of one transaction."""
        return self._events("pgh_xact_id", self.about.transaction)

    def a_context(self) -> Rows:
        """Return the events of one context."""
        return self._events("pgh_context_id", self.about.context)


@dataclass(frozen=True)
class BySpark:
    """Asks the archive, with the part that is open, by Apache Spark.

    :param spark: the session of Spark.
    :param archive: the folder.
    :param account: the tracked class.
    :param about: what is asked about.
    """

    spark: Any
    archive: str
    account: Any
    about: About

    def _events(self, criterion: str) -> Rows:
        found = history_spark.events(self.spark, self.archive, self.account)
        chosen = found.where(criterion).selectExpr(
            *EVENT, "unix_micros(pgh_created_at) AS made"
        )
        rows = [row.asDict() for row in chosen.collect()]
        for row in rows:
            old = row["pgh_old_key"]
            row["pgh_old_key"] = None if old is None else json.loads(old)
        return [tuple(row.values()) for row in rows]

    def events_of_an_object(self) -> Rows:
        """Return the events that have the object's key."""
        return self._events(f"pgh_obj_id = {self.about.key}")

    def diffs_of_an_object(self) -> Rows:
        """Return what they changed."""
        found = history_spark.diffs(self.spark, self.archive, self.account)
        rows = found.where(f"pgh_obj_id = {self.about.key}").collect()
        return [(row["pgh_id"], _sorted(_changed(row.asDict()))) for row in rows]

    def a_row_as_of(self) -> Rows:
        """Return the row that had the key."""
        return self._as_of(f"id = {self.about.key}")

    def all_rows_as_of(self) -> Rows:
        """Return all rows."""
        return self._as_of("true")

    def _as_of(self, criterion: str) -> Rows:
        found = history_spark.as_of(
            self.spark, self.archive, self.account, self.about.when
        )
        return [tuple(row) for row in found.where(criterion).select(*VALUES).collect()]

    def all_diffs(self) -> Rows:
        """Return, for each operation, a digest of what all events changed."""
        found = history_spark.diffs(self.spark, self.archive, self.account)
        digest = f"sum(CAST(conv(substr(md5({SAID}), 1, 8), 16, 10) AS BIGINT))"
        rows = found.groupBy("pgh_op").agg(
            *_expressions("count(*) AS events", f"{digest} AS digest")
        )
        return [tuple(row) for row in rows.collect()]

    def events_a_month_by_user(self) -> Rows:
        """Return how many events each user made in each month."""
        found = history_spark.events(
            self.spark, self.archive, self.account, with_context=True
        )
        rows = found.selectExpr(
            "date_format(pgh_created_at, 'yyyy-MM') AS month",
            "get_json_object(pgh_context, '$.user') AS user",
        )
        counted = rows.groupBy("month", "user").count()
        return [tuple(row) for row in counted.collect()]

    def a_transaction(self) -> Rows:
        """Return the events of one transaction."""
        return self._events(f"pgh_xact_id = {self.about.transaction}")

    def a_context(self) -> Rows:
        """Return the events of one context."""
        return self._events(f"pgh_context_id = '{self.about.context}'")


def _expressions(*expressions: str) -> list[Any]:
    from pyspark.sql.functions import expr

    return [expr(expression) for expression in expressions]


def _changed(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row of diffs that changed, each with both values."""
    if row["previous_pgh_id"] is None:
        return {}
    pairs = {name: [row[f"previous_{name}"], row[name]] for name in VALUES}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _sorted(diff: dict[str, Sequence[Any]]) -> str:
    return json.dumps(diff, sort_keys=True)


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _microseconds(time: datetime.datetime) -> int:
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)


def in_order(rows: Iterable[tuple[Any, ...]]) -> Rows:
    """Return rows in an order that does not depend on who gave them."""
    return sorted(rows, key=repr)


def answer(asked: Any, question: str) -> Rows:
    """Return the answer to one of :data:`QUESTIONS`."""
    found: Rows = getattr(asked, question.replace(" ", "_"))()
    return found
