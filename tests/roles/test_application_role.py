"""A role that may only write tracked tables: recorded, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import Manual, Protect, Snapshot, Update, attach, track
from sa_history.exc import InstallError
from sa_history.install import check, harden
from sa_history.sql.compose import quote_ident
from sa_history.trackers import AfterDelete


@pytest.fixture
def role(pg_url: URL) -> str:
    """The name of the role; roles belong to the server, which tests share."""
    return f'app "x" % {pg_url.database}'[-63:]


@pytest.fixture
def account(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    @attach(Protect(Update, level=level, ignorable=False, condition=text("OLD.id = 9")))
    @track(Snapshot, AfterDelete, level=level, append_only=True, ignorable=False)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    return Account


@pytest.fixture
def app(pg_engine: Engine, pg_url: URL, account: Any, role: str) -> Iterator[Engine]:
    """An engine of the hardened role, which had more rights before than it needs."""
    quoted = quote_ident(role)
    with pg_engine.begin() as connection:
        for statement in (
            f"CREATE ROLE {quoted} LOGIN",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {quoted}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
            "GRANT ALL ON SCHEMA public TO PUBLIC",
        ):
            connection.execute(text(statement))
    harden(pg_engine, account, role=role)
    engine = create_engine(pg_url.set(username=role))
    yield engine
    engine.dispose()
    with pg_engine.begin() as connection:
        for statement in (f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}"):
            connection.execute(text(statement))


def test_what_it_writes_is_recorded_with_its_context(
    app: Engine, account: Any, recorded: Callable[..., Any]
) -> None:
    with app.begin() as connection, history.context(connection, user=7):
        connection.execute(text("INSERT INTO account (name) VALUES ('a')"))
        connection.execute(text("UPDATE account SET name = 'b'"))
        connection.execute(text("DELETE FROM account"))
    assert recorded(account, "name") == [
        ("snapshot", "I", "a", {"user": 7}),
        ("snapshot", "U", "b", {"user": 7}),
        ("delete", "D", "b", {"user": 7}),
    ]


def test_it_reads_history(app: Engine) -> None:
    with app.begin() as connection:
        connection.execute(text("INSERT INTO account (name) VALUES ('a')"))
        assert connection.scalar(text("SELECT name FROM account_event")) == "a"


ATTACKS = {
    "insert an event": "INSERT INTO account_event (pgh_op, pgh_label, pgh_obj_id, id)"
    " VALUES ('I', 'snapshot', 1, 1)",
    "change events": "UPDATE account_event SET name = 'z'",
    "delete events": "DELETE FROM account_event",
    "empty the events": "TRUNCATE account_event",
    "empty the table": "TRUNCATE account",
    "forge a context": "INSERT INTO pghistory_context (id, metadata)"
    " VALUES (gen_random_uuid(), '{}')",
    "change a context": "UPDATE pghistory_context SET metadata = '{}'",
    "store a context": "SELECT pghistory_context_attach()",
    "set the sequence": "SELECT setval('pghistory_id_seq', 1)",
    "take a number": "SELECT nextval('pghistory_id_seq')",
    "disable a trigger": "ALTER TABLE account DISABLE TRIGGER ALL",
    "drop a trigger": "DROP TRIGGER account_event_append_only ON account_event",
    "add a trigger": "CREATE TRIGGER zz BEFORE INSERT ON account FOR EACH ROW"
    " EXECUTE FUNCTION account_event_record()",
    "replace the function": "CREATE OR REPLACE FUNCTION account_event_record()"
    " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "be a replica": "SET session_replication_role = replica",
    "drop the column": "ALTER TABLE account DROP COLUMN name",
    "make a rule": "CREATE RULE r AS ON INSERT TO account_event DO INSTEAD NOTHING",
    "make a function in public": "CREATE FUNCTION public.now() RETURNS timestamptz"
    " LANGUAGE sql AS 'SELECT NULL::timestamptz'",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_cannot(app: Engine, account: Any, attack: str) -> None:
    refused = pytest.raises(DBAPIError, match="permission denied|must be owner")
    with app.connect() as connection, refused:
        connection.exec_driver_sql(ATTACKS[attack])


HIJACKS = {
    "a function of its own": "CREATE FUNCTION pg_temp.current_setting(text, boolean)"
    " RETURNS text LANGUAGE sql AS $$SELECT 'forged'$$",
    "an operator of its own": "CREATE FUNCTION pg_temp.never(text, text)"
    " RETURNS boolean LANGUAGE sql AS $$SELECT false$$;"
    " CREATE OPERATOR pg_temp.= (LEFTARG = text,"
    " RIGHTARG = text, FUNCTION = pg_temp.never)",
    "a table of its own": "CREATE TEMP TABLE account_event (LIKE public.account_event)",
    "an ignore": 'SET pghistory.ignore = \'["account:events", "*:*", "account:*"]\'',
}


@pytest.mark.parametrize("hijack", HIJACKS)
def test_what_it_puts_in_the_way_is_not_used(
    app: Engine, account: Any, recorded: Callable[..., Any], hijack: str
) -> None:
    with app.begin() as connection:
        for statement in HIJACKS[hijack].split("; "):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("SET search_path = pg_temp, public, pg_catalog")
        connection.exec_driver_sql("INSERT INTO public.account VALUES (9, 'a')")
    with app.connect() as connection, pytest.raises(DBAPIError, match="protected"):
        connection.exec_driver_sql("UPDATE account SET name = 'b'")
    assert recorded(account, "id", "name") == [("snapshot", "I", 9, "a", None)]


def test_hardening_twice_changes_nothing_more_and_leaves_no_drift(
    app: Engine, pg_engine: Engine, account: Any, role: str
) -> None:
    def privileges(connection: Connection) -> list[Any]:
        acls = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace ="
        return list(connection.execute(text(f"{acls} 'public'::regnamespace")))

    with pg_engine.connect() as connection:
        before = sorted(map(str, privileges(connection)))
    harden(pg_engine, account, role=role)
    with pg_engine.connect() as connection:
        assert sorted(map(str, privileges(connection))) == before
    assert check(pg_engine, account) == []


def test_roles_that_cannot_be_kept_out_are_refused(
    pg_engine: Engine, account: Any
) -> None:
    with pytest.raises(InstallError, match="role 'nobody-there' does not exist"):
        harden(pg_engine, account, role="nobody-there")
    with pg_engine.connect() as connection:
        superuser = connection.scalar(text("SELECT current_user"))
    with pytest.raises(InstallError, match="is a superuser"):
        harden(pg_engine, account, role=superuser)


def test_tracking_that_can_be_ignored_is_refused(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(Snapshot, Manual("seen"))
    class Loose(base):  # type: ignore[misc, valid-type]
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    metadata: MetaData = base.metadata
    with pytest.raises(InstallError, match="tracking of loose ignored"):
        harden(pg_engine, metadata, role="app")
