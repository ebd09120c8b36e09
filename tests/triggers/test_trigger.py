"""Any trigger, with a body in PL/pgSQL."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Computed,
    Engine,
    Integer,
    MetaData,
    NullPool,
    Table,
    Text,
    create_engine,
    create_mock_engine,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    AnyChange,
    Delete,
    Insert,
    Operations,
    Protect,
    Referencing,
    Trigger,
    Truncate,
    Update,
    UpdateOf,
    attach,
    new,
    old,
    track,
)
from sa_history._types import Level
from sa_history.attachments.registry import Attachment
from sa_history.ddl.elements import PGTrigger
from sa_history.ddl.execution import create_objects
from sa_history.exc import ConditionError, DefinitionError, ProtectedError
from sa_history.sql.compose import Qualified

CreateAll = Callable[[], None]
Make = Callable[..., Any]
Said = Callable[[], list[str]]

SAY = "INSERT INTO said (word) VALUES ({}); RETURN COALESCE(NEW, OLD);"
"""A body that notes something."""


@pytest.fixture
def note(base: type[DeclarativeBase]) -> Table:
    """A table with a key and two texts, not yet created."""
    return Table(
        "note",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("body", Text),
        Column("the size", Integer, key="size"),
    )


@pytest.fixture
def said(base: type[DeclarativeBase], pg_session: Session) -> Said:
    """Return the words that triggers noted, oldest first."""
    table = Table(
        "said",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("word", Text),
    )
    words = select(table.c.word).order_by(table.c.id)
    return lambda: list(pg_session.scalars(words))


def say(name: str, when: Any, operation: Operations, **options: Any) -> Trigger:
    """Return a trigger that notes its name, with what fired it."""
    body = SAY.format(f"'{name} ' || TG_OP")
    return Trigger(name, when, operation, body=body, **options)


# The body.


BODIES = {
    "single_quotes": ("NEW.body := 'it''s ' || quote_literal('a');", "it's 'a'"),
    "double_quotes": ('NEW."body" := \'"so"\';', '"so"'),
    "format": ("NEW.body := format('%s%%, %%s %I', 7, 'a b');", '7%, %s "a b"'),
    "modulo": ("NEW.body := 7%4 || ' %(x)s %s %b %%';", "3 %(x)s %s %b %%"),
    "like": ("IF 'a%' LIKE 'a\\%' THEN NEW.body := 'like'; END IF;", "like"),
    "colon": ("NEW.body := 'a:b :x ::c'::text;", "a:b :x ::c"),
    "assignment": ("NEW.body:=':=' || (ARRAY[1,2])[1:2]::text;", ":={1,2}"),
    "braces": ('NEW.body := \'{"a": {}, "b": "{0}"}\'::jsonb ->> \'b\';', "{0}"),
    "dollars": ("NEW.body := $$it's $1$$ || $x$ $$ $x$;", "it's $1 $$ "),
    "our_quote": ("NEW.body := $history$it's$history$;", "it's"),
    "our_quotes": ("NEW.body := '$history$history1$ $h';", "$history$history1$ $h"),
    "parameters": ("EXECUTE 'SELECT $1 || $2' INTO NEW.body USING 'a', '?';", "a?"),
    "question": ("NEW.body := ('{\"a\": 1}'::jsonb ? 'a')::text;", "true"),
    "backslashes": (r"NEW.body := 'a\b\\' || E'\\\'\x41\n';", "a\\b\\\\\\'A\n"),
    "comment": ("-- it's 50% {done} $$ :x\nNEW.body := 'a';", "a"),
    "block_comment": ("/* it's /* 50% */ $$ */ NEW.body := 'a';", "a"),
    "unicode": ("NEW.body := 'Größe 寸 😀' || U&'\\0041';", "Größe 寸 😀A"),
    "line_ends": ("NEW.body := 'a\r\nb\tc';\r\n", "a\r\nb\tc"),
    "block": ("DECLARE x text := 'in'; BEGIN NEW.body := x; END;", "in"),
    "null": ("NEW.body := NULL;", None),
    "semicolons": ("NEW.body := 'a;b'; NULL;", "a;b"),
    "comment_at_the_end": ("NEW.body := 'a'; RETURN NEW; -- 50% {done} $$ :x", "a"),
}


def by_psycopg(metadata: MetaData, url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool)
    metadata.create_all(engine)


def by_psycopg2(metadata: MetaData, url: URL) -> None:
    by_psycopg(metadata, url.set(drivername="postgresql+psycopg2"))


def by_asyncpg(metadata: MetaData, url: URL) -> None:
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"), poolclass=NullPool
    )

    async def main() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    asyncio.run(main())


def printed(metadata: MetaData, drivername: str = "postgresql+psycopg") -> str:
    """Return what create_all does, as a script."""
    statements: list[str] = []
    offline = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    engine = create_mock_engine(
        f"{drivername}://",
        lambda element, *_, **__: statements.append(
            str(element.compile(dialect=offline))
        ),
    )
    metadata.create_all(engine, checkfirst=False)
    return "".join(f"{statement.strip()};\n" for statement in statements)


def by_printing(metadata: MetaData, url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute(printed(metadata))


@pytest.fixture(params=[by_psycopg, by_psycopg2, by_asyncpg, by_printing])
def created(request: pytest.FixtureRequest, pg_url: URL) -> Callable[[MetaData], None]:
    """Create the tables: with each driver, or by a script that a mock engine prints."""
    return lambda metadata: request.param(metadata, pg_url)


@pytest.mark.parametrize("name", BODIES)
def test_body_is_taken_as_it_is(
    name: str, note: Table, created: Callable[[MetaData], None], pg_session: Session
) -> None:
    code, expected = BODIES[name]
    body = code if "RETURN" in code else f"{code} RETURN NEW;"
    attach(Trigger("fill", "before", Insert, body=body))(note)
    created(note.metadata)
    pg_session.execute(insert(note).values(id=1, body="given"))
    assert pg_session.scalar(select(note.c.body)) == expected
    stored = pg_session.scalar(
        text("SELECT prosrc FROM pg_proc WHERE proname = 'note_fill'")
    )
    assert stored == f"\nBEGIN\n{body}\nEND\n"


def test_condition_is_taken_as_it_is(
    note: Table, created: Callable[[MetaData], None], pg_session: Session
) -> None:
    odd = 'it\'s 50% %s %% :x ::y {0} $$ $history$ a\\b "q" Größe'
    attach(
        Trigger(
            "expression",
            "before",
            Insert,
            condition=(new.body == odd) | new.body.like(f"%{odd[:9]}%", escape="/"),
            body='NEW."the size" := 1; RETURN NEW;',
        ),
        Trigger(
            "text",
            "before",
            Insert,
            condition=text("NEW.body LIKE '%\\:x%' -- it's 50%"),
            body='NEW."the size" := NEW."the size" + 1; RETURN NEW;',
        ),
    )(note)
    created(note.metadata)
    rows = {1: odd, 2: f"a{odd}", 3: "other"}
    pg_session.execute(insert(note), [{"id": n, "body": b} for n, b in rows.items()])
    sizes = select(note.c.size).order_by(note.c.id)
    assert pg_session.scalars(sizes).all() == [2, 2, None]


def test_script_of_a_mock_engine(base: type[DeclarativeBase]) -> None:
    metadata = MetaData()
    note = Table("note", metadata, Column("id", Integer, primary_key=True))
    attach(
        Trigger(
            "check",
            "after",
            Update | Delete,
            body="RAISE NOTICE '100%%'; RETURN NULL;",
            declare="x int;",
            condition=old.id % 2 == 1,
            deferrable="deferred",
        )
    )(note)
    function = (
        'CREATE OR REPLACE FUNCTION "public"."note_check"() RETURNS trigger\n'
        "LANGUAGE plpgsql\n"
        "AS $history$\n"
        "DECLARE\n"
        "x int;\n"
        "BEGIN\n"
        "RAISE NOTICE '100%%'; RETURN NULL;\n"
        "END\n"
        "$history$;\n"
    )
    switch = (
        "(NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?|"
        " ARRAY['note:check', 'note:*', '*:check']) IS NOT TRUE"
    )
    drops_and_triggers = "".join(
        f'DROP TRIGGER IF EXISTS "note_check_{operation.lower()}" ON "public"."note";\n'
        f'CREATE CONSTRAINT TRIGGER "note_check_{operation.lower()}"'
        f' AFTER {operation} ON "public"."note"\n'
        f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (({switch})"
        " AND (OLD.id % 2 = 1))\n"
        'EXECUTE FUNCTION "public"."note_check"();\n'
        for operation in ("UPDATE", "DELETE")
    )
    for driver in ("psycopg", "psycopg2", "asyncpg"):
        script = printed(metadata, f"postgresql+{driver}")
        marked = re.sub(r"COMMENT ON .* IS 'sa_history:\w+';\n", "", script)
        assert marked[marked.index("CREATE OR") :] == function + drops_and_triggers


def test_declarations(note: Table, create_all: CreateAll, pg_session: Session) -> None:
    attach(
        Trigger(
            "fill",
            "before",
            Insert,
            declare="total integer := 7 % 4; word text = ':x'; -- the last",
            body="NEW.body := word || total; RETURN NEW;",
        )
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    assert pg_session.scalar(select(note.c.body)) == ":x3"


def test_body_may_refuse_with_an_error_of_the_library(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        Trigger(
            "refuse",
            "before",
            Insert,
            body="RAISE EXCEPTION 'no %', NEW.id USING ERRCODE = 'SH003';",
        )
    )(note)
    create_all()
    with pytest.raises(ProtectedError, match="no 7"):
        pg_session.execute(insert(note).values(id=7))


# What fires it, and when.


def test_before_and_after_for_rows_and_statements(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    every = Insert | Update | Delete
    for when, level in itertools.product(("before", "after"), ("row", "statement")):
        attach(say(f"{when} {level}", when, every, level=level))(note)
    attach(say("truncate", "after", Truncate, level="statement"))(note)
    create_all()
    pg_session.execute(insert(note).values([{"id": 1}, {"id": 2}]))
    pg_session.execute(update(note).values(body="a"))
    pg_session.execute(delete(note))
    pg_session.execute(text("TRUNCATE note"))
    expected = []
    for operation in ("INSERT", "UPDATE", "DELETE"):
        rows = [f"{when} row {operation}" for when in ("before", "after")]
        expected += [
            f"before statement {operation}",
            *[rows[0]] * 2,
            *[rows[1]] * 2,
            f"after statement {operation}",
        ]
    assert said() == [*expected, "truncate TRUNCATE"]


def test_triggers_run_in_the_order_of_their_names(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    body = "NEW.body := concat(NEW.body, TG_NAME, ' '); RETURN NEW;"
    names = ["b", "a", "d", "c"]
    attach(*(Trigger(name, "before", Insert, body=body) for name in names))(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    assert pg_session.scalar(select(note.c.body)) == "note_a note_b note_c note_d "


def test_returning_null_skips_the_row(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        Trigger("skip", "before", Insert, body="RETURN NULL;", condition=new.id == 2)
    )(note)
    create_all()
    pg_session.execute(insert(note), [{"id": n} for n in (1, 2, 3)])
    assert pg_session.scalars(select(note.c.id)).all() == [1, 3]


def test_update_of_a_column_that_has_another_name_in_the_table(
    base: type[DeclarativeBase],
    said: Said,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    overwrite = 'NEW."the size" := 5; RETURN NEW;'

    @attach(
        Trigger("overwrite", "before", Update, body=overwrite),
        say("row", "after", UpdateOf("size", "body", "size")),
        say("row or deletion", "after", UpdateOf("size") | Delete),
        say("any", "after", UpdateOf("size") | Update),
        say("statement", "after", UpdateOf("size"), level="statement"),
    )
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column("the size")
        body: Mapped[str] = mapped_column("the body", nullable=True)
        other: Mapped[str] = mapped_column(nullable=True)

    create_all()
    pg_session.execute(insert(Thing).values(id=1, size=5))
    pg_session.execute(update(Thing).values(other="a"))  # and a trigger sets size
    assert said() == ["any UPDATE"]
    pg_session.execute(update(Thing).values(size=Thing.size))
    pg_session.execute(delete(Thing))
    assert said()[1:] == [
        "any UPDATE",
        "row UPDATE",
        "row or deletion UPDATE",
        "statement UPDATE",
        "row or deletion DELETE",
    ]


def test_condition_over_the_rows_holds_for_each_operation(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        say("new", "before", Insert | Update, condition=new.size > 10),
        say("old", "after", Update | Delete, condition=lambda old, new: old.size > 10),
        say("changed", "after", Update, condition=AnyChange("body") & (new.size > 0)),
        say("text", "after", Insert | Update, condition=text("NEW.id = 2 -- the 2nd")),
    )(note)
    create_all()
    pg_session.execute(insert(note), [{"id": 1, "size": 5}, {"id": 2, "size": 15}])
    assert said() == ["new INSERT", "text INSERT"]
    pg_session.execute(update(note).values(size=note.c.size + 10))
    assert said()[2:] == ["new UPDATE", "new UPDATE", "old UPDATE", "text UPDATE"]
    pg_session.execute(update(note).where(note.c.id == 1).values(body="a", size=1))
    assert said()[6:] == ["changed UPDATE", "old UPDATE"]
    pg_session.execute(delete(note))
    assert said()[8:] == ["old DELETE"]


def test_condition_on_a_statement_is_text(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    on = text(
        "current_setting('app.said', true) = '100% on' -- as the application says"
    )
    attach(
        say("say", "after", Insert | Update | Delete, level="statement", condition=on)
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    pg_session.execute(text("SET LOCAL app.said = '100% on'"))
    pg_session.execute(update(note).values(id=2))
    pg_session.execute(text("SET LOCAL app.said = 'off'"))
    pg_session.execute(delete(note))
    assert said() == ["say UPDATE"]


NAMES = [
    "added",
    "Mixed Case",
    'dou"ble',
    "it's",
    "select",
    "new",
    "NEW",
    "100% :x {}",
    "a\\b",
    "$$",
    "Größe",
    "x" * 63,
]


@pytest.mark.parametrize("name", NAMES)
def test_transition_tables_may_have_any_name(
    name: str, note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    both = (
        "INSERT INTO said (word) SELECT string_agg(o.id || '>' || n.id, ' ')"
        f' FROM {quoted} n JOIN "old %s" o ON o.body = n.body; RETURN NULL;'
    )
    only = (
        f"INSERT INTO said (word) SELECT max(id) || TG_LEVEL FROM {quoted};"
        " RETURN NULL;"
    )
    attach(
        Trigger(
            "both",
            "after",
            Update,
            level="statement",
            referencing=Referencing(old="old %s", new=name),
            body=both,
        ),
        Trigger(
            "new",
            "after",
            Insert,
            level="statement",
            referencing=Referencing(new=name),
            body=only,
        ),
        Trigger("old", "after", Delete, referencing=Referencing(old=name), body=only),
    )(note)
    create_all()
    rows = [{"id": 1, "body": "a"}, {"id": 2, "body": "b"}]
    pg_session.execute(insert(note).values(rows))
    pg_session.execute(text("UPDATE note SET id = id * 10"))
    pg_session.execute(delete(note))
    assert said() == ["2STATEMENT", "1>10 2>20", "20ROW", "20ROW"]


# Deferring.


def test_deferrable_trigger_runs_when_it_is_told_to(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        say("now", "after", Insert, deferrable="immediate"),
        say("later", "after", Insert, deferrable="deferred"),
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    assert said() == ["now INSERT"]
    pg_session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    assert said() == ["now INSERT", "later INSERT"]
    pg_session.execute(insert(note).values(id=2))
    assert said()[2:] == ["later INSERT", "now INSERT"]
    pg_session.execute(text("SET CONSTRAINTS note_now DEFERRED"))
    pg_session.execute(insert(note).values(id=3))
    assert said()[4:] == ["later INSERT"]
    pg_session.commit()
    assert said()[5:] == ["now INSERT"]


def test_deferred_trigger_sees_the_end_of_the_transaction(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    """Such as a balance that has to be even in the end."""
    attach(
        Trigger(
            "even",
            "after",
            Insert | Update,
            deferrable="deferred",
            declare="total bigint;",
            body='SELECT sum("the size") INTO total FROM note;\n'
            "IF total <> 0 THEN\n"
            "  RAISE EXCEPTION 'total is %', total USING ERRCODE = '23514';\n"
            "END IF;\n"
            "RETURN NULL;",
        )
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1, size=5))
    pg_session.execute(insert(note).values(id=2, size=-5))
    pg_session.commit()
    pg_session.execute(update(note).where(note.c.id == 1).values(size=6))
    with pytest.raises(IntegrityError, match="total is 1"):
        pg_session.commit()
    pg_session.rollback()
    assert pg_session.scalar(select(func.sum(note.c.size))) == 0


def test_deferred_trigger_that_runs_early_writes_in_the_context_of_that_moment(
    note: Table,
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Callable[..., list[Any]],
) -> None:
    @track()
    class Copied(base):  # type: ignore[misc, valid-type]
        __tablename__ = "copied"
        id: Mapped[int] = mapped_column(primary_key=True)

    body = "INSERT INTO copied VALUES (NEW.id); RETURN NULL;"
    attach(Trigger("copy", "after", Insert, deferrable="deferred", body=body))(note)
    create_all()
    with history.context(pg_session, statement=1):
        pg_session.execute(insert(note).values(id=1))
    with history.context(pg_session, moment=2):
        pg_session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    pg_session.commit()
    assert [event[2:] for event in recorded(Copied, "id")] == [(1, {"moment": 2})]


# Rights and names in the body.


def test_security_definer_has_the_rights_of_the_owner(
    note: Table, said: Said, create_all: CreateAll, pg_url: URL, pg_session: Session
) -> None:
    body = "INSERT INTO said (word) VALUES (current_user); RETURN NULL;"
    attach(
        Trigger(
            "definer",
            "after",
            Insert,
            body=body,
            security_definer=True,
            search_path=["public"],
        ),
        Trigger("invoker", "after", Update, body=body),
    )(note)
    create_all()
    clerk = f"clerk of {pg_url.database}"
    for statement in (
        f'CREATE ROLE "{clerk}"',  # rolled back at the end: a role is of the cluster
        f'GRANT SELECT, INSERT, UPDATE ON note TO "{clerk}"',
        f'SET LOCAL ROLE "{clerk}"',
    ):
        pg_session.execute(text(statement))
    pg_session.execute(insert(note).values(id=1))
    point = pg_session.begin_nested()
    with pytest.raises(ProgrammingError, match="permission denied for table said"):
        pg_session.execute(update(note).values(body="a"))
    point.rollback()
    pg_session.execute(text("RESET ROLE"))
    (user,) = said()
    assert user == pg_session.scalar(text("SELECT current_user")) != clerk


def test_search_path_is_the_callers_or_that_of_the_definition(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    body = "INSERT INTO public.said (word) VALUES (which()); RETURN NULL;"
    attach(
        Trigger("a_caller", "after", Insert, body=body),
        Trigger("b_own", "after", Insert, body=body, search_path=["it's", "two"]),
        Trigger(
            "c_none",
            "after",
            Insert,
            body="INSERT INTO public.said (word)"
            " VALUES (current_setting('search_path')); RETURN NULL;",
            search_path=[],
        ),
    )(note)
    create_all()
    for schema in ("one", "two", "it's"):
        pg_session.execute(CreateSchema(schema))
    for schema in ("one", "two"):
        pg_session.execute(
            text(
                f"CREATE FUNCTION {schema}.which() RETURNS text LANGUAGE sql"
                f" AS $$ SELECT '{schema}' $$"
            )
        )
    pg_session.execute(text("SET LOCAL search_path = one, public"))
    pg_session.execute(insert(note).values(id=1))
    assert said() == ["one", "two", "pg_catalog, pg_temp"]


# What the session sees.


def test_flush_returns_what_the_body_writes(
    base: type[DeclarativeBase], create_all: CreateAll, pg_session: Session
) -> None:
    @attach(
        Trigger(
            "lower",
            "before",
            Insert | Update,
            body='NEW.mail := lower(NEW."e-mail"); RETURN NEW;',
            writes=["lowered"],
        )
    )
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column("e-mail")
        lowered: Mapped[str] = mapped_column("mail", nullable=True)

    create_all()
    user = User(id=1, email="Ann@X")
    pg_session.add(user)
    pg_session.flush()
    assert vars(user)["lowered"] == "ann@x"
    user.email = "BOB@X"
    pg_session.flush()
    assert user.lowered == "bob@x"


# Tables and views of all kinds.


def test_what_create_all_makes_drop_all_takes_away(
    note: Table,
    said: Said,
    create_all: CreateAll,
    pg_engine: Engine,
) -> None:
    attach(
        say("one", "before", Insert | Update, condition=new.id > 0),
        say("two", "after", Delete, deferrable="deferred"),
        say("three", "after", Truncate, level="statement"),
    )(note)

    def objects() -> list[str]:
        with pg_engine.connect() as connection:
            return list(
                connection.scalars(
                    text(
                        "SELECT tgname::text FROM pg_trigger UNION ALL"
                        " SELECT proname FROM pg_proc"
                        " WHERE pronamespace = 'public'::regnamespace UNION ALL"
                        " SELECT relname FROM pg_class"
                        " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
                    )
                )
            )

    create_all()
    create_all()  # and nothing more
    assert [name for name in objects() if name.startswith("note")] == [
        *("note", "note_id_seq", "note_one", "note_one_insert", "note_one_update"),
        *("note_pkey", "note_three", "note_three", "note_two", "note_two"),
    ]
    note.metadata.drop_all(pg_engine)
    assert objects() == []
    create_all()
    note.drop(pg_engine)
    assert not any(name.startswith("note") for name in objects())


def test_partitions_have_the_trigger_also_those_that_come_later(
    base: type[DeclarativeBase],
    said: Said,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    reading = Table(
        "reading",
        base.metadata,
        Column("id", Integer),
        postgresql_partition_by="LIST (id)",
    )
    attach(
        say("row", "before", Insert, condition=new.id > 0),
        say("deferred", "after", Insert, deferrable="deferred"),
        say("statement", "after", Insert, level="statement"),
    )(reading)
    create_all()
    for n in (1, 2):
        pg_session.execute(
            text(f"CREATE TABLE p{n} PARTITION OF reading FOR VALUES IN ({n})")
        )
        pg_session.execute(insert(reading).values(id=n))
    pg_session.commit()
    assert sorted(said()) == [
        *["deferred INSERT"] * 2,
        *["row INSERT"] * 2,
        *["statement INSERT"] * 2,
    ]


@pytest.mark.parametrize("when", ["instead of", "INSTEAD OF"])
def test_views_are_written_by_a_trigger(
    when: Any,
    note: Table,
    said: Said,
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    long = history.view("long", base.metadata, select(note.c.id, note.c.body))
    attach(
        Trigger(
            "write",
            when,
            Insert | Update,
            body="INSERT INTO note (id, body) VALUES (NEW.id, TG_OP); RETURN NEW;",
        ),
        say("statement", "after", Insert, level="statement"),
    )(long)
    create_all()
    pg_session.execute(insert(long).values(id=1))
    with history.ignore(pg_session, "write", "statement"):
        pg_session.execute(update(long).values(id=2))
        pg_session.execute(insert(long).values(id=3))
    rows = select(note.c.id, note.c.body).order_by(note.c.id)
    assert pg_session.execute(rows).all() == [
        (1, "INSERT"),
        (2, "UPDATE"),
        (3, "INSERT"),
    ]
    assert said() == ["statement INSERT"]


def test_table_and_trigger_are_in_the_schema_of_the_connection(
    note: Table, said: Said, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    attach(say("say", "after", Insert, search_path=["tenant"]))(note)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    with tenant.begin() as connection:
        connection.execute(insert(note).values(id=1))
        words = text("SELECT word FROM tenant.said")
        assert connection.scalars(words).all() == ["say INSERT"]
        with history.ignore(connection, note):
            connection.execute(insert(note).values(id=2))
        assert connection.scalars(words).all() == ["say INSERT"]
    base.metadata.drop_all(tenant)
    with pg_engine.connect() as connection:
        left = text(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenant'::regnamespace"
        )
        assert connection.scalar(left) == 0


ODD = {
    "mixed_case": "Mixed Case",
    "quotes": 'it\'s "so"',
    "percent": "100% %s %(x)s %%",
    "colon": "a:b ::c \\:d",
    "braces": "{a} {0}",
    "backslash": "a\\b\\",
    "dollar": "$$ $history$ $1",
    "comment": "--a /* b",
    "newline": "a\nb",
    "multi_byte": "Größe 寸",
    "long": "x" * 63,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_names_are_taken_as_they_are(
    odd: str, pg_engine: Engine, created: Callable[[MetaData], None]
) -> None:
    metadata = MetaData(schema=f"s{odd}"[:63])
    table = Table(
        odd,
        metadata,
        Column("id", Integer, primary_key=True),
        Column(odd, Integer, key="value"),
    )
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(f"s{odd}"[:63]))
    quoted = '"' + odd.replace('"', '""') + '"'
    raised = f"NEW.{quoted} := NEW.{quoted} + 1; RETURN NEW;"
    attach(
        Trigger(odd, "before", UpdateOf("value"), body=raised),
        Trigger(
            odd[:-1] or "x",
            "before",
            Insert,
            body=raised,
            condition=new.value > 0,
            ignorable=False,
        ),
    )(table)
    created(metadata)
    with pg_engine.begin() as connection:
        connection.execute(insert(table).values(id=1, value=1))
        connection.execute(update(table).values(value=5))
        assert connection.scalar(select(table.c.value)) == 6
        with history.ignore(connection, table, odd):
            connection.execute(update(table).values(value=5))
        assert connection.scalar(select(table.c.value)) == 5
    metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        functions = text(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = CAST(:s AS regnamespace)"
        )
        schema = '"' + f"s{odd}"[:63].replace('"', '""') + '"'
        assert connection.scalar(functions, {"s": schema}) == 0


def test_names_follow_the_convention(pg_engine: Engine) -> None:
    metadata = MetaData(
        naming_convention={"history_attached": "tr_%(trigger_name)s_%(table_name)s"}
    )
    note = Table("note", metadata, Column("id", Integer, primary_key=True))
    attach(
        Trigger("pair", "before", Insert | Update, body="RETURN NEW;", condition=True)
    )(note)
    metadata.create_all(pg_engine)
    with pg_engine.connect() as connection:
        triggers = connection.execute(
            text("SELECT tgname, tgfoid::regproc::text FROM pg_trigger ORDER BY 1")
        ).all()
    assert triggers == [
        ("tr_pair_insert_note", "tr_pair_note"),
        ("tr_pair_update_note", "tr_pair_note"),
    ]


@pytest.fixture
def listening(pg_url: URL) -> Iterator[Any]:
    """A connection of the driver that listens to the channel "notes"."""
    engine = create_engine(pg_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("LISTEN notes"))
        yield connection.connection.driver_connection


def test_notification(
    note: Table, create_all: CreateAll, pg_session: Session, listening: Any
) -> None:
    """The pattern of pgtrigger: tell who listens of each change that is committed."""
    attach(
        Trigger(
            "notify",
            "after",
            Insert | Update | Delete,
            declare="changed jsonb;",
            body="changed := to_jsonb(COALESCE(NEW, OLD));\n"
            "PERFORM pg_notify('notes', format('%s %s', TG_OP, changed ->> 'id'));\n"
            "RETURN NULL;",
        )
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    pg_session.rollback()
    pg_session.execute(insert(note).values(id=2))
    pg_session.execute(update(note).values(body="a"))
    pg_session.execute(delete(note))
    pg_session.commit()
    told = [n.payload for n in listening.notifies(timeout=10, stop_after=3)]
    assert told == ["INSERT 2", "UPDATE 2", "DELETE 2"]


# Definitions that cannot be.


def build(**options: Any) -> Trigger:
    options = {
        "name": "t",
        "when": "after",
        "operation": Insert,
        "body": "RETURN NULL;",
        **options,
    }
    return Trigger(
        options.pop("name"), options.pop("when"), options.pop("operation"), **options
    )


BOTH = Referencing(old="o", new="n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "Trigger needs a name, got ''"),
        ({"name": None}, "Trigger needs a name, got None"),
        ({"name": "ä" * 32}, "has 64 bytes, and PostgreSQL's limit is 63"),
        ({"name": "a\0b"}, "cannot contain NUL"),
        ({"when": "during"}, 'when is "before", "after" or "instead of", got \'duri'),
        ({"when": None}, "got None"),
        ({"operation": "insert"}, "takes operations such as Update | Delete"),
        ({"operation": None}, "takes operations such as Update | Delete"),
        ({"level": "table"}, 'level is "statement" or "row", got \'table\''),
        ({"body": ""}, "body is PL/pgSQL, got ''"),
        ({"body": " \n"}, "body is PL/pgSQL"),
        ({"body": b"RETURN NULL;"}, "body is PL/pgSQL, got b'"),
        ({"body": text("RETURN NULL;")}, "body is PL/pgSQL"),
        ({"body": "RETURN '\0';"}, "body cannot contain NUL"),
        ({"declare": ["x int;"]}, "declare is PL/pgSQL"),
        ({"declare": "x\0int;"}, "declare cannot contain NUL"),
        ({"condition": "NEW.id > 0"}, "got the string 'NEW.id > 0' as its condition"),
        ({"deferrable": True}, 'deferrable is "immediate", "deferred" or None'),
        ({"writes": "id"}, r"list of names, got 'id'; write \['id'\]"),
        ({"search_path": "public"}, "list of names, got 'public'"),
        ({"referencing": "new_rows"}, "referencing is Referencing"),
        (
            {"operation": Truncate | Delete},
            'TRUNCATE has no rows; give level="statement"',
        ),
        ({"when": "instead of", "level": "statement"}, "for whole rows"),
        ({"when": "instead of", "operation": UpdateOf("id")}, "for whole rows"),
        ({"when": "instead of", "condition": new.id > 0}, "view has no condition"),
        (
            {"when": "instead of", "deferrable": "deferred"},
            'only a trigger with when="after" and level="row" is deferrable',
        ),
        (
            {"level": "statement", "condition": new.id > 0},
            "at statement level there is no old or new row; write the condition as t",
        ),
        ({"when": "before", "deferrable": "deferred"}, "is deferrable"),
        ({"level": "statement", "deferrable": "immediate"}, "is deferrable"),
        (
            {"when": "before", "referencing": Referencing(new="n")},
            'transition tables need when="after"',
        ),
        (
            {"deferrable": "deferred", "referencing": Referencing(new="n")},
            "a deferrable trigger has no transition tables",
        ),
        (
            {"operation": Insert | Update, "referencing": Referencing(new="n")},
            "transition tables need one operation",
        ),
        ({"operation": UpdateOf("id"), "referencing": BOTH}, "and no UpdateOf"),
        (
            {
                "operation": Truncate,
                "level": "statement",
                "referencing": Referencing(old="o"),
            },
            "TRUNCATE has no transition tables",
        ),
        ({"referencing": BOTH}, "INSERT has no such transition table as Referencing"),
        ({"operation": Delete, "referencing": BOTH}, "DELETE has no such transition"),
        ({"referencing": Referencing()}, "INSERT has no such transition table"),
        ({"writes": ["body"]}, 'writes is for when="before" and level="row"'),
        (
            {"when": "before", "operation": Delete, "writes": ["body"]},
            "writes is for Insert or Update",
        ),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"old": "rows", "new": "rows"}, "both transition tables are named 'rows'"),
        ({"old": ""}, "has a name of up to 63 bytes, got ''"),
        ({"new": "ä" * 32}, "has a name of up to 63 bytes"),
        ({"new": "a\0b"}, "cannot contain NUL"),
        ({"new": 5}, "has a name of up to 63 bytes, got 5"),
    ],
)
def test_names_that_transition_tables_cannot_have_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        Referencing(**options)


@pytest.mark.parametrize("columns", [(), (5,), ("a", None), (["a", "b"],)])
def test_update_of_takes_names(columns: tuple[Any, ...]) -> None:
    with pytest.raises(DefinitionError, match="UpdateOf takes attribute names"):
        UpdateOf(*columns)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"operation": UpdateOf("sise")},
            DefinitionError,
            "note: trigger 't' names 'sise'.*did you mean 'size'",
        ),
        (
            {"when": "before", "writes": ["sise"]},
            DefinitionError,
            "note: .*'sise'.*did you mean 'size'",
        ),
        (
            {"condition": new.sise > 0},
            ConditionError,
            "no column attribute 'sise'",
        ),
        (
            {"operation": Insert | Update, "condition": old.size > 0},
            ConditionError,
            "INSERT uses old.size, but there is no old row",
        ),
        (
            {"operation": Update | Delete, "condition": new.size > 0},
            ConditionError,
            "DELETE uses new.size, but there is no new row",
        ),
        (
            {"condition": text("NEW.size > :x")},
            ConditionError,
            "cannot be written as SQL",
        ),
        (
            {"condition": new.size == select(literal(1)).scalar_subquery()},
            ConditionError,
            "it has a subquery",
        ),
        (
            {"when": "instead of"},
            DefinitionError,
            "a trigger runs on a view only",
        ),
        (
            {"when": "before", "operation": Update, "condition": new.twice > 0},
            ConditionError,
            "new.twice is generated, and has no value yet",
        ),
    ],
)
def test_definition_that_does_not_fit_the_table_is_refused(
    options: dict[str, Any], error: type[Exception], message: str, note: Table
) -> None:
    note.append_column(Column("twice", Integer, Computed('"the size" * 2', True)))
    with pytest.raises(error, match=message):
        attach(build(**options))(note)


def test_generated_column_may_be_looked_at_where_it_has_a_value(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    note.append_column(Column("twice", Integer, Computed('"the size" * 2', True)))
    attach(
        say("after", "after", Update, condition=new.twice > 5),
        say("before", "before", Update, condition=old.twice > 5),
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1, size=2))
    pg_session.execute(update(note).values(size=3))
    assert said() == ["after UPDATE"]
    pg_session.execute(update(note).values(size=0))
    assert said()[1:] == ["before UPDATE"]


def test_two_triggers_with_one_name_are_refused(note: Table) -> None:
    with pytest.raises(
        DefinitionError, match="note: the name 't' is used by Trigger and Trigger"
    ):
        attach(build(), build(when="before"))(note)
    attach(build(name="protect_delete"))(note)
    with pytest.raises(DefinitionError, match="is used by Trigger and Protect"):
        attach(Protect(Delete))(note)


def test_two_tables_whose_triggers_would_share_a_function_are_refused() -> None:
    metadata = MetaData()
    tables = [
        Table(name, metadata, Column("id", Integer, primary_key=True))
        for name in ("a", "a_b")
    ]
    attach(build(name="b_c"))(tables[0])
    with pytest.raises(DefinitionError, match="function named 'a_b_c'; rename one"):
        attach(build(name="c"))(tables[1])


def test_part_that_would_have_the_name_of_another_trigger_is_refused(
    note: Table,
) -> None:
    attach(build(name="t_insert"))(note)
    with pytest.raises(DefinitionError, match="trigger on 'note' named 'note_t_ins"):
        attach(build(operation=Insert | Update, condition=new.id > 0))(note)


# Each combination that is let through works, and each that is refused could not.


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("table", {}),
        ("partitioned", {"postgresql_partition_by": "LIST (id)"}),
        ("child", {"postgresql_inherits": "other"}),
        ("view", {}),
    ],
)
def test_what_is_refused_is_what_postgresql_would_refuse(
    kind: str, options: dict[str, Any], pg_engine: Engine
) -> None:
    metadata = MetaData()
    other = Table("other", metadata, Column("id", Integer))
    if kind == "view":
        table = history.view("thing", metadata, select(other.c.id))
    else:
        table = Table("thing", metadata, Column("id", Integer), **options)
        table.add_is_dependent_on(other)
    metadata.create_all(pg_engine)
    plain = Attachment(build(level="statement"), "Thing", table, None).function()
    combinations = itertools.product(
        ("before", "after", "instead of"),
        ("row", "statement"),
        [
            *(Insert, Update, Delete, Truncate, UpdateOf("id")),
            *(Insert | Update | Delete, UpdateOf("id") | Delete, Delete | Truncate),
        ],
        (None, Referencing(old="o"), Referencing(new="n"), BOTH),
        (None, "deferred"),
    )
    works_unrefused, refused_rightly, wrong = 0, 0, []
    with pg_engine.begin() as connection:
        for combination in combinations:
            when, level, operation, referencing, deferrable = combination
            function, trigger = (
                plain,
                PGTrigger(
                    name="t",
                    table=Qualified(None, "thing"),
                    function=plain.name,
                    timing=when.upper(),
                    operations=operation.members,
                    level=Level(level),
                    columns=operation.columns,
                    referencing=referencing,
                    deferrable="DEFERRED" if deferrable else None,
                ),
            )
            refused = False
            try:
                definition = build(
                    when=when,
                    level=level,
                    operation=operation,
                    referencing=referencing,
                    deferrable=deferrable,
                )
                attachment = Attachment(definition, "Thing", table, None)
                function, (trigger,) = attachment.function(), attachment.triggers()
            except DefinitionError:
                refused = True
            point = connection.begin_nested()
            try:
                create_objects(connection, function, trigger)
                works = True
            except DBAPIError:
                works = False
            point.rollback()
            if works == refused:
                wrong.append((*combination, "refused" if refused else "let through"))
            works_unrefused += works and not refused
            refused_rightly += refused and not works
    assert wrong == []
    assert works_unrefused > 10
    assert refused_rightly > 200
