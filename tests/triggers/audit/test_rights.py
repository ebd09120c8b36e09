"""Who may write the log."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import URL, Table, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from tests.triggers.audit.helpers import row


def test_role_without_rights_on_the_log_is_logged_and_cannot_forge(
    accounts: Any, log: Table, pg_url: URL, pg_session: Session
) -> None:
    clerk = f'"clerk of {pg_url.database}"'
    for statement in (
        f"CREATE ROLE {clerk}",  # rolled back at the end: a role is of the cluster
        f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON account TO {clerk}",
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS"
        " $$ SELECT '{}'::jsonb $$",
        f"GRANT USAGE ON SCHEMA evil TO {clerk}",
        f"SET LOCAL ROLE {clerk}",
        "SET LOCAL search_path = evil, pg_catalog, public",
        "CREATE TEMPORARY TABLE audit_log (id int)",
        "INSERT INTO public.account VALUES (3, 'eve', 3)",
        "UPDATE public.account SET balance = 30 WHERE id = 3",
        "DELETE FROM public.account WHERE id = 3",
        "TRUNCATE public.account",
    ):
        pg_session.execute(text(statement))
    for forgery in (
        "INSERT INTO public.audit_log (operation) VALUES ('INSERT')",
        "UPDATE public.audit_log SET new_row = NULL",
        "DELETE FROM public.audit_log",
    ):
        point = pg_session.begin_nested()
        with pytest.raises(ProgrammingError, match="InsufficientPrivilege"):
            pg_session.execute(text(forgery))
        point.rollback()
    pg_session.execute(text("RESET ROLE"))
    found = pg_session.execute(
        text("SELECT operation, new_row FROM public.audit_log ORDER BY id")
    ).all()
    assert found == [
        ("INSERT", row(3, 3, "eve")),
        ("UPDATE", row(3, 30, "eve")),
        ("DELETE", None),
        ("TRUNCATE", None),
        ("TRUNCATE", None),
    ]


def test_truncate_of_rows_that_a_policy_may_hide_is_refused(
    accounts: Any, log: Table, pg_url: URL, pg_session: Session
) -> None:
    owner = f'"owner of {pg_url.database}"'
    for statement in (
        f"CREATE ROLE {owner}",
        f"ALTER FUNCTION account_audit OWNER TO {owner}",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
    ):
        pg_session.execute(text(statement))
    refused = "TRUNCATE of public.account is refused: row-level security may hide"
    with pytest.raises(ProgrammingError, match=refused):
        pg_session.execute(text("TRUNCATE account"))
