"""Partitions by range: their bounds as numbers, their DDL, and those in the catalog.

A table is partitioned by a column of ``bigint`` or of ``uuid``. Bounds are numbers in
either case, so that they can be compared and counted; a UUID is one of 128 bits.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from sa_history.ddl.elements import PGTrigger
from sa_history.ddl.fingerprint import PREFIX, fingerprint_expression
from sa_history.sql import catalog_queries as catalog
from sa_history.sql.compose import (
    DollarQuoted,
    Fragment,
    Ident,
    Joined,
    Qualified,
    Raw,
    RegClass,
    Rendered,
)
from sa_history.sql.compose import Literal as LiteralText

TIME_CHECK = "pgh_time_check"
"""The constraint of a closed partition: between which times its rows were made.

It lets a query of a time range leave out the partition.
"""

REMOVED = "To be dropped by sa_history: "
"""How the comment on a partition begins that is being removed.

By it the partition is found again, also when it is a table of its own already.
"""

KeyType = Literal["bigint", "uuid"]
"""The type of a column by which a table is partitioned."""


@dataclass(frozen=True)
class RangePartition:
    """A partition of a table, as it is in the catalog.

    :param name: with its schema.
    :param kind: of the relation, as in ``pg_class.relkind``; ``"r"`` for a table.
    :param lower: the lowest key; None if there is no lower bound.
    :param upper: the first key that is too high; None if there is no upper bound.
    :param is_default: True for a DEFAULT partition, and for any whose bounds are no
        range of numbers or of UUIDs.
    :param is_detaching: True if a DETACH CONCURRENTLY of it was interrupted.
    :param is_validated: True if all rows are known to meet its time check; None if it
        has none.
    :param since: the earliest time of a row; None if it has no time check.
    :param until: the latest time of a row; None if it has no time check.
    :param owner: the owner of the partitioned table; None if that is its owner, too.
    :param grantees: the roles with a privilege on it, other than its owner; None for
        PUBLIC.
    :param comment: the comment on it; None if it has none.
    """

    name: Qualified
    kind: str
    lower: int | None
    upper: int | None
    is_default: bool = False
    is_detaching: bool = False
    is_validated: bool | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    owner: str | None = None
    grantees: tuple[str | None, ...] = ()
    comment: str | None = None

    @property
    def is_tail(self) -> bool:
        """True if it takes all keys from its lower bound on."""
        return self.upper is None and not self.is_default

    @property
    def is_closed(self) -> bool:
        """True if no more rows come, and the times of its rows are known."""
        return bool(self.is_validated) and None not in (self.since, self.until)

    @property
    def is_going(self) -> bool:
        """True if its removal has begun."""
        return self.is_detaching or (self.comment or "").startswith(REMOVED)


@dataclass(frozen=True)
class PartitionedTable:
    """A table that is partitioned by range.

    :param name: with its schema.
    :param key: the column by which it is partitioned.
    :param key_type: the type of that column.
    """

    name: Qualified
    key: str
    key_type: KeyType

    @property
    def partition_by(self) -> str:
        """The text between ``PARTITION BY`` and the end of CREATE TABLE."""
        return f"RANGE ({self.key})"

    def bounds(self, lower: int | None, upper: int | None) -> Fragment:
        """Return the bounds of a partition.

        :param lower: the lowest key; None for no lower bound.
        :param upper: the first key that is too high; None for no upper bound.
        """
        return Joined(
            (
                Raw("FOR VALUES FROM ("),
                Raw("MINVALUE") if lower is None else self.value(lower),
                Raw(") TO ("),
                Raw("MAXVALUE") if upper is None else self.value(upper),
                Raw(")"),
            )
        )

    def value(self, number: int) -> Fragment:
        """Return a key as a constant."""
        value = self.text(number)
        return LiteralText(value) if self.key_type == "uuid" else Raw(value)

    def text(self, number: int) -> str:
        """Return a key as PostgreSQL writes it."""
        if self.key_type == "uuid":
            return str(uuid.UUID(int=number))
        return str(number)

    def number(self, key: str) -> int:
        """Return a key, given as PostgreSQL writes it, as a number."""
        return uuid.UUID(key).int if self.key_type == "uuid" else int(key)

    def create(
        self, partition: Qualified, lower: int | None, upper: int | None
    ) -> Fragment:
        """Return the CREATE TABLE of a partition; it locks out all other sessions."""
        return Joined(
            (
                Raw("CREATE TABLE "),
                partition,
                Raw(" PARTITION OF "),
                self.name,
                Raw(" "),
                self.bounds(lower, upper),
            )
        )

    def create_alike(self, table: Qualified, *, has_indexes: bool = True) -> Fragment:
        """Return the CREATE TABLE of a table that can become a partition.

        :param has_indexes: False to have them built when it is attached.
        """
        what = "ALL" if has_indexes else "ALL EXCLUDING INDEXES"
        return Joined(
            (
                Raw("CREATE TABLE "),
                table,
                Raw(" (LIKE "),
                self.name,
                Raw(f" INCLUDING {what})"),
            )
        )

    def attach(
        self, table: Qualified, lower: int | None, upper: int | None
    ) -> Fragment:
        """Return the statement that makes a table a partition."""
        return Joined(
            (
                Raw("ALTER TABLE "),
                self.name,
                Raw(" ATTACH PARTITION "),
                table,
                Raw(" "),
                self.bounds(lower, upper),
            )
        )

    def detach(
        self, partition: Qualified, how: Literal["", "CONCURRENTLY", "FINALIZE"] = ""
    ) -> Fragment:
        """Return the statement that makes a partition a table of its own."""
        return Joined(
            (
                Raw("ALTER TABLE "),
                self.name,
                Raw(" DETACH PARTITION "),
                partition,
                Raw(f" {how}" if how else ""),
            )
        )


def comment_on_table(table: Qualified, comment: str) -> Fragment:
    """Return the statement that sets the comment on a table."""
    return Joined((Raw("COMMENT ON TABLE "), table, Raw(" IS "), LiteralText(comment)))


def comment_on_partitions(table: Qualified, before: str, after: str) -> Fragment:
    """Return the statement that gives the partitions of a table another comment.

    It finds the partitions when it runs. Those whose comment is another one keep it.

    :param table: the partitioned table.
    :param before: the comment of the partitions.
    :param after: the comment that they get.
    """
    return _for_partitions(
        table,
        Raw("format('COMMENT ON TABLE %s IS %L', partition, ")
        + LiteralText(after)
        + Raw(")"),
        Raw("\n    AND pg_catalog.obj_description(inhrelid, 'pg_class') = ")
        + LiteralText(before),
    )


def lock_table(table: Qualified, mode: str, *, recurse: bool = True) -> Fragment:
    """Return the statement that locks a table until the end of the transaction.

    :param mode: such as ``"SHARE"``.
    :param recurse: whether the partitions of the table are locked as well.
    """
    only = "" if recurse else "ONLY "
    return Joined((Raw(f"LOCK TABLE {only}"), table, Raw(f" IN {mode} MODE")))


def drop_table(table: Qualified) -> Fragment:
    """Return the statement that drops a table, with its partitions."""
    return Joined((Raw("DROP TABLE "), table))


def drop_trigger_of_partitions(table: Qualified, trigger: str) -> Fragment:
    """Return the statement that drops a trigger from all partitions of a table.

    It finds the partitions when it runs.

    :param table: the partitioned table.
    :param trigger: the name of the trigger.
    """
    return _for_partitions(
        table,
        Raw("format('DROP TRIGGER IF EXISTS %I ON %s', ")
        + LiteralText(trigger)
        + Raw(", partition)"),
    )


def _for_partitions(
    table: Qualified, statement: Fragment, criterion: Fragment | None = None
) -> Fragment:
    """Return the statement that executes one for each partition of a table.

    :param statement: an expression of its text, in which ``partition`` is a regclass.
    :param criterion: what stands behind WHERE about ``inhrelid``; None for nothing.
    """
    body = Joined(
        (
            Raw(
                "\nDECLARE\n  partition regclass;\nBEGIN\n"
                "  FOR partition IN SELECT inhrelid FROM pg_catalog.pg_inherits\n"
                "    WHERE inhparent = "
            ),
            RegClass(table),
            criterion or Raw(""),
            Raw("\n  LOOP\n    EXECUTE "),
            statement,
            Raw(";\n  END LOOP;\nEND\n"),
        )
    )
    return Raw("DO ") + DollarQuoted(body)


def create_trigger_of_partitions(trigger: PGTrigger) -> Fragment:
    """Return the statement that gives all partitions of a table a trigger like its own.

    It finds the partitions when it runs. One that has the trigger already keeps it; one
    that has another trigger of that name lets the statement fail.

    :param trigger: the trigger of the partitioned table.
    """
    created, marked = (
        Joined(
            (
                Rendered(before),
                Raw(" || partition || "),
                Rendered(after),
            )
        )
        for replace in (False, True)
        for before, after in [trigger.around_table(replace)]
    )
    body = Joined(
        (
            Raw(
                "\nDECLARE\n  partition text;\nBEGIN\n"
                "  FOR partition IN\n"
                """    SELECT '"' || replace(n.nspname, '"', '""') || '"."'\n"""
                """      || replace(c.relname, '"', '""') || '"'\n"""
                "    FROM pg_catalog.pg_inherits AS i\n"
                "    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid\n"
                "    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace\n"
                "    WHERE i.inhparent = "
            ),
            RegClass(trigger.table),
            Raw(
                " AND NOT EXISTS (\n"
                "      SELECT FROM pg_catalog.pg_trigger AS t\n"
                "      WHERE t.tgrelid = c.oid AND t.tgname = "
            ),
            LiteralText(trigger.name),
            Raw("\n        AND starts_with(obj_description(t.oid, 'pg_trigger'), "),
            LiteralText(PREFIX),
            Raw(")\n    )\n  LOOP\n    EXECUTE "),
            created,
            Raw(";\n    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', "),
            LiteralText(trigger.name),
            Raw(", partition,\n      "),
            fingerprint_expression(marked),
            Raw(");\n  END LOOP;\nEND\n"),
        )
    )
    return Raw("DO ") + DollarQuoted(body)


def time_check(
    table: Qualified, since: datetime.datetime, until: datetime.datetime
) -> Fragment:
    """Return the statement that adds the time check, for new rows at first.

    :param since: the earliest time of a row.
    :param until: the latest time of a row.
    """
    return Joined(
        (
            Raw("ALTER TABLE "),
            table,
            Raw(f" ADD CONSTRAINT {TIME_CHECK} CHECK (pgh_created_at >= "),
            LiteralText(since.isoformat()),
            Raw(" AND pgh_created_at <= "),
            LiteralText(until.isoformat()),
            Raw(") NOT VALID"),
        )
    )


def validate_time_check(table: Qualified) -> Fragment:
    """Return the statement that has old rows meet the time check."""
    return Joined(
        (Raw("ALTER TABLE "), table, Raw(f" VALIDATE CONSTRAINT {TIME_CHECK}"))
    )


def drop_time_check(table: Qualified) -> Fragment:
    """Return the statement that drops the time check, if there is one."""
    return Joined(
        (Raw("ALTER TABLE "), table, Raw(f" DROP CONSTRAINT IF EXISTS {TIME_CHECK}"))
    )


def change_owner(table: Qualified, owner: str) -> Fragment:
    """Return the statement that gives a table another owner."""
    return Joined((Raw("ALTER TABLE "), table, Raw(" OWNER TO "), Ident(owner)))


def revoke_all(table: Qualified, grantee: str | None) -> Fragment:
    """Return the REVOKE of all privileges on a table.

    :param grantee: the name of the role; None for PUBLIC.
    """
    role = Raw("PUBLIC") if grantee is None else Ident(grantee)
    return Joined((Raw("REVOKE ALL ON TABLE "), table, Raw(" FROM "), role))


def read_partitions_of(
    connection: Connection, table: Qualified
) -> list[RangePartition] | None:
    """Read the partitions of one table, in the order of their bounds, a default last.

    :param table: its name, with the schema.
    :return: None if there is no partitioned table with that name.
    """
    found = read_range_partitions(connection, [str(table.schema)], [table.name])
    return found.get(table)


def read_range_partitions(
    connection: Connection,
    schemas: Sequence[str],
    tables: Collection[str] | None = None,
) -> dict[Qualified, list[RangePartition]]:
    """Read the partitions of the partitioned tables in some schemas.

    :param schemas: the schemas of the partitioned tables.
    :param tables: the names of tables, to read the partitions of no others; None for
        all.
    :return: by the name of the table; in the order of their bounds, a default last.
    """
    statement = text(catalog.RANGE_PARTITIONS).bindparams(
        bindparam("schemas", type_=ARRAY(Text)),
        bindparam("tables", type_=ARRAY(Text)),
    )
    parameters = {
        "schemas": list(schemas),
        "time_check": TIME_CHECK,
        "tables": None if tables is None else list(tables),
    }
    found: dict[Qualified, list[RangePartition]] = {}
    for row in connection.execute(statement, parameters):
        partitions = found.setdefault(Qualified(row.schema, row.name), [])
        if row.partition is not None:
            partitions.append(_partition(row))
    for partitions in found.values():
        partitions.sort(key=_position)
    return found


def read_tables_by_comment(
    connection: Connection, schemas: Sequence[str], comments: Collection[str]
) -> dict[str, list[Qualified]]:
    """Read the tables with some comments, without partitions.

    A partition that was detached is found by it.

    :param schemas: the schemas of the tables.
    :return: the tables by their comments.
    """
    statement = text(catalog.TABLES_BY_COMMENT).bindparams(
        bindparam("schemas", type_=ARRAY(Text)),
        bindparam("comments", type_=ARRAY(Text)),
    )
    parameters = {"schemas": list(schemas), "comments": list(comments)}
    found: dict[str, list[Qualified]] = {}
    for row in connection.execute(statement, parameters):
        found.setdefault(row.comment, []).append(Qualified(row.schema, row.name))
    return found


def _position(partition: RangePartition) -> tuple[bool, bool, int]:
    lower = partition.lower
    return partition.is_default, lower is not None, lower or 0


_KEY = r"'(-?\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'"
_BOUNDS = re.compile(
    rf"FOR VALUES FROM \((?:MINVALUE|{_KEY})\) TO \((?:MAXVALUE|{_KEY})\)"
)
"""Those of a bigint or a uuid; tables of others have other bounds."""


def _partition(row: Any) -> RangePartition:
    bounds = _BOUNDS.fullmatch(row.bounds or "")
    lower, upper = bounds.groups() if bounds else (None, None)
    return RangePartition(
        name=Qualified(row.partition_schema, row.partition),
        kind=row.kind,
        lower=_number(lower),
        upper=_number(upper),
        is_default=bounds is None,
        is_detaching=row.is_detaching,
        is_validated=row.is_validated,
        since=row.since,
        until=row.until,
        owner=row.owner,
        grantees=tuple(row.grantees),
        comment=row.comment,
    )


def _number(bound: str | None) -> int | None:
    if bound is None:
        return None
    return uuid.UUID(bound).int if "-" in bound[1:] else int(bound)
