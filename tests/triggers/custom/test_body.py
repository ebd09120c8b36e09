"""The body and the condition of a trigger are taken as they are."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import Delete, Insert, Trigger, Update, attach, new, old
from sa_history.exc import ProtectedError
from tests.triggers.custom.helpers import printed

CreateAll = Callable[[], None]

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


def test_script_of_a_mock_engine_has_the_function_and_its_trigger(
    base: type[DeclarativeBase],
) -> None:
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


def test_body_uses_its_declarations(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
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
