"""What a table has besides its rows, read so that another table can get it.

A table that becomes partitioned is a partition of a new table, which takes its name and
all that the old table had: owner, grants, comment, indexes, triggers, foreign keys,
views that read it, sequences that it owns, and the targets of its statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from sa_history.ddl.elements import Statement, drop_trigger, switch_trigger
from sa_history.ddl.partitions import comment_on_table, revoke_all
from sa_history.sql import table_queries as queries
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Idents,
    Joined,
    Literal,
    Qualified,
    Raw,
)


@dataclass(frozen=True)
class TableProperties:
    """What a table has, as it was when it was read.

    :param name: the table, with its schema.
    :param own: the row of the query ``TABLE``.
    :param grants: the rows of the query ``GRANTS``, as are the others of theirs.
    :param indexes: its indexes, those of constraints among them.
    :param foreign_keys: the foreign keys that refer to it.
    :param own_foreign_keys: its own foreign keys.
    :param triggers: its triggers.
    :param views: the views that read it.
    :param sequences: the sequences that its columns own.
    :param statistics: the columns with a target of their own.
    """

    name: Qualified
    own: Row[Any]
    grants: Sequence[Row[Any]]
    indexes: Sequence[Row[Any]]
    foreign_keys: Sequence[Row[Any]]
    own_foreign_keys: Sequence[Row[Any]]
    triggers: Sequence[Row[Any]]
    views: Sequence[Row[Any]]
    sequences: Sequence[Row[Any]]
    statistics: Sequence[Row[Any]]

    def create_indexes(self) -> list[Fragment]:
        """Return the statements that create its indexes on the table of its name."""
        statements: list[Fragment] = []
        for index in self.indexes:
            if index.constraint_name is None:
                statements.append(Raw(index.definition))
            else:
                statements.append(
                    _alter(
                        self.name,
                        Raw("ADD CONSTRAINT "),
                        Ident(index.constraint_name),
                        Raw(f" {index.constraint_definition}"),
                    )
                )
            statements += self._comment_on_index(index)
        return statements

    def _comment_on_index(self, index: Row[Any]) -> list[Fragment]:
        if index.comment is None:
            return []
        name = Qualified(self.name.schema, index.name)
        return [
            Joined(
                (Raw("COMMENT ON INDEX "), name, Raw(" IS "), Literal(index.comment))
            )
        ]

    def create_own_foreign_keys(self) -> list[Fragment]:
        """Return the statements that create the foreign keys of the table."""
        return [
            _alter(
                self.name,
                Raw("ADD CONSTRAINT "),
                Ident(key.constraint_name),
                Raw(f" {key.definition}"),
            )
            for key in self.own_foreign_keys
        ]

    def drop_row_triggers(self, table: Qualified) -> list[Fragment]:
        """Return the statements that drop the triggers for each row from a table."""
        return [drop_trigger(table, t.name) for t in self.triggers if t.is_for_rows]

    def create_triggers(self) -> list[Fragment]:
        """Return the statements that create the triggers, as enabled as they were."""
        statements: list[Fragment] = []
        for trigger in self.triggers:
            statements.append(Raw(trigger.definition))
            if trigger.enabled != "O":
                switch = switch_trigger(self.name, trigger.name, trigger.enabled)
                statements.append(switch)
            if trigger.comment is not None:
                on_table = (Ident(trigger.name), Raw(" ON "), self.name)
                comment = (Raw(" IS "), Literal(trigger.comment))
                statements.append(
                    Joined((Raw("COMMENT ON TRIGGER "), *on_table, *comment))
                )
        return statements

    def replace_views(self) -> list[Fragment]:
        """Return the statements by which the views read the table of its name."""
        statements: list[Fragment] = []
        for view in self.views:
            options = f" WITH ({', '.join(view.options)})" if view.options else ""
            name = Qualified(view.schema, view.name)
            parts = (Raw("CREATE OR REPLACE VIEW "), name)
            # Its options are names of PostgreSQL with true, false or a word.
            statements.append(Joined((*parts, Raw(f"{options} AS {view.definition}"))))
        return statements

    def give(self, unwanted: Iterable[str | None]) -> list[Fragment]:
        """Return the statements that give the table of its name what is left.

        :param unwanted: the roles that have a privilege on that table by default; None
            for PUBLIC.
        """
        statements = [revoke_all(self.name, role) for role in unwanted]
        statements += [self._grant(grant) for grant in self.grants]
        if self.own.comment is not None:
            statements.append(comment_on_table(self.name, self.own.comment))
        for column in self.statistics:
            statements.append(
                _alter(
                    self.name,
                    Raw("ALTER COLUMN "),
                    Ident(column.name),
                    Raw(f" SET STATISTICS {column.target}"),
                )
            )
        for sequence in self.sequences:
            statements.append(
                Joined(
                    (
                        Raw("ALTER SEQUENCE "),
                        Qualified(sequence.schema, sequence.name),
                        Raw(" OWNED BY "),
                        self.name,
                        Raw("."),
                        Ident(sequence.column_name),
                    )
                )
            )
        if self.own.tablespace is not None:
            place = Ident(self.own.tablespace)
            statements.append(_alter(self.name, Raw("SET TABLESPACE "), place))
        # At last, since who is not the owner may do none of the above.
        owner = Ident(self.own.owner)
        statements.append(_alter(self.name, Raw("OWNER TO "), owner))
        return statements

    def _grant(self, grant: Row[Any]) -> Fragment:
        columns: tuple[Fragment, ...] = ()
        if grant.column_name is not None:
            columns = (Raw(" ("), Idents((grant.column_name,)), Raw(")"))
        role = Raw("PUBLIC") if grant.grantee is None else Ident(grant.grantee)
        option = " WITH GRANT OPTION" if grant.is_grantable else ""
        return Joined(
            (
                Raw(f"GRANT {grant.privilege}"),
                *columns,
                Raw(" ON TABLE "),
                self.name,
                Raw(" TO "),
                role,
                Raw(option),
            )
        )


def drop_foreign_keys(keys: Sequence[Row[Any]]) -> list[Fragment]:
    """Return the statements that drop foreign keys which refer to a table.

    :param keys: rows of the query ``FOREIGN_KEYS``.
    """
    return [
        _alter(
            Qualified(key.schema, key.name),
            Raw("DROP CONSTRAINT "),
            Ident(key.constraint_name),
        )
        for key in keys
    ]


def create_foreign_keys(keys: Sequence[Row[Any]]) -> list[Fragment]:
    """Return the statements that create foreign keys again, not validated yet.

    :param keys: rows of the query ``FOREIGN_KEYS``, read by the same ``search_path``.
    """
    return [
        _alter(
            Qualified(key.schema, key.name),
            Raw("ADD CONSTRAINT "),
            Ident(key.constraint_name),
            Raw(f" {key.definition}"),
            # PostgreSQL writes it in the definition of one that is not validated.
            Raw(" NOT VALID" if key.is_validated else ""),
        )
        for key in keys
    ]


def _alter(table: Qualified, *action: Fragment) -> Fragment:
    return Joined((Raw("ALTER TABLE "), table, Raw(" "), *action))


def read_table(connection: Connection, name: Qualified) -> Row[Any] | None:
    """Return the row of the query ``TABLE``, or None if there is no such table."""
    parameters = {"schema": name.schema, "name": name.name}
    return connection.execute(text(queries.TABLE), parameters).first()


def read_copied_columns(connection: Connection, name: Qualified) -> list[str]:
    """Return the names of the columns of a table that a copy of a row has to name.

    They may be more than those of the model, as others add some.
    """
    parameters = {"schema": name.schema, "name": name.name}
    return list(connection.scalars(text(queries.COPIED_COLUMNS), parameters))


@contextmanager
def disabled_triggers(connection: Connection, name: Qualified) -> Iterator[None]:
    """Run a block in a transaction in which the triggers of a table are disabled."""
    parameters = {"schema": name.schema, "name": name.name}
    triggers = connection.execute(text(queries.ENABLED_TRIGGERS), parameters).all()
    for trigger in triggers:
        connection.execute(Statement(switch_trigger(name, trigger.name, "D")))
    yield
    if triggers:
        # PostgreSQL alters no table with checks of foreign keys that are deferred.
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    for trigger in triggers:
        back = switch_trigger(name, trigger.name, trigger.enabled)
        connection.execute(Statement(back))


def read_properties(connection: Connection, name: Qualified) -> TableProperties:
    """Read what a table has; it has to be there, and locked.

    The transaction's ``search_path`` is empty from then on, so that definitions name
    the schema of everything.
    """
    connection.execute(text("SET LOCAL search_path = pg_catalog, pg_temp"))
    own = read_table(connection, name)
    assert own is not None

    def rows(query: str) -> Sequence[Row[Any]]:
        return connection.execute(text(query), {"oid": own.oid}).all()

    return TableProperties(
        name,
        own,
        grants=rows(queries.GRANTS),
        indexes=rows(queries.INDEXES),
        foreign_keys=rows(queries.FOREIGN_KEYS),
        own_foreign_keys=rows(queries.OWN_FOREIGN_KEYS),
        triggers=rows(queries.TRIGGERS),
        views=rows(queries.VIEWS),
        sequences=rows(queries.SEQUENCES),
        statistics=rows(queries.STATISTICS),
    )


def read_foreign_keys(connection: Connection, name: Qualified) -> Sequence[Row[Any]]:
    """Return the rows of the query ``FOREIGN_KEYS`` for a table."""
    own = read_table(connection, name)
    assert own is not None
    return connection.execute(text(queries.FOREIGN_KEYS), {"oid": own.oid}).all()


def validate_constraint(table: Qualified, constraint: str) -> Fragment:
    """Return the statement that validates a constraint, while others write."""
    return _alter(table, Raw("VALIDATE CONSTRAINT "), Ident(constraint))


def grantees_of(connection: Connection, name: Qualified) -> list[str | None]:
    """Return the roles, but the owner, with a privilege on a table; None for PUBLIC."""
    own = read_table(connection, name)
    assert own is not None
    found = connection.execute(text(queries.GRANTS), {"oid": own.oid})
    return list(dict.fromkeys(row.grantee for row in found))


def rename_table(table: Qualified, name: str) -> Fragment:
    """Return the statement that gives a table another name in its schema."""
    return _alter(table, Raw("RENAME TO "), Ident(name))


def rename_index(table: Qualified, index: Row[Any], name: str) -> Fragment:
    """Return the statement that gives an index, or its constraint, another name.

    :param table: the table that has the index.
    :param index: a row of the query ``INDEXES``.
    """
    if index.constraint_name is not None:
        old = Ident(index.constraint_name)
        return _alter(table, Raw("RENAME CONSTRAINT "), old, Raw(" TO "), Ident(name))
    return Joined(
        (
            Raw("ALTER INDEX "),
            Qualified(table.schema, index.name),
            Raw(" RENAME TO "),
            Ident(name),
        )
    )
