"""A revision that keeps an application's role from its history."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic.util import CommandError
from sqlalchemy import URL, Column, Engine, Integer, MetaData, Table, Text, text

from sa_history import Snapshot, track
from sa_history.sql.compose import quote_ident
from sa_history.testing.binaries import find_bindir


def models(**options: Any) -> MetaData:
    metadata = MetaData()
    account = Table(
        "account", metadata, Column("id", Integer, primary_key=True), Column("x", Text)
    )
    track(Snapshot, **options)(account)
    return metadata


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def role(pg_engine: Engine, pg_url: URL) -> Iterator[str]:
    """A role with a name that is SQL, a parameter and a format, if not quoted."""
    name = f"""a=';"x"\\%s{{}} {pg_url.database}"""[:63]
    quoted = quote_ident(name)
    run(pg_engine, f"CREATE ROLE {quoted}")
    yield name
    run(pg_engine, f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")


def test_a_downgrade_gives_back_what_was_granted_and_psql_takes_it_as_well(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    role: str,
    dump: Callable[[URL], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    migrations.metadata = models(ignorable=False)
    migrations.revise()
    migrations.upgrade()
    quoted = quote_ident(role)
    run(
        pg_engine,
        f"GRANT ALL ON account, account_event TO {quoted} WITH GRANT OPTION",
        f"GRANT UPDATE (metadata), SELECT (id) ON pghistory_context TO {quoted}",
        "GRANT INSERT, SELECT ON account_event TO PUBLIC",
        f"GRANT ALL ON SEQUENCE pghistory_id_seq TO {quoted}",
        f"GRANT EXECUTE ON FUNCTION account_event_record() TO {quoted}",
        f"GRANT CREATE ON SCHEMA public TO PUBLIC, {quoted}",
    )
    before = dump(pg_url)
    revision = migrations.revise(f"harden={role}")
    migrations.metadata = MetaData()  # a revision does not ask the models
    migrations.upgrade()
    hardened = dump(pg_url)
    assert hardened != before
    assert revision.count("op.history_ddl(") == 2
    migrations.downgrade()
    assert dump(pg_url) == before
    capsys.readouterr()
    offline = migrations.sql(capsys)
    subprocess.run(
        [
            find_bindir() / "psql",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            pg_url.set(drivername="postgresql").render_as_string(hide_password=False),
        ],
        input=offline[offline.rindex("-- Running upgrade") :],
        text=True,
        check=True,
    )
    assert dump(pg_url) == hardened


def test_the_revision_that_creates_the_tables_can_do_it(
    migrations: Any, pg_engine: Engine, pg_url: URL, role: str, dump: Any
) -> None:
    before = dump(pg_url)
    migrations.metadata = models(ignorable=False)
    migrations.revise(f"harden={role}")
    migrations.upgrade()
    assert migrations.check() == []
    with pg_engine.connect() as connection:
        query = "SELECT has_table_privilege(:role, 'account_event', :privilege)"
        assert [
            connection.scalar(text(query), {"role": role, "privilege": privilege})
            for privilege in ("SELECT", "INSERT")
        ] == [True, False]
    migrations.downgrade("base")
    assert dump(pg_url) == before


def test_what_would_be_in_vain_is_refused(migrations: Any, pg_engine: Engine) -> None:
    migrations.metadata = models()
    with pytest.raises(CommandError, match="tracking of account ignored"):
        migrations.revise("harden=nobody-there")
    migrations.metadata = models(ignorable=False)
    with pytest.raises(CommandError, match="role 'nobody-there' does not exist"):
        migrations.revise("harden=nobody-there")
    with pytest.raises(CommandError, match="role '' does not exist"):
        migrations.revise("harden")
    with pg_engine.connect() as connection:
        superuser = connection.scalar(text("SELECT current_user"))
    with pytest.raises(CommandError, match="is a superuser"):
        migrations.revise(f"harden={superuser}")
