"""What a role may do in a database, as it stands in PostgreSQL's catalog."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, Connection, CursorResult, Text, bindparam, text

from sa_history.sql import catalog_queries as catalog


@dataclass(frozen=True)
class Grant:
    """A privilege that the owner of an object has granted.

    :param kind: ``"TABLE"``, ``"SEQUENCE"``, ``"FUNCTION"`` or ``"SCHEMA"``.
    :param schema: its schema, or itself.
    :param name: in its schema; empty for the schema itself.
    :param column: the column it is for, empty for all.
    :param privilege: such as ``"SELECT"``.
    :param to_public: whether all have it.
    :param is_grantable: whether it may be granted to others.
    """

    kind: str
    schema: str
    name: str
    column: str
    privilege: str
    to_public: bool
    is_grantable: bool


Named: TypeAlias = tuple[str, str, str]
"""A kind as in GRANT, a schema, and a name in it."""


def role_problem(
    connection: Connection, role: str, named: Iterable[Named]
) -> str | None:
    """Return why a role cannot be kept from objects, or None if it can."""
    found = _of_role(connection, catalog.ROLE, role, named).first()
    if found is None:
        return "does not exist; create it first"
    if found.is_superuser:
        return "is a superuser, which may do anything; give the application another"
    if found.superuser is not None:
        return (
            f"is a member of {found.superuser}, a superuser, which may do anything; "
            "give the application another role"
        )
    if found.owns:
        return (
            f"owns {', '.join(found.owns)}, and an owner may do anything; give the "
            "application another role"
        )
    return None


def read_grants(
    connection: Connection, role: str, named: Iterable[Named]
) -> list[Grant]:
    """Read the grants of the owners of objects to a role and to PUBLIC."""
    found: Iterable[Any] = _of_role(connection, catalog.GRANTS, role, named)
    return [Grant(*row) for row in found]


def still_granted(
    connection: Connection, role: str, privileges: Iterable[tuple[Named, str]]
) -> list[str]:
    """Return the privileges that a role has in any way, in words.

    :param privileges: what to look for, as the query ``STILL`` explains it.
    """
    listed = list(privileges)
    found = _of_role(
        connection,
        catalog.STILL,
        role,
        [named for named, _ in listed],
        privileges=[privilege for _, privilege in listed],
    )
    return list(found.scalars())


def _of_role(
    connection: Connection,
    query: str,
    role: str,
    named: Iterable[Named],
    **arrays: list[str],
) -> CursorResult[Any]:
    listed = list(named)
    for number, array in enumerate(("kinds", "schemas", "names")):
        arrays[array] = [each[number] for each in listed]
    statement = text(query).bindparams(
        *(bindparam(name, type_=ARRAY(Text)) for name in arrays)
    )
    return connection.execute(statement, {"role": role, **arrays})
