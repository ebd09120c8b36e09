"""Names and values become SQL that means them and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.engine import Engine

from sa_history.exc import DefinitionError
from sa_history.sql.compose import (
    DollarQuoted,
    Ident,
    Literal,
    Qualified,
    Raw,
    join,
    quote_literal,
)
from sa_history.sql.naming import MAX_BYTES, generated_name, shortened
from sa_history.sql.one_line import one_line
from sa_history.testing.server import PgServer


def schema(name: str | None) -> str:
    return name or "public"


def test_a_fragment_is_composed_by_adding() -> None:
    fragment = Raw("DROP TABLE ") + Qualified(None, 'odd"name')
    assert fragment.render(schema) == 'DROP TABLE "public"."odd""name"'


def test_adding_a_string_is_refused() -> None:
    with pytest.raises(TypeError, match="SQL is composed of fragments, got 'x'"):
        Raw("SELECT ") + "x"  # type: ignore[operator]


def test_fragments_are_joined() -> None:
    assert join(", ", [Ident("a"), Ident("b%")]).render(schema) == '"a", "b%"'


@pytest.mark.parametrize("make", [Ident, Literal])
def test_nul_is_refused(make: type[Ident] | type[Literal]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        make("a\0b").render(schema)


def test_a_dollar_quote_is_one_that_the_body_does_not_contain() -> None:
    body = "$history$ and $history1$"
    assert DollarQuoted(Raw(body)).render(schema) == f"$history2${body}$history2$"


@pytest.fixture(scope="module")
def engine(pg_server: PgServer) -> Iterator[Engine]:
    engine = create_engine(pg_server.url)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("conforming", ["on", "off"])
@pytest.mark.parametrize(
    "value", ["it's", r"back\slash", r"\'", "$$", "%s %(x)s", ":x", "{}", "é\U0001f600"]
)
def test_a_literal_means_its_value_under_any_server_setting(
    engine: Engine, value: str, conforming: str
) -> None:
    literal = quote_literal(value).replace(":", r"\:")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET standard_conforming_strings = {conforming}")
        assert connection.scalar(text(f"SELECT {literal}")) == value


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_shortened_name_fits_and_keeps_short_ones(name: str) -> None:
    result = shortened(name)
    assert len(result.encode()) <= MAX_BYTES
    assert (result == name) == (len(name.encode()) <= MAX_BYTES)


def test_long_names_with_the_same_start_stay_different() -> None:
    assert shortened("é" * 60 + "a") != shortened("é" * 60 + "b")


def test_a_convention_of_the_metadata_names_things() -> None:
    metadata = MetaData(naming_convention={"history_event_table": "%(table_name)s_log"})
    assert generated_name(metadata, "history_event_table", table_name="t") == "t_log"


def test_a_convention_with_an_unknown_token_names_the_right_ones() -> None:
    metadata = MetaData(naming_convention={"history_event_table": "%(tabel)s"})
    with pytest.raises(DefinitionError, match=r"'%\(tabel\)s'.*\['table_name'\]"):
        generated_name(metadata, "history_event_table", table_name="t")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1\nFROM t", "SELECT 1 FROM t"),
        ("SELECT 1\tFROM t\n  \n  WHERE x", "SELECT 1 FROM t WHERE x"),
        ("SELECT 1 -- one, it's\n, 2", "SELECT 1   , 2"),
        ("SELECT /* one\nit's */ 2", "SELECT   2"),
        ("SELECT 'it''s'", "SELECT 'it''s'"),
        ("SELECT 'it''s\n\\'", r"SELECT  E'it''s\n\\'"),
        ("SELECT '5%'", r"SELECT  E'5\x25'"),
        ("LIKE'5%'", r"LIKE E'5\x25'"),
        ("SELECT E'it\\'s\n5%\\\\'", r"SELECT E'it\'s\n5\x25\\'"),
        (
            "SELECT X'1F', B'01', U&'\\000a', N'x'",
            r"SELECT X'1F', B'01', U&'\000a', N'x'",
        ),
        ("SELECT $$a\n'$$, $it$\t$$%$it$", r"SELECT  E'a\n''',  E'\t$$\x25'"),
        ("SELECT a$b$, '\n' $b$", r"SELECT a$b$,  E'\n' $b$"),
        ('SELECT "a\n%" % 2', 'SELECT "a\n%" % 2'),
    ],
)
def test_statement_in_one_line(statement: str, expected: str) -> None:
    assert one_line(statement) == expected
