"""What a live database has of functions, triggers and views, and making it right."""

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
    ForeignKey,
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
    Manual,
    Protect,
    Snapshot,
    attach,
    events,
    track,
    view,
)
from sa_history.exc import InstallError, ProtectedError
from sa_history.install import Finding, check, install, status, uninstall

Run = Callable[..., None]
Objects = Callable[[], list[str]]

HOT_FIX = """
CREATE OR REPLACE FUNCTION public.account_event_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'BEGIN RETURN NULL; END'
"""

# What somebody does; what is found; and the command that mends it.
DRIFT = {
    "a function is gone": (
        ["DROP FUNCTION account_protect_delete() CASCADE"],
        [
            ("missing", "function", "public.account_protect_delete", "install"),
            (
                "missing",
                "trigger",
                "account_protect_delete on public.account",
                "install",
            ),
            (
                "missing",
                "trigger",
                "account_protect_delete_truncate on public.account",
                "install",
            ),
        ],
    ),
    "a trigger is gone": (
        ["DROP TRIGGER account_event_insert ON account"],
        [("missing", "trigger", "account_event_insert on public.account", "install")],
    ),
    "a view is gone": (
        ["DROP VIEW short"],
        [
            ("missing", "view", "public.short", "install"),
            ("missing", "trigger", "short_read_only on public.short", "install"),
        ],
    ),
    "the body of a function is hot-fixed": (
        [HOT_FIX],
        [("outdated", "function", "public.account_event_record", "install")],
    ),
    "a function runs as its caller": (
        ["ALTER FUNCTION account_event_record() SECURITY INVOKER"],
        [("outdated", "function", "public.account_event_record", "install")],
    ),
    "a function searches elsewhere": (
        ["ALTER FUNCTION account_event_record() SET search_path = public"],
        [("outdated", "function", "public.account_event_record", "install")],
    ),
    "a function has the path of its caller": (
        ["ALTER FUNCTION account_event_record() RESET search_path"],
        [("outdated", "function", "public.account_event_record", "install")],
    ),
    "a function may read a whole table": (
        ["ALTER FUNCTION pghistory_context_attach() RESET enable_seqscan"],
        [("outdated", "function", "public.pghistory_context_attach", "install")],
    ),
    "a trigger is made by hand": (
        [
            "DROP TRIGGER account_event_insert ON account",
            "CREATE TRIGGER account_event_insert AFTER INSERT ON account"
            " REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"
            " WHEN (current_user <> 'batch') EXECUTE FUNCTION account_event_record()",
        ],
        [("outdated", "trigger", "account_event_insert on public.account", "install")],
    ),
    "a trigger is replaced by hand and has a condition": (
        [
            "CREATE OR REPLACE TRIGGER account_event_insert AFTER INSERT ON account"
            " REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (false)"
            " EXECUTE FUNCTION account_event_record()",
        ],
        [("outdated", "trigger", "account_event_insert on public.account", "install")],
    ),
    "the mark of a trigger is lost": (
        ["COMMENT ON TRIGGER account_event_insert ON account IS 'a note'"],
        [("outdated", "trigger", "account_event_insert on public.account", "install")],
    ),
    "a view has other columns": (
        ["ALTER VIEW short RENAME COLUMN id TO number"],
        [("outdated", "view", "public.short", "install")],
    ),
    "all triggers of a table are disabled": (
        ["ALTER TABLE account_event DISABLE TRIGGER ALL"],
        [
            (
                "disabled",
                "trigger",
                "account_event_append_only on public.account_event",
                "install",
            )
        ],
    ),
    "a trigger stands twice": (
        [
            "CREATE TRIGGER again AFTER INSERT ON account"
            " REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"
            " EXECUTE FUNCTION account_event_record()",
            "COMMENT ON TRIGGER again ON account IS 'sa_history:0123456789abcdef'",
        ],
        [("duplicated", "trigger", "again on public.account", "install --prune")],
    ),
    "something is left of other models": (
        [
            "CREATE FUNCTION left_over() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'",
            "COMMENT ON FUNCTION left_over() IS 'sa_history:0123456789abcdef'",
            "CREATE TRIGGER left_over BEFORE INSERT ON account"
            " FOR EACH ROW EXECUTE FUNCTION left_over()",
            "COMMENT ON TRIGGER left_over ON account IS 'sa_history:0123456789abcdef'",
            "CREATE VIEW left_over AS SELECT name FROM account",
            "COMMENT ON VIEW left_over IS 'sa_history:0123456789abcdef'",
        ],
        [
            ("orphaned", "trigger", "left_over on public.account", "install --prune"),
            ("orphaned", "view", "public.left_over", "install --prune"),
            ("orphaned", "function", "public.left_over", "install --prune"),
        ],
    ),
}


def briefly(findings: list[Finding]) -> list[tuple[str, str, str, str | None]]:
    return [(f.problem.value, f.kind, f.name, f.command) for f in findings]


@pytest.mark.parametrize("drift", DRIFT)
def test_drift_is_found_and_its_command_mends_it(
    drift: str, installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    before = objects()
    assert check(pg_engine, installed) == []
    statements, found = DRIFT[drift]
    run(*statements)

    findings = check(pg_engine, installed)

    assert briefly(findings) == found
    prune = any(finding.command == "install --prune" for finding in findings)
    assert install(pg_engine, installed, prune=prune) != []
    assert check(pg_engine, installed) == []
    assert objects() == before


def test_what_somebody_else_made_is_theirs_to_drop(
    installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    run(
        "CREATE TRIGGER theirs AFTER INSERT ON account"
        " REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"
        " EXECUTE FUNCTION account_event_record()"
    )

    (finding,) = check(pg_engine, installed)

    assert str(finding) == (
        "duplicated trigger theirs on public.account: drop it yourself; sa_history "
        "has not made it"
    )
    assert install(pg_engine, installed, prune=True) == []
    with pytest.raises(InstallError, match="theirs on table account depends on"):
        uninstall(pg_engine, installed)
    run("DROP TRIGGER theirs ON account")
    assert check(pg_engine, installed) == []


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


def test_what_a_newer_library_has_installed_stays(
    installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    with pg_engine.begin() as connection:
        (source,) = connection.execute(
            text("SELECT pg_get_functiondef('pghistory_context_append_only'::regproc)")
        ).one()
        newer, older = (
            source.replace(
                "-- sa_history: version 1\n", f"-- sa_history: version {v}\n"
            )
            for v in (99, 0)
        )
        assert newer != source
    run(newer)
    before = objects()

    (finding,) = check(pg_engine, installed)

    assert str(finding) == (
        "newer function public.pghistory_context_append_only: upgrade sa_history; a "
        "newer version has installed it"
    )
    assert install(pg_engine, installed) == []
    assert objects() == before

    run(older)
    assert briefly(check(pg_engine, installed)) == [
        ("outdated", "function", "public.pghistory_context_append_only", "install")
    ]
    install(pg_engine, installed)
    assert check(pg_engine, installed) == []


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


def test_a_disabled_trigger_fires_again(
    installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    run("ALTER TABLE account DISABLE TRIGGER account_event_insert")
    assert install(pg_engine, installed) == [
        "enable trigger account_event_insert on public.account"
    ]
    run("INSERT INTO account VALUES (1, 'a')")
    with pg_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM account_event")) == 1


def partitioned(metadata: MetaData, level: str) -> Table:
    part = Table(
        "part",
        metadata,
        Column("id", Integer, primary_key=True),
        postgresql_partition_by="RANGE (id)",
    )
    return track(Snapshot, AfterDelete, level=level)(part)  # type: ignore[arg-type]


PARTITIONS = """
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100)
PARTITION BY RANGE (id);
CREATE TABLE part_1_1 PARTITION OF part_1 FOR VALUES FROM (0) TO (50);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200)
"""


def test_partitions_bypass_a_trigger_of_statement_level(
    pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    partitioned(metadata, "statement")
    metadata.create_all(pg_engine)
    run(PARTITIONS)

    findings = check(pg_engine, metadata)

    assert [(f.problem, f.name) for f in findings] == [
        ("bypassed", "public.part_1_1"),
        ("bypassed", "public.part_2"),
    ]
    assert {(f.command, f.advice) for f in findings} == {
        (
            None,
            "a statement that names it leaves no event; write to part, or track that "
            'with level="row"',
        )
    }


def test_a_table_that_is_recorded_by_hand_only_is_not_bypassed(
    pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    part = Table(
        "part",
        metadata,
        Column("id", Integer, primary_key=True),
        postgresql_partition_by="RANGE (id)",
    )
    track(Manual("seen"))(part)
    metadata.create_all(pg_engine)
    run(PARTITIONS)
    assert check(pg_engine, metadata) == []


def test_a_trigger_that_is_disabled_on_a_partition_is_found(
    pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    partitioned(metadata, "row")
    metadata.create_all(pg_engine)
    run(PARTITIONS)
    assert check(pg_engine, metadata) == []
    run("ALTER TABLE part_1_1 DISABLE TRIGGER part_event_update")

    (finding,) = check(pg_engine, metadata)

    assert str(finding) == (
        "bypassed partition public.part_1_1: enable the trigger part_event_update on it"
    )
    run("ALTER TABLE part_1_1 ENABLE TRIGGER part_event_update")
    assert check(pg_engine, metadata) == []


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
    with pg_engine.begin() as connection:
        connection.execute(insert(account).values(id=1, name="a"))
        with pytest.raises(InstallError, match="already exists"):
            install(connection, installed)
    with pg_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(account)) == 1


def test_a_connection_commits_when_its_owner_does(
    installed: MetaData, pg_engine: Engine, objects: Objects
) -> None:
    before = objects()
    with pg_engine.connect() as connection:
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

    async def main() -> None:
        async with pg_async_engine.begin() as connection:
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


def test_uninstalling_leaves_other_models_working(
    pg_engine: Engine, run: Run, metadata: MetaData
) -> None:
    run("CREATE SCHEMA other")
    neighbour, gone = MetaData(), MetaData()
    for models, schema, name in ((neighbour, "other", "beside"), (gone, None, "was")):
        table = Table(
            name, models, Column("id", Integer, primary_key=True), schema=schema
        )
        track(Snapshot, append_only=True)(table)
    for models in (metadata, neighbour, gone):
        models.create_all(pg_engine)

    uninstall(pg_engine, metadata)

    run("INSERT INTO other.beside VALUES (1)", "INSERT INTO was VALUES (1)")
    assert briefly(check(pg_engine, neighbour, gone)) == [
        ("orphaned", "view", "public.short", "install --prune")
    ]
    uninstall(pg_engine, neighbour, gone)
    install(pg_engine, metadata, neighbour, gone)
    assert check(pg_engine, metadata, neighbour, gone) == []


@pytest.mark.contrib
def test_foreign_objects_are_never_touched(
    installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    run(
        "CREATE EXTENSION citext",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        "COMMENT ON FUNCTION stamp() IS 'not of sa_history:'",
        "CREATE TRIGGER stamp BEFORE INSERT ON account"
        " FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE TRIGGER stamp BEFORE INSERT ON account_event"
        " FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE VIEW long AS SELECT * FROM account",
        "CREATE SEQUENCE numbers",
    )
    before = objects()
    foreign = [o for o in before if "stamp" in o or "long" in o or "citext" in o]

    assert check(pg_engine, installed) == []
    uninstall(pg_engine, installed)
    assert set(foreign) <= set(objects())
    install(pg_engine, installed, prune=True)
    assert objects() == before


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


def test_reading_writes_nothing_and_waits_for_nobody(
    installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    partitioned(installed, "row")
    installed.create_all(pg_engine)
    run(PARTITIONS, "ALTER DATABASE " + _database(pg_engine) + " SET lock_timeout = 1")
    pg_engine.dispose()
    with pg_engine.begin() as other, pg_engine.connect() as reader:
        other.exec_driver_sql("LOCK account, account_event, short, part, part_2")
        reader.exec_driver_sql("SET default_transaction_read_only = on")
        reader.commit()

        assert check(reader, installed) == []
        assert {state.problem for state in status(reader, installed)} == {None}

        locks = "SELECT relation::regclass::text FROM pg_locks WHERE pid = "
        locked = set(reader.scalars(text(locks + "pg_backend_pid()")))
        assert not {name for name in locked if name and not name.startswith("pg_")}


def _database(engine: Engine) -> str:
    return f'"{engine.url.database}"'


@pytest.mark.parametrize("schema", [None, 'We"ird % schéma'], ids=["plain", "odd"])
def test_odd_names(schema: str | None, pg_engine: Engine, run: Run) -> None:
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
    engine = create_engine(pg_url.set(drivername=f"postgresql+{driver}"))
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


def test_what_is_no_database_and_no_models_is_refused(pg_engine: Engine) -> None:
    with pytest.raises(InstallError, match="bind is an engine or a connection, got 1"):
        check(1, MetaData())  # type: ignore[arg-type]
    with pytest.raises(InstallError, match="models are declarative bases .* got 'x'"):
        check(pg_engine, "x")  # type: ignore[arg-type]
    with pytest.raises(InstallError, match="no models; give a declarative base"):
        check(pg_engine)


def test_status_names_every_object(
    installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    run("DROP TRIGGER account_event_insert ON account")
    shown = [str(state) for state in status(pg_engine, installed)]
    assert "missing    trigger  account_event_insert on public.account" in shown
    assert "installed  function public.account_event_record" in shown
    assert "installed  sequence public.pghistory_id_seq" in shown
    assert "installed  view     public.short" in shown
    assert len(shown) == len(set(shown)) == 18


def test_a_model_that_was_taken_away_is_not_looked_for(
    pg_engine: Engine, metadata: MetaData
) -> None:
    metadata.create_all(pg_engine)
    child = Table(
        "child",
        metadata,
        Column("id", ForeignKey("account.id"), primary_key=True),
    )
    track(Snapshot)(child)
    attach(Protect(Delete))(child)
    assert check(pg_engine, metadata) != []
    metadata.remove(child)
    assert check(pg_engine, metadata) == []
