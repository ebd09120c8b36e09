"""Drift: what is found, and the command that mends it."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    Text,
    select,
    text,
)

from sa_history import (
    AfterDelete,
    AfterInsert,
    Audit,
    Delete,
    Manual,
    Protect,
    Snapshot,
    attach,
    audit_table,
    track,
    view,
)
from sa_history.exc import InstallError
from sa_history.install import check, install, status, uninstall
from sa_history.sql.functions import VERSION
from tests.install.models import Objects, Run, briefly

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


def test_names_that_postgresql_prints_with_quotes_are_no_drift(
    pg_engine: Engine,
) -> None:
    """As where ``quote_all_identifiers`` is on."""
    metadata = MetaData()
    table = Table("account", metadata, Column("id", Integer, primary_key=True))
    context_column = Column("user", Text)
    track(Snapshot, append_only=True, context_columns=[context_column])(table)
    attach(Protect(Delete))(table)
    view("short", metadata, select(table.c.id))
    metadata.create_all(pg_engine)
    engine = pg_engine.execution_options(isolation_level="READ COMMITTED")
    with engine.connect() as connection:
        connection.execute(text("SET quote_all_identifiers = on"))
        assert check(connection, metadata) == []
        connection.execute(text("DROP FUNCTION pghistory_context_value"))
        (finding,) = check(connection, metadata)
        assert finding.problem == "missing"
        install(connection, metadata)
        assert check(connection, metadata) == []
        uninstall(connection, metadata)
        functions = text("SELECT count(*) FROM pg_proc WHERE pronamespace = :schema")
        public = text("SELECT 'public'::regnamespace::oid")
        schema = connection.scalar(public)
        assert connection.scalar(functions, {"schema": schema}) == 0


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
    with pytest.raises(
        InstallError, match=r"(?s)account_event_record\(\).*theirs.*account"
    ):
        uninstall(pg_engine, installed)
    run("DROP TRIGGER theirs ON account")
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
                f"-- sa_history: version {VERSION}\n", f"-- sa_history: version {v}\n"
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


def partitioned(metadata: MetaData, level: str, is_known: bool = True) -> Table:
    part = Table(
        "part",
        metadata,
        Column("id", Integer, primary_key=True),
        postgresql_partition_by="RANGE (id)" if is_known else None,
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
    partitioned(metadata, "statement", is_known=False)
    run("CREATE TABLE part (id integer PRIMARY KEY) PARTITION BY RANGE (id)")
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


FOREIGN_PARTITION = """
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far PARTITION OF part FOR VALUES FROM (0) TO (9) SERVER nowhere
"""


@pytest.mark.parametrize("level", ["statement", "row"])
def test_a_foreign_partition_needs_triggers_of_row_level(
    level: str, pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    partitioned(metadata, level, is_known=False)
    run("CREATE TABLE part (id integer) PARTITION BY RANGE (id)")
    metadata.create_all(pg_engine)
    run(FOREIGN_PARTITION)
    try:
        findings = check(pg_engine, metadata)
    finally:
        run("DROP FOREIGN DATA WRAPPER nothing CASCADE")

    advice = (
        "PostgreSQL refuses to write it as a foreign table of part, which has "
        'transition tables; track that with level="row"'
    )
    expected = [("public.far", advice)] if level == "statement" else []
    assert [(f.name, f.advice) for f in findings] == expected


def test_partitions_of_a_table_that_the_model_calls_partitioned_bypass_nothing(
    pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    partitioned(metadata, "statement")
    metadata.create_all(pg_engine)
    run(PARTITIONS)
    assert check(pg_engine, metadata) == []


@pytest.mark.parametrize(
    ("made", "bypassed"),
    [
        ("CREATE TABLE child PARTITION OF parent DEFAULT", ["all", "Audit", "inserts"]),
        ("CREATE TABLE child (id int PRIMARY KEY) INHERITS (parent)", ["all", "Audit"]),
        ("CREATE TABLE child (id int PRIMARY KEY)", []),
    ],
)
@pytest.mark.parametrize("recorder", ["all", "Audit", "inserts", "by row"])
def test_a_table_that_is_written_through_another_is_bypassed(
    recorder: str, made: str, bypassed: list[str], pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    child = Table("child", metadata, Column("id", Integer, primary_key=True))
    if recorder == "Audit":
        attach(Audit(into=audit_table("log", metadata)))(child)
    else:
        trackers = [AfterInsert] if recorder == "inserts" else [Snapshot, AfterDelete]
        track(*trackers, level="row" if recorder == "by row" else "statement")(child)
    by = "PARTITION BY LIST (id)" if "PARTITION" in made else ""
    run(f"CREATE TABLE parent (id integer) {by}", made)
    metadata.create_all(pg_engine)
    install(pg_engine, metadata)

    assert [str(finding) for finding in check(pg_engine, metadata)] == (
        [
            "bypassed table public.child: a statement that names parent leaves no "
            'event of it; give level="row"'
        ]
        if recorder in bypassed
        else []
    )


def referring(metadata: MetaData, recorder: str) -> Table:
    Table("parent", metadata, Column("id", Integer, primary_key=True))
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", ForeignKey("parent.id", ondelete="CASCADE")),
        Column("friend_id", Integer),
    )
    if recorder == "Audit":
        attach(Audit(into=audit_table("log", metadata)))(child)
    elif recorder == "track by row":
        track(level="row")(child)
    else:
        trackers = [AfterDelete] if recorder == "deletions" else [Snapshot, AfterDelete]
        track(*trackers)(child)
    return child


BEFRIEND = """
ALTER TABLE child ADD CONSTRAINT friend FOREIGN KEY (friend_id)
REFERENCES parent ON DELETE SET NULL
"""


@pytest.mark.parametrize(
    ("recorder", "is_found"),
    [("track", True), ("Audit", True), ("track by row", False), ("deletions", False)],
)
def test_a_foreign_key_that_disturbs_the_order_and_is_in_no_model_is_found(
    recorder: str, is_found: bool, pg_engine: Engine, run: Run
) -> None:
    metadata = MetaData()
    child = referring(metadata, recorder)
    metadata.create_all(pg_engine)
    assert check(pg_engine, metadata) == []
    run(BEFRIEND)

    assert [str(finding) for finding in check(pg_engine, metadata)] == (
        [
            "unordered table public.child: by its foreign keys one statement can "
            "update a row and delete it, and not all of them are in the models; add "
            'them there, or give level="row"'
        ]
        if is_found
        else []
    )
    if not is_found:
        return
    child.append_constraint(
        ForeignKeyConstraint(["friend_id"], ["parent.id"], ondelete="SET NULL")
    )
    found = briefly(check(pg_engine, metadata))
    assert {problem for problem, *_ in found} == {"outdated"}
    assert {command for *_, command in found} == {"install"}
    install(pg_engine, metadata)
    assert check(pg_engine, metadata) == []


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
