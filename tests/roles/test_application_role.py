"""A role that may only write tracked tables: recorded, and nothing more."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import Manual, Protect, Snapshot, Update, attach, track
from sa_history.capture.trackers import AfterDelete
from sa_history.exc import InstallError
from sa_history.install import check, harden
from sa_history.sql.compose import quote_ident


@pytest.fixture
def pg_engine(pg_engine: Engine) -> Engine:
    """An engine that can give and take rights, whatever the server's default is."""
    return pg_engine.execution_options(isolation_level="READ COMMITTED")


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
def granted(pg_engine: Engine, account: Any, role: str) -> Iterator[str]:
    """The role, quoted, with more rights than it needs, and a schema of its own."""
    quoted = quote_ident(role)
    run(
        pg_engine,
        f"CREATE ROLE {quoted} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {quoted}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
        "GRANT ALL ON SCHEMA public TO PUBLIC",
        f"CREATE SCHEMA mine AUTHORIZATION {quoted}",
    )
    yield quoted
    run(pg_engine, f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")


@pytest.fixture
def app(
    pg_engine: Engine,
    pg_url: URL,
    account: Any,
    role: str,
    granted: str,
) -> Iterator[Engine]:
    """An engine of the hardened role."""
    harden(pg_engine, account, role=role)
    engine = create_engine(pg_url.set(username=role))
    yield engine
    engine.dispose()


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
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


def test_application_role_reads_history(app: Engine) -> None:
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
    "forge an event by a trigger of its own": "CREATE TEMP TABLE t (LIKE account);"
    " CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW"
    " EXECUTE FUNCTION account_event_record()",
    "drop the events": "DROP TABLE account_event",
    "disable a trigger": "ALTER TABLE account DISABLE TRIGGER ALL",
    "drop a trigger": "DROP TRIGGER account_event_append_only ON account_event",
    "add a trigger": "CREATE TRIGGER zz BEFORE INSERT ON account FOR EACH ROW"
    " EXECUTE FUNCTION account_event_record()",
    "replace the function": "CREATE OR REPLACE FUNCTION account_event_record()"
    " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "be a replica": "SET session_replication_role = replica",
    "be a replica by a function": "SELECT set_config('session_replication_role',"
    " 'replica', false)",
    "be a replica from now on": "ALTER ROLE CURRENT_USER"
    " SET session_replication_role = replica",
    "be a replica within a function": "CREATE FUNCTION mine.f() RETURNS void"
    " LANGUAGE sql SET session_replication_role = replica"
    " AS 'INSERT INTO public.account (name) VALUES (''z'')'; SELECT mine.f()",
    "drop the column": "ALTER TABLE account DROP COLUMN name",
    "make a rule": "CREATE RULE r AS ON INSERT TO account_event DO INSTEAD NOTHING",
    "make a function in public": "CREATE FUNCTION public.now() RETURNS timestamptz"
    " LANGUAGE sql AS 'SELECT NULL::timestamptz'",
    "make an operator in public": "CREATE OPERATOR public.= (LEFTARG = text,"
    " RIGHTARG = text, FUNCTION = pg_catalog.textne)",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_application_role_is_refused_what_would_forge_history(
    app: Engine, account: Any, attack: str
) -> None:
    refused = pytest.raises(DBAPIError, match="InsufficientPrivilege")
    with app.connect() as connection, refused:
        connection.exec_driver_sql(ATTACKS[attack])


ENV = """
from alembic import context

import sa_history.alembic

attributes = context.config.attributes
context.configure(**attributes)
with context.begin_transaction():
    context.run_migrations()
"""


def harden_by_migration(engine: Engine, model: Any, role: str, directory: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(directory / "migrations"))
    config.set_main_option("path_separator", "os")
    config.config_file_name = str(directory / "alembic.ini")
    command.init(config, str(directory / "migrations"))
    (directory / "migrations" / "env.py").write_text(ENV)
    with engine.connect() as connection:
        config.attributes.update(connection=connection, target_metadata=model.metadata)
        config.cmd_opts = argparse.Namespace(x=[f"harden={role}"])
        command.revision(config, autogenerate=True)
        command.upgrade(config, "head")


def test_a_migration_keeps_it_from_the_same(
    pg_engine: Engine,
    pg_url: URL,
    account: Any,
    role: str,
    granted: str,
    tmp_path: Path,
    recorded: Callable[..., Any],
) -> None:
    with pg_engine.connect() as connection:
        harden(connection, account, role=role)
        by_command = privileges(connection)
    harden_by_migration(pg_engine, account, role, tmp_path)
    with pg_engine.connect() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        assert privileges(connection) == by_command
    app = create_engine(pg_url.set(username=role))
    done = []
    with app.connect() as connection:
        for attack, statement in ATTACKS.items():
            with contextlib.suppress(DBAPIError), connection.begin():
                connection.exec_driver_sql(statement)
                done.append(attack)
        connection.exec_driver_sql("INSERT INTO account (name) VALUES ('a')")
        connection.commit()
    app.dispose()
    assert done == []
    assert recorded(account, "name") == [("snapshot", "I", "a", None)]


def test_it_cannot_say_that_somebody_else_made_a_change(
    app: Engine, account: Any, recorded: Callable[..., Any]
) -> None:
    """It can read the id of a context; what it sets under that is another context."""
    with app.begin() as connection, history.context(connection, user=7) as context:
        connection.execute(text("INSERT INTO account (name) VALUES ('a')"))
    with app.begin() as connection:
        connection.exec_driver_sql(
            f"SET LOCAL pghistory.context_id = '{context.id}';"
            """ SET LOCAL pghistory.context_metadata = '{"user": 8}'"""
        )
        connection.execute(text("UPDATE account SET name = 'b'"))
        connection.execute(text("UPDATE account SET name = 'c'"))
    assert recorded(account, "name") == [
        ("snapshot", "I", "a", {"user": 7}),
        ("snapshot", "U", "b", {"user": 8}),
        ("snapshot", "U", "c", {"user": 8}),
    ]


def test_it_cannot_log_in_as_a_replica(app: Engine) -> None:
    options = {"options": "-c session_replication_role=replica"}
    replica = create_engine(app.url, connect_args=options)
    with pytest.raises(DBAPIError, match="session_replication_role"):
        replica.connect()


_SETTING = """
CREATE FUNCTION {}.current_setting(text, boolean) RETURNS text
LANGUAGE sql AS $$SELECT 'forged'$$
"""
_OPERATORS = """
CREATE FUNCTION {0}.never(text, text) RETURNS boolean LANGUAGE sql
AS 'SELECT false';
CREATE FUNCTION {0}.never(integer, integer) RETURNS boolean LANGUAGE sql
AS 'SELECT false';
CREATE OPERATOR {0}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = {0}.never);
CREATE OPERATOR {0}.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = {0}.never);
CREATE OPERATOR {0}.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = {0}.never);
CREATE OPERATOR {0}.<> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = {0}.never)
"""
_TYPES = """
CREATE DOMAIN {0}.text AS pg_catalog.text CHECK (VALUE IS NULL);
CREATE DOMAIN {0}.uuid AS pg_catalog.uuid CHECK (VALUE IS NULL);
CREATE DOMAIN {0}.jsonb AS pg_catalog.jsonb CHECK (VALUE IS NULL)
"""
HIJACKS = {
    "a function of its own": ("mine", _SETTING),
    "operators of its own": ("mine", _OPERATORS),
    "a temporary function": ("pg_temp", _SETTING),
    "temporary types": ("pg_temp", _TYPES),
    "a temporary table": ("pg_temp", "CREATE TABLE {}.account_event (id integer)"),
    "a temporary context table": (
        "pg_temp",
        "CREATE TABLE {}.pghistory_context (LIKE public.pghistory_context)",
    ),
    "an ignore": (
        "public",
        'SET pghistory.ignore = \'["account:events", "*:*", "account:*"]\'',
    ),
}


@pytest.mark.parametrize("hijack", HIJACKS)
def test_what_it_puts_in_the_way_is_not_used(
    app: Engine, account: Any, recorded: Callable[..., Any], hijack: str
) -> None:
    schema, statements = HIJACKS[hijack]
    with app.begin() as connection, history.context(connection, user=7):
        connection.exec_driver_sql(statements.format(schema))
        connection.exec_driver_sql(f"SET search_path = {schema}, public, pg_catalog")
        connection.exec_driver_sql("INSERT INTO public.account VALUES (9, 'a')")
        connection.exec_driver_sql("INSERT INTO public.account VALUES (1, 'a')")
        connection.exec_driver_sql("UPDATE public.account SET name = 'b' WHERE 2 > id")
        with pytest.raises(DBAPIError, match="protected"), connection.begin_nested():
            connection.exec_driver_sql("UPDATE public.account SET name = 'c'")
    assert recorded(account, "id", "name") == [
        ("snapshot", "I", 9, "a", {"user": 7}),
        ("snapshot", "I", 1, "a", {"user": 7}),
        ("snapshot", "U", 1, "b", {"user": 7}),
    ]


@pytest.mark.parametrize(
    "left_over", [_SETTING, _OPERATORS], ids=["function", "operators"]
)
def test_what_somebody_left_in_public_is_not_used(
    app: Engine,
    pg_engine: Engine,
    account: Any,
    recorded: Callable[..., Any],
    left_over: str,
) -> None:
    run(pg_engine, left_over.format("public"))
    with app.begin() as connection, history.context(connection, user=7):
        connection.exec_driver_sql("SET search_path = public, pg_catalog")
        connection.exec_driver_sql("INSERT INTO account VALUES (9, 'a')")
        with pytest.raises(DBAPIError, match="protected"), connection.begin_nested():
            connection.exec_driver_sql("UPDATE account SET name = 'c'")
    assert recorded(account, "id", "name") == [("snapshot", "I", 9, "a", {"user": 7})]


def privileges(connection: Connection) -> list[str]:
    """Return what anybody may do to tables, sequences, functions and the schema."""
    query = """
    SELECT ROW(relname, relacl)::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT ROW(proname, proacl)::text FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT ROW(nspname, nspacl)::text FROM pg_namespace WHERE nspname = 'public'
    ORDER BY 1
    """
    return list(connection.scalars(text(query)))


def test_to_harden_again_by_the_command_changes_nothing_and_there_is_no_drift(
    app: Engine, pg_engine: Engine, account: Any, role: str
) -> None:
    with pg_engine.connect() as connection:
        before = privileges(connection)
    harden(pg_engine, account, role=role)
    with pg_engine.connect() as connection:
        assert privileges(connection) == before
    assert check(pg_engine, account) == []


def test_models_beside_the_tracked_ones_are_left_as_they_are(
    pg_engine: Engine, account: Any, role: str, granted: str
) -> None:
    untracked = MetaData()
    Table("note", untracked, Column("id", Integer, primary_key=True))
    alone = harden(pg_engine, account, role=role, dry_run=True)
    together = harden(pg_engine, account, untracked, role=role, dry_run=True)
    assert alone
    assert together == alone


def test_roles_that_do_not_exist_or_may_do_anything_are_refused(
    pg_engine: Engine, account: Any
) -> None:
    with pytest.raises(InstallError, match="role 'nobody-there' does not exist"):
        harden(pg_engine, account, role="nobody-there")
    with pg_engine.connect() as connection:
        superuser = connection.scalar(text("SELECT current_user"))
    with pytest.raises(InstallError, match="is a superuser"):
        harden(pg_engine, account, role=superuser)


OWNED = {
    "the events": (
        "ALTER TABLE account_event OWNER TO {role}",
        "owns public.account_event",
    ),
    "the schema": ("ALTER SCHEMA public OWNER TO {role}", "owns schema public"),
    "the function": (
        "ALTER FUNCTION account_event_record() OWNER TO {role}",
        "owns function public.account_event_record",
    ),
    "a superuser's rights": (
        "GRANT {owner} TO {role}",
        "is a member of .*, a superuser",
    ),
}


@pytest.mark.parametrize("owned", OWNED)
def test_a_role_that_has_an_owners_rights_is_refused(
    pg_engine: Engine, account: Any, role: str, granted: str, owned: str
) -> None:
    statement, message = OWNED[owned]
    with pg_engine.connect() as connection:
        owner = connection.scalar(text("SELECT quote_ident(current_user)"))
        connection.execute(text(statement.format(role=granted, owner=owner)))
        with pytest.raises(InstallError, match=message):
            harden(connection, account, role=role)


def test_a_role_that_owns_the_schema_of_a_tracked_table_could_drop_it_and_is_refused(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    role: str,
    granted: str,
) -> None:
    run(pg_engine, "CREATE SCHEMA app")

    @track(Snapshot, ignorable=False, schema="public")
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        __table_args__ = {"schema": "app"}
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    run(pg_engine, f"ALTER SCHEMA app OWNER TO {granted}")
    with pytest.raises(InstallError, match="owns schema app, and an owner may do any"):
        harden(pg_engine, Reading, role=role)
    run(pg_engine, "ALTER SCHEMA app OWNER TO CURRENT_USER")
    harden(pg_engine, Reading, role=role)


OTHER_WAYS = {
    "a group": (
        "CREATE ROLE {group}; GRANT DELETE ON account_event TO {group};"
        "GRANT {group} TO {role}",
        'DELETE on account_event as the "group"',
    ),
    "a role that it can become": (
        "CREATE ROLE {group}; GRANT INSERT (name) ON account_event TO {group};"
        "GRANT {group} TO {role}; ALTER ROLE {role} NOINHERIT",
        'INSERT on account_event as the "group"',
    ),
    "a grant of another": (
        "CREATE ROLE {group}; GRANT USAGE ON SEQUENCE pghistory_id_seq TO {group}"
        " WITH GRANT OPTION; SET ROLE {group};"
        "GRANT USAGE ON SEQUENCE pghistory_id_seq TO {role}; RESET ROLE",
        "USAGE on pghistory_id_seq",
    ),
    "a role of PostgreSQL": (
        "GRANT pg_write_all_data TO {role}",
        "UPDATE on pghistory_context as pg_write_all_data",
    ),
    "a partition": (
        "CREATE TABLE part () INHERITS (account_event); GRANT DELETE ON part TO {role}",
        "DELETE on part",
    ),
    "the parameter": (
        "GRANT SET ON PARAMETER session_replication_role TO {role}",
        "SET on parameter session_replication_role",
    ),
}


SERVER_RIGHTS = {
    "to set what switches triggers off": (
        "GRANT SET ON PARAMETER session_replication_role TO {role}",
        "SET on parameter session_replication_role",
    ),
    "to set it for everybody": (
        "GRANT ALTER SYSTEM ON PARAMETER session_replication_role TO {role}",
        "ALTER SYSTEM on parameter session_replication_role",
    ),
    "as everybody has it": (
        "GRANT SET ON PARAMETER session_replication_role TO PUBLIC",
        "SET on parameter session_replication_role",
    ),
    "of a group that it can become": (
        "CREATE ROLE {group}; GRANT {group} TO {role}; ALTER ROLE {role} NOINHERIT;"
        "GRANT ALTER SYSTEM ON PARAMETER archive_command TO {group}",
        'ALTER SYSTEM on parameter archive_command as the "group"',
    ),
    "to load a library": (
        "GRANT SET ON PARAMETER session_preload_libraries TO {role}",
        "SET on parameter session_preload_libraries",
    ),
    "to run programs": (
        "GRANT pg_execute_server_program TO {role}",
        "membership in pg_execute_server_program",
    ),
    "to run programs, by a group in a group": (
        "CREATE ROLE {group}; GRANT pg_execute_server_program TO {group};"
        "GRANT {group} TO {role}",
        "membership in pg_execute_server_program",
    ),
    "to write files": (
        "GRANT pg_write_server_files TO {role}",
        "membership in pg_write_server_files",
    ),
    "to write files, by a function": (
        "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO {role}",
        "EXECUTE on function lo_export",
    ),
    "to own a subscription": (
        'CREATE SUBSCRIPTION "sub ""1" CONNECTION \'dbname=x password=x\''
        " PUBLICATION p WITH (connect = false, slot_name = NONE);"
        "GRANT CREATE ON DATABASE {database} TO {role};"
        'ALTER SUBSCRIPTION "sub ""1" OWNER TO {role}',
        'ownership of subscription "sub ""1"',
    ),
    "to sit where no trigger fires": (
        "ALTER ROLE {role} SET session_replication_role = 'replica'",
        "the setting session_replication_role = replica",
    ),
}


def give(
    connection: Connection, role: str, way: str, ways: dict[str, tuple[str, str]]
) -> str:
    """Give the role a right, and return what harden has to call it."""
    statements, named = ways[way]
    if "subscription" in named and connection.dialect.server_version_info < (16,):
        owner = "ALTER ROLE {role} SUPERUSER"
        statements = statements.replace("ALTER SUB", f"{owner}; ALTER SUB")
        statements += f"; {owner.replace(' SUPER', ' NOSUPER')}"
    elif "subscription" in named:
        statements = statements.replace(
            "ALTER SUB", "GRANT pg_create_subscription TO {role}; ALTER SUB"
        )
    names = {
        "role": role,
        "group": '"the ""group"""',
        "database": quote_ident(connection.engine.url.database or ""),
    }
    for statement in statements.split(";"):
        connection.execute(text(statement.format(**names)))
    return named


@pytest.mark.parametrize("way", SERVER_RIGHTS)
def test_a_right_on_the_server_that_gets_around_triggers_is_named_and_refused(
    pg_engine: Engine, account: Any, role: str, granted: str, way: str
) -> None:
    with pg_engine.connect() as connection:
        harden(connection, account, role=role)
        named = give(connection, granted, way, SERVER_RIGHTS)
        for dry_run in (False, True):
            with pytest.raises(InstallError, match="would still have") as error:
                harden(connection, account, role=role, dry_run=dry_run)
            assert named in str(error.value)


def test_a_migration_refuses_a_right_on_the_server(
    pg_engine: Engine, account: Any, role: str, granted: str, tmp_path: Path
) -> None:
    run(pg_engine, f"GRANT pg_execute_server_program TO {granted}")
    with pytest.raises(CommandError, match="membership in pg_execute_server_program"):
        harden_by_migration(pg_engine, account, role, tmp_path)


def test_a_role_with_createrole_is_refused_where_that_means_any_role(
    pg_engine: Engine, account: Any, role: str, granted: str
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text(f"ALTER ROLE {granted} CREATEROLE"))
        version = connection.dialect.server_version_info
        if version is not None and version >= (16,):
            harden(connection, account, role=role)
        else:
            with pytest.raises(InstallError, match="still have CREATEROLE"):
                harden(connection, account, role=role)


HARMLESS = (
    "GRANT SET ON PARAMETER log_min_messages TO {role}",
    "GRANT ALTER SYSTEM ON PARAMETER work_mem TO {role}",
    "GRANT pg_monitor TO {role}",
    "ALTER ROLE {role} SET work_mem = '8MB'",
)


@pytest.mark.parametrize("grant", HARMLESS)
def test_a_right_on_the_server_that_gets_around_nothing_is_left(
    pg_engine: Engine, account: Any, role: str, granted: str, grant: str
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text(grant.format(role=granted)))
        harden(connection, account, role=role)


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_a_right_that_is_had_by_another_way_is_found_and_nothing_is_changed(
    pg_engine: Engine, account: Any, role: str, granted: str, way: str
) -> None:
    statements, still = OTHER_WAYS[way]
    with pg_engine.connect() as connection:
        names = {"role": granted, "group": '"the ""group"""'}
        connection.execute(text(statements.format(**names)))
        before = privileges(connection)
        with pytest.raises(InstallError, match="nothing was changed: role") as error:
            harden(connection, account, role=role)
        assert still in str(error.value)
        assert privileges(connection) == before


def test_to_write_a_partition_is_a_right_too_many_where_it_leaves_no_event(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    role: str,
    granted: str,
    level: str,
    tmp_path: Path,
) -> None:
    @track(Snapshot, level=level, ignorable=False)
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        day: Mapped[int] = mapped_column(primary_key=True)

    # The model does not know it, or each row is recorded.
    partitioned = (
        "CREATE TABLE reading (day integer PRIMARY KEY) PARTITION BY LIST (day)"
    )
    run(pg_engine, partitioned)
    create_all()
    run(
        pg_engine,
        "CREATE TABLE days PARTITION OF reading DEFAULT PARTITION BY LIST (day)",
        "CREATE TABLE one PARTITION OF days DEFAULT",
        f"GRANT INSERT, UPDATE, DELETE ON reading TO {granted}",
        f"GRANT INSERT ON days TO {granted}; GRANT UPDATE (day) ON one TO {granted}",
    )
    if level == "row":
        harden(pg_engine, Reading, role=role)
    # A TRUNCATE of a partition fires no trigger for each row either.
    run(pg_engine, f"GRANT TRUNCATE ON days, one TO {granted}")
    truncate = "TRUNCATE on days, TRUNCATE on one"
    of_statement = f"INSERT on days, {truncate}, UPDATE on one"
    still = f"would still have {truncate if level == 'row' else of_statement}[,;]"
    with pytest.raises(InstallError, match=still):
        harden(pg_engine, Reading, role=role)
    with pytest.raises(CommandError, match=still):
        harden_by_migration(pg_engine, Reading, role, tmp_path)
    run(pg_engine, f"REVOKE ALL ON days, one FROM {granted}")
    harden(pg_engine, Reading, role=role)


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
