"""Definitions of triggers that PostgreSQL would refuse are refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Engine,
    Integer,
    MetaData,
    Table,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import (
    Delete,
    Insert,
    Protect,
    Referencing,
    Trigger,
    Truncate,
    Update,
    UpdateOf,
    attach,
    new,
    old,
)
from sa_history._types import Level
from sa_history.attachments.registry import Attachment
from sa_history.ddl.elements import PGTrigger
from sa_history.ddl.execution import create_objects
from sa_history.exc import ConditionError, DefinitionError
from sa_history.sql.compose import Qualified
from tests.triggers.custom.helpers import say

CreateAll = Callable[[], None]
Said = Callable[[], list[str]]


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
