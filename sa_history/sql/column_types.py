"""The types of columns: how a value is written, compared and checked.

What a type needs that others do not stands in :data:`TYPE_RULES`. If the text of its
values depends on settings of the session, ``sql.output_settings`` has these as well.

An operator that a condition is written with stays the one of the condition: ``==`` is
the ``=`` of SQLAlchemy's type. Equality and identity here are those that the library
chooses by itself, to find changes and to compare values of a definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import types
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import PGDialect

from sa_history.sql.compose import quote_literal

POSTGRESQL: Final[PGDialect] = postgresql.dialect()  # type: ignore[no-untyped-call]
"""The dialect that is asked what a type is on PostgreSQL."""


def postgresql_type(type_: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return the type that PostgreSQL has for one, without a decorator around it."""
    actual = type_.dialect_impl(POSTGRESQL)
    if isinstance(actual, types.TypeDecorator):
        return postgresql_type(actual.impl_instance)
    return actual


def without_domain(type_: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return the type that a DOMAIN is made of; any other type as it is."""
    return type_.data_type if isinstance(type_, postgresql.DOMAIN) else type_


def refuses_null(type_: types.TypeEngine[Any]) -> bool:
    """Return whether a type has no NULL in any table: a DOMAIN that is NOT NULL."""
    actual = postgresql_type(type_)
    while isinstance(actual, postgresql.DOMAIN):
        if actual.not_null:
            return True
        actual = actual.data_type
    return False


def _not_of_the_python_type(type_: types.TypeEngine[Any], value: Any) -> str | None:
    try:
        expected = type_.python_type
    except NotImplementedError:
        return None
    if not isinstance(value, expected) or (
        isinstance(value, bool) and expected is not bool
    ):
        return f"its values are of type {expected.__name__}"
    length = getattr(type_, "length", None)
    if isinstance(value, str) and length is not None and len(value) > length:
        return f"it has {length} characters at most"
    return None


def _not_a_member(type_: types.TypeEngine[Any], value: Any) -> str | None:
    assert isinstance(type_, types.Enum)
    # By name or by member, as SQLAlchemy takes it.
    members: Sequence[Any] = [*(type_.enum_class or ())]
    if value in type_.enums or value in members:
        return None
    return f"it has {', '.join(map(repr, members or type_.enums))}"


def _never_wrong(type_: types.TypeEngine[Any], value: Any) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class TypeRules:
    """What is particular to some types.

    :param covers: the types, with their subclasses.
    :param is_string: whether a string is written between quotes as it is.
    :param is_cast: whether a literal needs a cast in a list of columns, where
        PostgreSQL would take it for a text.
    :param equal_by_pg_catalog: whether ``=`` is an operator of ``pg_catalog``, so that
        no ``search_path`` has to find it.
    :param equality_is_identity: whether values that are equal are stored alike.
    :param is_read_exactly: whether Python has different values for what is stored
        differently.
    :param wrong: says what is wrong with a value, or None if nothing is.
    """

    covers: tuple[type[Any], ...] = ()
    is_string: bool = False
    is_cast: bool = False
    equal_by_pg_catalog: bool = False
    equality_is_identity: bool = False
    is_read_exactly: bool = False
    wrong: Callable[[types.TypeEngine[Any], Any], str | None] = _not_of_the_python_type


TYPE_RULES = (
    TypeRules(covers=(postgresql.CITEXT,), is_string=True),
    TypeRules(
        covers=(types.Enum,),
        is_string=True,
        is_cast=True,
        equal_by_pg_catalog=True,
        equality_is_identity=True,
        is_read_exactly=True,
        wrong=_not_a_member,
    ),
    TypeRules(
        covers=(types.String,),
        is_string=True,
        equal_by_pg_catalog=True,
        equality_is_identity=True,
        is_read_exactly=True,
    ),
    TypeRules(
        covers=(types.Date, types.DateTime, types.Uuid),
        is_cast=True,
        equal_by_pg_catalog=True,
        equality_is_identity=True,
        is_read_exactly=True,
    ),
    TypeRules(covers=(types.Time,), is_cast=True, equal_by_pg_catalog=True),
    TypeRules(
        covers=(types.Boolean, types.Integer, types.LargeBinary),
        equal_by_pg_catalog=True,
        equality_is_identity=True,
        is_read_exactly=True,
    ),
    TypeRules(
        covers=(
            types.Float,  # which is no Numeric in SQLAlchemy 2.1
            types.Interval,
            types.Numeric,
            postgresql.BIT,
            postgresql.CIDR,
            postgresql.INET,
            postgresql.INTERVAL,
            postgresql.MACADDR,
            postgresql.OID,
        ),
        equal_by_pg_catalog=True,
    ),
    # Any value that JSON has, whatever the type's python_type says.
    TypeRules(covers=(types.JSON,), wrong=_never_wrong),
)
"""The rules of each type; the first that fits counts, so a subclass stands first."""

_OTHER_TYPES = TypeRules()


def _rules(type_: types.TypeEngine[Any]) -> TypeRules:
    return next((r for r in TYPE_RULES if isinstance(type_, r.covers)), _OTHER_TYPES)


_SAME_RULES = {
    types.BigInteger,
    types.Boolean,
    types.Date,
    types.DateTime,
    types.Integer,
    types.SmallInteger,
    types.String,
    types.Text,
}
"""Types whose rules are those of the type that PostgreSQL has for them."""


def _declared_type(type_: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return a type that has the rules of the one that PostgreSQL has.

    To ask the dialect for each column would be a tenth of the time of a definition, and
    a quarter of that of a first page.
    """
    if type(type_) in _SAME_RULES and not type_._variant_mapping:
        return type_
    return postgresql_type(type_)


def literal_sql(type_: types.TypeEngine[Any], value: Any) -> str | None:
    """Return a value as a literal, or None if SQLAlchemy writes it right.

    :param type_: the type of the value, perhaps a decorator, which writes its values
        by itself.
    """
    if isinstance(value, str) and _rules(type_).is_string:
        # SQLAlchemy doubles backslashes unless it has asked a server for
        # standard_conforming_strings; there is no server here.
        return quote_literal(value)
    if isinstance(value, bytes):
        return quote_literal(rf"\x{value.hex()}") + "::bytea"
    return None


def cast_of_literal(type_: types.TypeEngine[Any]) -> types.TypeEngine[Any] | None:
    """Return the type that a literal has to be cast to, or None if to none."""
    actual = postgresql_type(type_)
    return actual if _rules(actual).is_cast else None


def equality(type_: types.TypeEngine[Any]) -> str:
    """Return the operator by which values of a type are equal.

    It has its schema where that is known, and then no ``search_path`` can replace it;
    the operator of a type which comes with an extension may be in any schema.
    """
    return "OPERATOR(pg_catalog.=)" if equal_by_pg_catalog(type_) else "="


def equal_by_pg_catalog(type_: types.TypeEngine[Any]) -> bool:
    """Return whether ``=`` of a type is an operator of ``pg_catalog``."""
    return _rules(_declared_type(type_)).equal_by_pg_catalog


def equality_is_identity(type_: types.TypeEngine[Any]) -> bool:
    """Return whether values of a type that are equal are stored alike."""
    actual = _declared_type(type_)
    # A collation may be a nondeterministic one.
    is_collated = isinstance(actual, types.String) and bool(actual.collation)
    return _rules(actual).equality_is_identity and not is_collated


def is_read_exactly(type_: types.TypeEngine[Any]) -> bool:
    """Return whether values that are stored differently differ in Python as well.

    An interval of a month is one of thirty days in Python, and a decorator may make
    anything of a value.
    """
    actual = _declared_type(type_)
    if isinstance(type_, types.TypeDecorator):
        return False
    if isinstance(actual, types.Float):
        return not actual.asdecimal
    if isinstance(actual, types.Numeric):
        return actual.asdecimal
    return _rules(actual).is_read_exactly


def has_infinity(type_: types.TypeEngine[Any]) -> bool:
    """Return whether values are dates or times, among which PostgreSQL has infinity."""
    return isinstance(_declared_type(type_), (types.Date, types.DateTime))


def holds_decimals(type_: types.TypeEngine[Any]) -> bool:
    """Return whether values are ``numeric``, and Decimal in Python; also in arrays."""
    actual = without_domain(_declared_type(type_))
    if isinstance(actual, types.ARRAY):
        return holds_decimals(actual.item_type)
    if isinstance(actual, types.Float):  # a Numeric in SQLAlchemy 2.0
        return False
    return isinstance(actual, types.Numeric) and actual.asdecimal


def holds_json(type_: types.TypeEngine[Any]) -> bool:
    """Return whether values of a type are JSON, or arrays of it.

    A driver may not be able to read them: see :mod:`sa_history.sql.readable_json`.
    """
    actual = _declared_type(type_)
    if isinstance(actual, types.ARRAY):
        return holds_json(actual.item_type)
    return isinstance(without_domain(actual), types.JSON)


def wrong_value(type_: types.TypeEngine[Any], value: Any) -> str | None:
    """Return why a column of a type cannot hold a value, or None if it can.

    :param value: any value but None.
    """
    declared = without_domain(type_)
    return _rules(declared).wrong(declared, value)
