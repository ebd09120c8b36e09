"""The settings that the text and the JSON of a value depend on.

PostgreSQL writes the same ``timestamptz`` in the time zone of the session, and rounds a
``float`` if ``extra_float_digits`` is low. A function that stores values as JSON or
text sets what their types depend on, so that what it stores depends on the value alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import postgresql

from sa_history.sql.column_types import postgresql_type

OUTPUT_SETTINGS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
}
"""Each setting, with a value by which nothing of a value is lost."""

_INDEPENDENT = (
    types.Boolean,
    types.Date,
    types.Enum,
    types.Integer,
    types.JSON,
    types.String,
    types.Time,
    types.Uuid,
    postgresql.BIT,
    postgresql.CIDR,
    postgresql.HSTORE,
    postgresql.INET,
    postgresql.INT4MULTIRANGE,
    postgresql.INT4RANGE,
    postgresql.INT8MULTIRANGE,
    postgresql.INT8RANGE,
    postgresql.MACADDR,
    postgresql.MACADDR8,
    postgresql.NUMMULTIRANGE,
    postgresql.NUMRANGE,
    postgresql.OID,
    postgresql.TSVECTOR,
)

_DEPENDENT: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (types.Float, ("extra_float_digits",)),
    (types.Interval, ("IntervalStyle",)),
    (postgresql.INTERVAL, ("IntervalStyle",)),
    (types.LargeBinary, ("bytea_output",)),
    (postgresql.MONEY, ("lc_monetary",)),
    (postgresql.DATERANGE, ("DateStyle",)),
    (postgresql.DATEMULTIRANGE, ("DateStyle",)),
    (postgresql.TSRANGE, ("DateStyle",)),
    (postgresql.TSMULTIRANGE, ("DateStyle",)),
    (postgresql.TSTZRANGE, ("DateStyle", "TimeZone")),
    (postgresql.TSTZMULTIRANGE, ("DateStyle", "TimeZone")),
)


def output_settings(
    column_types: Iterable[types.TypeEngine[Any]],
) -> tuple[tuple[str, str], ...]:
    """Return the settings that JSON of values depends on, each with its value.

    :param column_types: the types of the values.
    :return: pairs of a name and a value; all of :data:`OUTPUT_SETTINGS` if a type is
        not known here, as that of an extension.
    """
    found = {name for type_ in column_types for name in _settings_of(type_)}
    return tuple((n, value) for n, value in OUTPUT_SETTINGS.items() if n in found)


def type_of_json_text(
    type_: types.TypeEngine[Any],
) -> types.TypeEngine[Any] | None:
    """Return the type that a cast of a JSON string gives the value back by.

    :param type_: the type of the value.
    :return: the type; None if JSON of the value is the same for all settings, or if it
        is not a scalar, as that of an array.
    """
    actual = postgresql_type(type_)
    if isinstance(actual, postgresql.DOMAIN):
        return type_of_json_text(actual.data_type)
    scalars = (types.DateTime, *(known for known, _ in _DEPENDENT))
    # The type itself: as an implementation of the dialect a REAL is any float.
    return type_ if isinstance(actual, scalars) and output_settings([type_]) else None


def _settings_of(type_: types.TypeEngine[Any]) -> Iterable[str]:
    actual = postgresql_type(type_)
    if isinstance(actual, types.ARRAY):
        return _settings_of(actual.item_type)
    if isinstance(actual, postgresql.DOMAIN):
        return _settings_of(actual.data_type)
    if isinstance(actual, types.DateTime):
        # In JSON a time is in ISO 8601 whatever the DateStyle is.
        return ("TimeZone",) if actual.timezone else ()
    if isinstance(actual, types.Numeric) and not isinstance(actual, types.Float):
        return ()
    for known, names in _DEPENDENT:
        if isinstance(actual, known):
            return names
    return () if isinstance(actual, _INDEPENDENT) else OUTPUT_SETTINGS
