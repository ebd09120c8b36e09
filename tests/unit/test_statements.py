"""What is read from a statement's text, about the settings that are sent with it."""

from __future__ import annotations

from typing import Any

import pytest

from sa_history.contexts.drivers.statements import (
    is_one_statement,
    may_take_settings_back,
    needs_no_settings,
)


@pytest.mark.parametrize(
    "query",
    [
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        b"SET TRANSACTION READ ONLY",
        "  set\n  transaction   isolation level repeatable read ;; \n",
        "/* shop */ SET TRANSACTION READ ONLY",
        "/* a /* nested; */ one */SET/**/TRANSACTION READ ONLY;",
        "-- it's the shop; \n-- and more\r SET LOCAL lock_timeout = '1s'",
        "SET TRANSACTION READ ONLY -- shop; cart",
        "SET TRANSACTION READ ONLY; /* shop; cart */ ",
        "LOCK TABLE account",
        "SHOW transaction_isolation",
        "RESET lock_timeout",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
    ],
)
def test_what_writes_nothing_needs_no_settings(query: Any) -> None:
    assert needs_no_settings(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET /* all */ CONSTRAINTS ALL IMMEDIATE",
        "SET lock_timeout = 5; DELETE FROM account",
        "SET application_name = '-- '; DELETE FROM account --'",
        "SET \"/*\" = 1; DELETE FROM account; SELECT '*/'",
        "SET a = $$/*$$; DELETE FROM account; SELECT '*/'",
        "/* a */ -- b\n DELETE FROM account /* SET */",
        "-- SET TRANSACTION READ ONLY",
        "/* never closed /* */ SET TRANSACTION READ ONLY",
        "SETTLE",
        "COMMIT",  # deferred triggers run
        "",
        object(),
    ],
)
def test_what_may_write_needs_settings(query: Any) -> None:
    assert not needs_no_settings(query)


@pytest.mark.parametrize(
    "query",
    [
        "ROLLBACK TO SAVEPOINT a",
        "/* SELECT */ ROLLBACK TO a",
        "SELECT 1; ROLLBACK TO a",
        "INSERT INTO t VALUES (1); ROLLBACK TO a; SELECT 1",
        "SELECT '--'; ROLLBACK TO a; SELECT '",
        "RELEASE b; ROLLBACK TO a",
        "RESET ALL",
        "ROLLBACK AND CHAIN",
        "COMMIT AND CHAIN",
        "CALL anything()",
        "",
    ],
)
def test_what_may_take_settings_back(query: str) -> None:
    assert may_take_settings_back(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "-- ROLLBACK;\n insert INTO t VALUES (1);",
        "((SELECT 1) UNION SELECT 2)",
        "WITH a AS (SELECT 1) DELETE FROM t /* ; */",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "VALUES (1)",
        "FETCH FORWARD 10 FROM c",
        "SHOW lock_timeout",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
    ],
)
def test_what_leaves_settings_as_they_are(query: str) -> None:
    assert not may_take_settings_back(query)


@pytest.mark.parametrize("query", ["SELECT 1; \n", b"SELECT 1"])
def test_one_statement_has_no_semicolon_before_its_end(query: Any) -> None:
    assert is_one_statement(query)


@pytest.mark.parametrize("query", ["SELECT 1; SELECT 2", b"SELECT 1; SELECT 2", 5])
def test_several_statements_or_none_are_not_one(query: Any) -> None:
    assert not is_one_statement(query)
