"""Hostile names and texts, and what a database has of a definition."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from sqlalchemy import URL, Connection, text

from sa_history.testing.binaries import find_bindir

SYNTAX = (
    *("'", '"', "''", '""', "\\", "\\'", "%", "%%", "%s", "%(x)s", "%1$s", ":x", "::c"),
    *("{", "}", "{0}", "$$", "$1", "$history$", "$history1$", "$body$", "$pgh$", ";"),
    *("--", "/*", "*/", "\n", "\r", "\t", ".", "*", "`", "#", "@", "&amp;", "<b>", "~"),
    *("select", "OLD", "NEW.", "old_rows", "TG_OP", "pghistory_context", "_event"),
    *("\u202e", "\u200f", "\u2028", "\x85", "\x0b", "\x1c", "\ufeff", "\u0301", "\x7f"),
    *(
        "😀",
        "寸",
        "é",
        "\U000f0000",
        "\U0010ffff",
        "\ufffe",
        " ",
        "A",
        "a",
        "E'",
        "\\u0000",
    ),
)
"""What means something to some part on the way; all of it is text."""


def _cut(name: str) -> str:
    return name.encode()[:63].decode(errors="ignore")


@dataclass(frozen=True, repr=False)
class Hostile:
    """Strategies.

    :param texts: any text that PostgreSQL can hold.
    :param names: any name that it can have, of a column of a tracked table too.
    :param values: any JSON that it can hold, down to some depth.
    """

    texts: st.SearchStrategy[str]
    names: st.SearchStrategy[str]
    values: st.SearchStrategy[Any]

    def __repr__(self) -> str:
        return "hostile"


@pytest.fixture(scope="session")
def hostile() -> Hostile:
    """Texts, names and values that are allowed, and that nobody would choose."""
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    pieces = st.one_of(st.sampled_from(SYNTAX), letters)
    texts = st.lists(pieces, max_size=12).map("".join)
    long = st.lists(pieces, min_size=20, max_size=63).map("".join)
    names = st.one_of(texts, long).map(_cut).filter(_is_free)
    # Of other fractions JSON has the decimal digits, and Python the nearest number.
    numbers = st.integers(-(10**30), 10**30) | st.integers(-999, 999).map(
        lambda n: n / 8
    )
    values = st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=8,
    )
    return Hostile(texts, names, values)


def _is_free(name: str) -> bool:
    # Events have columns with this prefix; PostgreSQL, schemas with that one. This is
    # the context table. SQLAlchemy 2.1 does not quote a simple name with a newline
    # after it, so that the newline is lost.
    return (
        bool(name)
        and not name.startswith(("pgh_", "pg_"))
        and name != "pghistory_context"
        and not re.fullmatch(r"[a-z0-9_$]+\n", name)
    )


_CATALOG = """
SELECT what FROM (
  SELECT n.nspname AS schema, concat_ws(' ', n.nspname, 'function',
    pg_get_functiondef(p.oid), obj_description(p.oid)) AS what
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace
  WHERE prokind = 'f'
  UNION ALL
  SELECT n.nspname, concat_ws(' ', n.nspname, 'trigger', c.relname,
    pg_get_triggerdef(t.oid), obj_description(t.oid))
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
  JOIN pg_namespace AS n ON n.oid = relnamespace WHERE NOT tgisinternal
  UNION ALL
  SELECT n.nspname, concat_ws(' ', n.nspname, relkind, relname,
    obj_description(c.oid), CASE relkind
      WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
  UNION ALL
  SELECT n.nspname, concat_ws(' ', n.nspname, c.relname, attnum, attname,
    format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid),
    col_description(c.oid, attnum))
  FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid AND relkind = 'r'
  JOIN pg_namespace AS n ON n.oid = relnamespace
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE attnum > 0
) AS made
WHERE schema NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
ORDER BY what
"""


@pytest.fixture
def catalog() -> Callable[[Connection], list[str]]:
    """Return all that is in a database, with definitions and comments."""
    return lambda connection: list(connection.scalars(text(_CATALOG)))


@pytest.fixture
def psql(pg_url: URL) -> Callable[[str], None]:
    """Run a script with psql, as one transaction."""
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    program = find_bindir() / "psql"

    def run(script: str) -> None:
        result = subprocess.run(
            [program, "-Xq1", "-v", "ON_ERROR_STOP=1", url],
            input=script.encode(),
            capture_output=True,
        )
        assert result.returncode == 0, result.stderr.decode()

    return run
