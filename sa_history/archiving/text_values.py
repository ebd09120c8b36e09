"""PostgreSQL's text of values, as psycopg reads and writes it.

psycopg is imported where it is used: who asks no archive may go without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sa_history.archiving.packages import load

TEXT_OID = 25
"""The number of PostgreSQL's type ``text``."""


def oid_of(name: str) -> int | None:
    """Return the number of one of PostgreSQL's types.

    :param name: the type without modifiers, with brackets for an array.
    :return: None if psycopg does not know the type.
    """
    known = load("psycopg").adapters.types.get(name.removesuffix("[]").strip())
    if known is None:
        return None
    return int(known.array_oid if name.endswith("[]") else known.oid)


def text_reader(oid: int, adapters: Any = None) -> Callable[[str], Any]:
    """Return the function that makes a value of the text of a type.

    :param adapters: psycopg's AdaptersMap; that of all connections, if None.
    """
    transformer = load("psycopg.adapt").Transformer(adapters)
    loader = transformer.get_loader(oid, load("psycopg.pq").Format.TEXT)
    return lambda text: loader.load(text.encode())


def as_text(value: Any) -> str | None:
    """Return the text of a value, None for NULL."""
    adapt = load("psycopg.adapt")
    dumper = adapt.Transformer().get_dumper(value, adapt.PyFormat.TEXT)
    written = dumper.dump(value)
    return None if written is None else bytes(written).decode()
