"""Privileges on objects, as PostgreSQL's catalog has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, Connection, CursorResult, Text, bindparam, text

from sa_history.sql import catalog_queries


@dataclass(frozen=True)
class Grant:
    """A privilege that the owner of an object has granted.

    :param kind: ``"TABLE"``, ``"SEQUENCE"``, ``"FUNCTION"`` or ``"SCHEMA"``.
    :param schema: the schema of the object, or the schema that it is itself.
    :param name: the name in the schema; empty for the schema itself.
    :param column: the column that the privilege is for; empty for the whole object.
    :param privilege: such as ``"SELECT"``.
    :param to_public: whether it is granted to PUBLIC.
    :param is_grantable: whether it is WITH GRANT OPTION.
    """

    kind: str
    schema: str
    name: str
    column: str
    privilege: str
    to_public: bool
    is_grantable: bool


Named: TypeAlias = tuple[str, str, str]
"""An object of GRANT: its kind such as ``"TABLE"``, its schema, and its name in it."""


def role_problem(
    connection: Connection, role: str, named: Iterable[Named]
) -> str | None:
    """Return why privileges cannot keep a role from objects.

    :param role: the name of the role.
    :param named: the objects.
    :return: the rest of a sentence about the role, with what to do; None if
        privileges can keep it from them.
    """
    found = _of_role(connection, catalog_queries.ROLE, role, named).first()
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
    """Read the privileges that owners of objects have granted to a role and to PUBLIC.

    :param role: the name of the role.
    :param named: the objects.
    """
    found: Iterable[Any] = _of_role(connection, catalog_queries.GRANTS, role, named)
    return [Grant(*row) for row in found]


def still_granted(
    connection: Connection, role: str, privileges: Iterable[tuple[Named, str]]
) -> list[str]:
    """Return the privileges that a role has, also as a member of other roles.

    :param role: the name of the role.
    :param privileges: pairs of an object and a privilege on it.
    :return: a phrase for each, such as ``INSERT on page_event``.
    """
    listed = list(privileges)
    found = _of_role(
        connection,
        catalog_queries.STILL,
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
