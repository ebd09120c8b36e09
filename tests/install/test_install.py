"""Installing into a database that has the tables."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from sa_history import (
    AfterDelete,
    Delete,
    Protect,
    Snapshot,
    attach,
    events,
    track,
    view,
)
from sa_history.exc import InstallError, ProtectedError
from sa_history.install import check, harden, install, status, uninstall
from tests.install.models import Objects, Run


@pytest.mark.parametrize(
    "taken", ["FUNCTION account_protect_delete()", "SEQUENCE pghistory_id_seq"]
)
def test_a_name_that_somebody_else_has_taken_is_left_to_them(
    taken: str, installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    run(f"COMMENT ON {taken} IS 'theirs'")
    before = objects()

    with pytest.raises(InstallError, match="rename or drop it, or give it the comment"):
        install(pg_engine, installed)

    assert objects() == before
    run(f"COMMENT ON {taken} IS 'sa_history:'")
    install(pg_engine, installed)
    assert check(pg_engine, installed) == []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_connection_that_cannot_see_what_others_install_is_refused(
    level: str, installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    """The wait for them would take its snapshot, from before they were done."""
    run("DROP FUNCTION account_event_record CASCADE")
    isolated = pg_engine.execution_options(isolation_level=level)
    with isolated.connect() as connection:
        for change in (install, uninstall):
            with pytest.raises(InstallError) as refused:
                change(connection, installed)
        assert str(refused.value) == (
            f"the connection's transaction is {level}, and so does not see what others "
            "commit meanwhile; give an engine, or a connection with "
            'isolation_level="READ COMMITTED"'
        )
        assert check(connection, installed) != []
    install(isolated, installed)
    uncommitted = pg_engine.execution_options(isolation_level="READ UNCOMMITTED")
    with uncommitted.connect() as connection:
        assert install(connection, installed) == []
        assert check(connection, installed) == []


@pytest.mark.parametrize("state", ["ALWAYS", "REPLICA"])
def test_a_trigger_goes_on_firing_where_it_was_told_to(
    state: str, installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    run(f"ALTER TABLE account ENABLE {state} TRIGGER account_event_insert")
    before = objects()
    assert check(pg_engine, installed) == []
    run("COMMENT ON TRIGGER account_event_insert ON account IS NULL")

    install(pg_engine, installed)

    assert objects() == before


def test_a_failure_in_the_middle_leaves_nothing(
    installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    uninstall(pg_engine, installed)
    run(
        "CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'stopped'; END$$",
        "CREATE EVENT TRIGGER stop ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER')"
        " EXECUTE FUNCTION stop()",
    )
    before = objects()
    # An engine that commits each statement by itself, and one with one snapshot.
    for isolation in ("AUTOCOMMIT", "REPEATABLE READ"):
        engine = pg_engine.execution_options(isolation_level=isolation)
        with pytest.raises(InstallError, match="^nothing was changed: stopped"):
            install(engine, installed)
        assert objects() == before


def test_a_failure_leaves_the_transaction_of_a_connection_as_it_was(
    installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    run("COMMENT ON FUNCTION account_protect_delete() IS NULL")
    account = installed.tables["account"]
    engine = pg_engine.execution_options(isolation_level="READ COMMITTED")
    with engine.begin() as connection:
        connection.execute(insert(account).values(id=1, name="a"))
        with pytest.raises(InstallError, match="account_protect_delete"):
            install(connection, installed)
    with pg_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(account)) == 1


def test_a_connection_commits_when_its_owner_does(
    installed: MetaData, pg_engine: Engine, objects: Objects
) -> None:
    before = objects()
    engine = pg_engine.execution_options(isolation_level="READ COMMITTED")
    with engine.connect() as connection:
        uninstall(connection, installed)
        assert check(connection, installed) != []
        install(connection, installed)
        uninstall(connection, installed)
        connection.rollback()
    assert objects() == before


def test_an_async_connection_runs_it_in_sync(
    installed: MetaData, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> None:
    uninstall(pg_engine, installed)
    engine = pg_async_engine.execution_options(isolation_level="READ COMMITTED")

    async def main() -> None:
        async with engine.begin() as connection:
            assert len(await connection.run_sync(install, installed)) > 5
            assert await connection.run_sync(check, installed) == []
            states = await connection.run_sync(status, installed)
            assert {state.problem for state in states} == {None}

    asyncio.run(main())


def test_install_is_idempotent(installed: MetaData, pg_engine: Engine) -> None:
    assert install(pg_engine, installed, prune=True) == []
    assert install(pg_engine, installed, prune=True) == []


def test_what_was_dropped_comes_back_as_create_all_made_it(
    installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    before = objects()
    run("INSERT INTO account VALUES (1, 'a')")

    done = uninstall(pg_engine, installed)

    assert {what.split()[1] for what in done} == {"trigger", "function"}
    assert [found.split()[0] for found in objects()] == [
        "account",
        "account_event",
        "account_id_seq",
        "pghistory_context",
        "pghistory_id_seq",
        "short",
    ]
    run("DELETE FROM account", "UPDATE account_event SET pgh_label = 'forged'")
    assert uninstall(pg_engine, installed) == []
    install(pg_engine, installed)
    assert objects() == before
    with pg_engine.connect() as connection:
        rows = connection.execute(text("SELECT id, pgh_label FROM account_event"))
        assert rows.all() == [(1, "forged")]


def test_triggers_and_views_are_added_to_tables_that_stand(
    pg_engine: Engine, run: Run
) -> None:
    run("CREATE TABLE plain (id int PRIMARY KEY)", "INSERT INTO plain VALUES (1)")
    metadata = MetaData()
    plain = Table("plain", metadata, Column("id", Integer, primary_key=True))
    attach(Protect(Delete))(plain)
    shown = view("shown", metadata, select(plain.c.id))
    view("shown_again", metadata, select(shown.c.id))

    assert install(pg_engine, metadata) == [
        "create function public.plain_protect_delete",
        "create function public.shown_read_only",
        "create function public.shown_again_read_only",
        "create view public.shown",
        "create view public.shown_again",
        "create trigger plain_protect_delete on public.plain",
        "create trigger plain_protect_delete_truncate on public.plain",
        "create trigger shown_read_only on public.shown",
        "create trigger shown_again_read_only on public.shown_again",
    ]

    with pytest.raises(ProtectedError):
        run("DELETE FROM plain")
    assert check(pg_engine, metadata) == []


def test_nothing_is_installed_without_the_tables(
    metadata: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    run("CREATE TABLE account (id int PRIMARY KEY)")
    before = objects()

    found = check(pg_engine, metadata)

    assert {finding.command for finding in found} == {None}
    tables = [finding for finding in found if finding.kind in ("table", "column")]
    assert [str(finding) for finding in tables] == [
        "missing table public.pghistory_context: run the migrations, or create_all()",
        "missing table public.account_event: run the migrations, or create_all()",
        "missing column public.account.name: run the migrations, or create_all()",
    ]
    with pytest.raises(
        InstallError,
        match="^nothing is installed, since the database has no table "
        r"public\.pghistory_context, table public\.account_event, column "
        r"public\.account\.name; run the migrations, or create_all\(\)$",
    ):
        install(pg_engine, metadata)
    assert objects() == before


def test_each_tenant_has_its_own(pg_engine: Engine, run: Run) -> None:
    metadata = MetaData()
    child = Table("child", metadata, Column("id", Integer, primary_key=True))
    track(Snapshot)(child)
    run("CREATE SCHEMA one", "CREATE SCHEMA two")
    tenants = [
        pg_engine.execution_options(schema_translate_map={None: schema})
        for schema in ("one", "two")
    ]
    for tenant in tenants:
        metadata.create_all(tenant)
        assert check(tenant, metadata) == []
    assert {f.problem for f in check(pg_engine, metadata)} == {"missing"}

    uninstall(tenants[0], metadata)

    assert check(tenants[0], metadata) != []
    assert check(tenants[1], metadata) == []
    install(tenants[0], metadata)
    assert check(tenants[0], metadata) == []


def test_models_may_be_in_several_schemas_and_metadata(
    pg_engine: Engine, run: Run
) -> None:
    run("CREATE SCHEMA crm", "CREATE SCHEMA log")
    first, second = MetaData(), MetaData(schema="log")
    for metadata, schema in ((first, None), (first, "crm"), (second, "log")):
        track(Snapshot, event_name=f"{schema}Item")(
            Table(
                "item", metadata, Column("id", Integer, primary_key=True), schema=schema
            )
        )
    for metadata in (first, second):
        metadata.create_all(pg_engine)
    assert check(pg_engine, first, second) == []
    run("DROP TRIGGER item_event_insert ON crm.item")
    run("DROP TRIGGER item_event_insert ON log.item")

    assert [f.name for f in check(pg_engine, first, second)] == [
        "item_event_insert on crm.item",
        "item_event_insert on log.item",
    ]
    install(pg_engine, first, second)
    assert check(pg_engine, first, second) == []


def test_two_processes_install_one_after_the_other(
    installed: MetaData, pg_url: URL, pg_engine: Engine, objects: Objects
) -> None:
    before = objects()
    done: list[list[str]] = []
    uninstall(pg_engine, installed)

    def process(isolation: str) -> None:
        engine = create_engine(pg_url, isolation_level=isolation)  # type: ignore[arg-type]
        start.wait()
        done.append(install(engine, installed))
        engine.dispose()

    levels = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT")
    start = threading.Barrier(len(levels))
    threads = [threading.Thread(target=process, args=(level,)) for level in levels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(bool(steps) for steps in done) == [False, False, False, True]
    assert objects() == before


@pytest.mark.parametrize("schema", [None, 'We"ird % schéma'], ids=["plain", "odd"])
def test_objects_of_any_name_are_installed_and_dropped(
    schema: str | None, pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData(schema=schema)
    if schema:
        run('CREATE SCHEMA "We""ird % schéma"')
    odd = Table(
        'O\'dd "Täble" 100% :x',
        metadata,
        Column('I"d %s', Integer, primary_key=True, key="id"),
        Column("Größe %(x)s", Text, key="size"),
    )
    track(Snapshot, AfterDelete(label="50% 'off'"), append_only=True)(odd)
    attach(Protect(Delete))(odd)
    view('V"iew %', metadata, select(odd.c.id, odd.c.size))
    metadata.create_all(pg_engine)
    assert check(pg_engine, metadata) == []

    uninstall(pg_engine, metadata)
    install(pg_engine, metadata)

    assert check(pg_engine, metadata) == []
    with pg_engine.begin() as connection:
        connection.execute(insert(odd).values(id=1, size="a"))
        assert len(connection.execute(events(odd).select()).all()) == 1


def as_role(engine: Engine, name: str, *grants: str) -> Callable[[], Connection]:
    with engine.begin() as connection:
        role = f"{name}_{engine.url.database}"
        connection.exec_driver_sql(f"CREATE ROLE {role}")
        for grant in grants:
            connection.exec_driver_sql(f"{grant} TO {role}")

    def connect() -> Connection:
        connection = engine.connect()
        connection.exec_driver_sql(f"SET SESSION ROLE {role}")
        connection.commit()
        return connection

    return connect


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_role_without_rights_is_told_what_to_do(
    driver: str, installed: MetaData, pg_engine: Engine, objects: Objects, pg_url: URL
) -> None:
    url = pg_url.set(drivername=f"postgresql+{driver}")
    engine = create_engine(url, isolation_level="READ COMMITTED")
    uninstall(pg_engine, installed)
    before = objects()
    # It may create functions, and fails at the triggers.
    connect = as_role(engine, "app", "GRANT CREATE ON SCHEMA public")
    with connect() as connection:
        assert {f.problem for f in check(connection, installed)} == {"missing"}
        with pytest.raises(
            InstallError, match="nothing was changed: .*role that owns the tables$"
        ):
            install(connection, installed)
        connection.commit()
        assert objects() == before
        connection.exec_driver_sql("RESET ROLE")
        role = f"app_{pg_url.database}"
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
        connection.commit()
    engine.dispose()


def test_models_that_track_nothing_are_refused(
    installed: MetaData, pg_engine: Engine
) -> None:
    """A health check would never fail if nobody imports the models."""
    for function in (check, status, install, uninstall):
        with pytest.raises(InstallError, match=r"MetaData\(\) tracks nothing; import"):
            function(pg_engine, MetaData())
    with pytest.raises(InstallError, match=r"MetaData\(\) tracks nothing; import"):
        harden(pg_engine, MetaData(), role="app")
    assert not check(pg_engine, installed, MetaData())


def test_what_is_no_database_and_no_models_is_refused(pg_engine: Engine) -> None:
    with pytest.raises(InstallError, match="bind is an engine or a connection, got 1"):
        check(1, MetaData())  # type: ignore[arg-type]
    with pytest.raises(InstallError, match="'x' is no declarative base and no"):
        check(pg_engine, "x")  # type: ignore[arg-type]
    with pytest.raises(InstallError, match="no models; give a declarative base"):
        check(pg_engine)
