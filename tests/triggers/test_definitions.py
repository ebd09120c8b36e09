"""A mistake in a trigger is an error when the class is made, and names the mistake."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    join,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import (
    FSM,
    AnyChange,
    Audit,
    Delete,
    HistoryMixin,
    Insert,
    Protect,
    ReadOnly,
    Referencing,
    SoftDelete,
    Touch,
    Trigger,
    Truncate,
    Update,
    UpdateOf,
    Versioned,
    attach,
    audit_table,
    new,
    old,
    track,
    view,
)
from sa_history.exc import ConditionError, DefinitionError


class Status(enum.Enum):
    DRAFT = "draft"
    DONE = "done"


class Other(enum.Enum):
    DRAFT = "draft"


class Shout(TypeDecorator[str]):
    """Takes strings only, and raises of others what a decorator may."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else value.upper()


@pytest.fixture
def make() -> Callable[..., Any]:
    """Make a class with these triggers, each time a new one."""

    def attached(*triggers: Any) -> Any:
        class Base(DeclarativeBase):
            metadata = MetaData()

        @attach(*triggers)
        class Thing(Base):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(String(5))
            status: Mapped[Status]
            kind: Mapped[str] = mapped_column(Enum("a", "b", name="kind"))
            size: Mapped[int]
            is_active: Mapped[bool]
            deleted_at: Mapped[datetime.datetime | None]
            data: Mapped[Any] = mapped_column(JSONB)
            loud: Mapped[str] = mapped_column(Shout)
            place: Mapped[str] = mapped_column(DOMAIN("place", String(4)))
            area: Mapped[int] = mapped_column(Computed("size * size", persisted=True))
            half: Mapped[int] = mapped_column(Computed("size / 2", persisted=False))

        return Thing

    return attached


def kind_of(value: Any) -> str | None:
    """What a test is called after; values are not the same in each process."""
    return None if isinstance(value, str) else type(value).__name__


ATTRIBUTES = "it has id, title, status, kind, size, is_active, deleted_at, data, loud"
WAY = [("draft", "done")]


# Of the class


@pytest.mark.parametrize(
    ("trigger", "owner", "wrong"),
    [
        (Protect(UpdateOf("titel")), "UpdateOf", "titel"),
        (Protect(UpdateOf("titel") | Delete), "UpdateOf", "titel"),
        (ReadOnly("id", "titel"), "ReadOnly", "titel"),
        (ReadOnly(exclude=["titel"]), "ReadOnly", "titel"),
        (FSM("titel", transitions=WAY), "FSM", "titel"),
        (SoftDelete("titel", value="x"), "SoftDelete", "titel"),
        (Versioned("titel"), "Versioned", "titel"),
        (Touch("titel"), "Touch", "titel"),
        (
            Trigger("t", "before", Update, body="RETURN NEW;", writes=["titel"]),
            "Trigger('t')",
            "titel",
        ),
    ],
    ids=kind_of,
)
def test_a_column_that_is_not_there(
    make: Any, trigger: Any, owner: str, wrong: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        make(trigger)
    assert str(caught.value).startswith(
        f"Thing: {owner} names {wrong!r}, which is not a column attribute; did you "
        f"mean 'title'? {ATTRIBUTES}"
    )


@pytest.mark.parametrize(
    "kind",
    [
        lambda **options: Protect(Update, **options),
        lambda **options: ReadOnly("id", **options),
        lambda **options: FSM("title", transitions=WAY, **options),
        lambda **options: SoftDelete("is_active", **options),
        lambda **options: Touch("deleted_at", **options),
        lambda **options: Trigger("t", "after", Update, body="RETURN NULL;", **options),
    ],
    ids=["protect", "read-only", "fsm", "soft delete", "touch", "trigger"],
)
def test_a_condition_over_a_column_that_is_not_there(make: Any, kind: Any) -> None:
    message = "no column attribute 'titel' for old.titel; did you mean 'title'?"
    with pytest.raises(ConditionError, match=message) as caught:
        make(kind(condition=old.titel == "x"))
    assert str(caught.value).startswith("Thing: trigger '")
    with pytest.raises(DefinitionError, match="got the string 'x' as its condition"):
        kind(condition="x")


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize(
    ("operation", "condition", "message"),
    [
        (Insert, old.size > 1, "INSERT uses old.size, but there is no old row"),
        (Insert, AnyChange(), "INSERT uses old.id, but there is no old row"),
        (Insert | Update, old.size > 1, "INSERT uses old.size"),
        (Insert, lambda old, new: old.size > 1, "INSERT uses old.size"),
        (Delete, new.size > 1, "DELETE uses new.size, but there is no new row"),
        (Update | Delete, new.size > 1, "DELETE uses new.size"),
        (Truncate, new.size > 1, "TRUNCATE uses new.size"),
    ],
)
def test_a_condition_over_a_row_that_is_not_there(
    make: Any, level: str, operation: Any, condition: Any, message: str
) -> None:
    with pytest.raises(ConditionError, match=message):
        make(Protect(operation, condition=condition, level=level))


def test_a_condition_over_old_for_a_first_state(make: Any) -> None:
    machine = FSM("title", transitions=WAY, initial=["draft"], condition=old.size > 1)
    with pytest.raises(ConditionError, match="INSERT uses old.size"):
        make(machine)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (5, "a condition is an expression over old and new"),
        (lambda old, new: None, "a function of old and new that returns one"),
        (text("NEW.size = :x"), "the parameter :x has no value"),
        (new.size == select(literal(1)).scalar_subquery(), "it has a subquery"),
        (new.size == object(), "cannot be written as SQL"),
        (new.half > 1, "no column attribute 'half'"),
    ],
)
def test_a_condition_that_does_not_fit(make: Any, condition: Any, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        make(Protect(Update, condition=condition))


@pytest.mark.parametrize(
    "trigger",
    [
        Protect(Update, condition=new.area > 1),
        ReadOnly("area"),
        ReadOnly("id", condition=new.area > 1),
        FSM("area", transitions=[(1, 2)]),
    ],
    ids=kind_of,
)
def test_a_generated_column_before_it_has_a_value(make: Any, trigger: Any) -> None:
    with pytest.raises(ConditionError, match="new.area is generated, and has no value"):
        make(trigger)


def test_all_columns_excluded(base: type[DeclarativeBase]) -> None:
    table = Table("pair", base.metadata, Column("a", Text), Column("b", Text))
    with pytest.raises(DefinitionError, match="pair: .*ReadOnly excludes every column"):
        attach(ReadOnly(exclude=["a", "b"]))(table)


@pytest.mark.parametrize(
    ("column", "state", "reason"),
    [
        ("title", 5, "its values are of type str"),
        ("title", b"x", "its values are of type str"),
        ("title", Status.DRAFT, "its values are of type str"),
        ("title", "archived", "it has 5 characters at most"),
        ("title", "a\0", "PostgreSQL text cannot contain NUL"),
        ("title", "\udc80", "half of a surrogate pair"),
        ("title", None, "is not nullable, so it cannot be None"),
        ("status", "draft", r"it has <Status.DRAFT: 'draft'>, <Status.DONE: 'done'>"),
        ("status", Other.DRAFT, "it has <Status.DRAFT: 'draft'>"),
        ("status", 1, "it has <Status.DRAFT: 'draft'>"),
        ("kind", "c", "it has 'a', 'b'"),
        ("kind", Status.DRAFT, "it has 'a', 'b'"),
        ("size", "1", "its values are of type int"),
        ("size", True, "its values are of type int"),
        ("size", 1.0, "its values are of type int"),
        ("is_active", 1, "its values are of type bool"),
        ("is_active", "true", "its values are of type bool"),
        ("deleted_at", "2020-01-01", "its values are of type datetime"),
        ("deleted_at", datetime.date(2020, 1, 1), "its values are of type datetime"),
        ("data", {"a": 1}, "which cannot be written as SQL: No literal value renderer"),
        ("loud", 5, "'int' object has no attribute 'upper'"),
        ("place", 5, "its values are of type str"),
        ("place", "nowhere", "it has 4 characters at most"),
    ],
)
def test_a_value_that_the_column_cannot_hold(
    make: Any, column: str, state: Any, reason: str
) -> None:
    for trigger in (
        FSM(column, transitions=[(state, state)]),
        FSM(column, transitions=[(state, state)], initial=[state], level="statement"),
        SoftDelete(column, value=state),
    ):
        with pytest.raises(DefinitionError) as caught:
            make(trigger)
        message = str(caught.value)
        assert message.startswith(
            f"Thing: trigger '{trigger.given_name}': the column {column!r} "
        )
        assert reason in message


def test_a_first_state_that_the_column_cannot_hold(make: Any) -> None:
    machine = FSM("kind", transitions=[("a", "b")], initial=["a", "c"])
    with pytest.raises(DefinitionError, match="'kind' cannot be 'c': it has 'a', 'b'"):
        make(machine)


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (Versioned("title"), "'versioned': Versioned counts in an integer column"),
        (Versioned("is_active"), "Versioned counts in an integer column"),
        (Versioned("area"), "'area' is generated"),
        (Touch("title"), "'touch_title': Touch sets a time, and 'title' is String"),
        (SoftDelete("id", value=1), "'id' is of the primary key"),
        (Audit(into=audit_table("log", MetaData()), exclude=["nope"]), "names 'nope'"),
    ],
    ids=kind_of,
)
def test_a_column_that_the_trigger_cannot_have(
    make: Any, trigger: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        make(trigger)
    assert str(caught.value).startswith("Thing: trigger '")


def test_a_column_that_statements_are_paired_by(base: type[DeclarativeBase]) -> None:
    table = Table("t", base.metadata, Column("other", Integer), Column("pgh_row", Text))
    for trigger in (
        ReadOnly("other", level="statement"),
        Protect(Update, level="statement"),
        FSM("other", transitions=[(1, 2)], level="statement"),
    ):
        with pytest.raises(DefinitionError, match="has a column 'pgh_row'.*rename it"):
            attach(trigger)(table)
    attach(ReadOnly("pgh_row"), Protect(Insert | Delete, level="statement"))(table)


@pytest.mark.parametrize("deferrable", ["deferred", "immediate"])
def test_an_update_of_a_partitioned_table_is_not_refused_later(
    base: type[DeclarativeBase], deferrable: Any
) -> None:
    """A move to another partition would fire none of these."""
    by = {"postgresql_partition_by": "LIST (place)"}
    table = Table("t", base.metadata, Column("place", Text), Column("x", Text), **by)
    for trigger in (
        ReadOnly("x", deferrable=deferrable),
        Protect(Update | Insert, deferrable=deferrable),
        FSM("x", transitions=WAY, deferrable=deferrable),
    ):
        with pytest.raises(DefinitionError, match="'t' is partitioned.*deferrable out"):
            attach(trigger)(table)
    attach(Protect(Insert | Delete, deferrable=deferrable))(table)


# Of the trigger alone


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (lambda: Protect("delete"), "Protect takes operations such as Update"),
        (lambda: Protect(Protect), "Protect takes operations .* got <class"),
        (lambda: Protect(None), "Protect takes operations"),
        (lambda: UpdateOf(), r"UpdateOf takes attribute names, got \(\)"),
        (lambda: UpdateOf(5), "UpdateOf takes attribute names"),
        (lambda: UpdateOf(["size"]), "UpdateOf takes attribute names"),
        (
            lambda: Protect(UpdateOf("size"), level="statement"),
            "UpdateOf needs the level row; use Update with a condition",
        ),
        (lambda: Protect(Delete, level="rows"), "Protect: level is .* got 'rows'"),
        (lambda: Protect(Delete, level=None), "level is .* got None"),
        (lambda: SoftDelete("x", level="statement"), 'SoftDelete .* level is "row"'),
        (lambda: Versioned("x", level="statement"), 'Versioned .* level is "row"'),
        (lambda: Touch("x", level="statement"), 'Touch .* level is "row"'),
        (
            lambda: Trigger("t", "before", Truncate, body="RETURN NULL;"),
            'TRUNCATE has no rows; give level="statement"',
        ),
        (
            lambda: Protect(Delete, deferrable="deferred", level="statement"),
            "only a trigger of level row is deferrable",
        ),
        (lambda: ReadOnly(deferrable=True), "deferrable is .* got True"),
        (lambda: Protect(Delete, deferrable="DEFERRED"), "got 'DEFERRED'"),
        (lambda: Protect(Delete, hint=5), "Protect: hint is a text, got 5"),
        (lambda: Protect(Delete, hint="a\0"), "cannot contain NUL, got the hint"),
        (lambda: Protect(Delete, search_path="a"), r"got 'a'; write \['a'\]"),
        (lambda: FSM("x", transitions=WAY, search_path=[5]), "FSM: search_path"),
        (lambda: ReadOnly(["id"]), "ReadOnly: columns is a list of names"),
        (lambda: ReadOnly(exclude="id"), r"ReadOnly: exclude .* write \['id'\]"),
        (lambda: ReadOnly("id", exclude=["x"]), "got both columns and exclude"),
        (lambda: FSM(5, transitions=WAY), "FSM takes the name of an attribute, got 5"),
        (lambda: FSM("x", transitions=[]), r"pairs of states, such as .*, got \(\)"),
        (lambda: FSM("x", transitions=None), "transitions holds lists .* got None"),
        (lambda: FSM("x", transitions="ab"), "transitions holds lists .* got 'ab'"),
        (lambda: FSM("x", transitions=["ab"]), "transitions holds lists .* got 'ab'"),
        (lambda: FSM("x", transitions={"a": ["b"]}), "transitions holds lists of"),
        (lambda: FSM("x", transitions=[("a",)]), "transitions are pairs of states"),
        (lambda: FSM("x", transitions=[(1, 2, 3)]), "transitions are pairs of states"),
        (lambda: FSM("x", transitions=[5]), "transitions holds lists .* got 5"),
        (lambda: FSM("x", transitions=WAY, initial=[]), "no row could be inserted"),
        (lambda: FSM("x", transitions=WAY, initial="draft"), "initial holds lists"),
        (lambda: Versioned("x", condition=new.x > 1), "Versioned takes no condition"),
        (lambda: Touch("x", value="now()"), "Touch: value is an SQL expression"),
        (lambda: Touch("x", value=func.now), "Touch: value is an SQL expression"),
        (lambda: Touch("x", operation=Delete), "operation is Update, Insert or"),
        (lambda: Touch("x", operation=UpdateOf("y")), "operation is Update, Insert or"),
        (
            lambda: Trigger("t", "during", Update, body="RETURN NULL;"),
            'when is "before", "after" or "instead of", got \'during\'',
        ),
        (lambda: Trigger("t", "after", "update", body="x"), "takes operations such as"),
        (lambda: Trigger("t", "after", Update, body=" "), "body is PL/pgSQL, got ' '"),
        (
            lambda: Trigger(
                "t", "before", Update, body="x", referencing=Referencing(new="n")
            ),
            'transition tables need when="after"',
        ),
        (
            lambda: Trigger("t", "before", Update, body="x", deferrable="deferred"),
            'only a trigger with when="after" and level="row" is deferrable',
        ),
        (
            lambda: Trigger("t", "after", Update, body="x", writes=["y"]),
            'writes is for when="before" and level="row"',
        ),
        (
            lambda: Trigger(
                "t", "after", Update, body="x", level="statement", condition=new.x > 1
            ),
            "at statement level there is no old or new row",
        ),
        (lambda: Audit(into="audit_log"), "into is a table or a mapped class"),
        (
            lambda: Audit(into=Table("log", MetaData(), Column("key", JSONB))),
            "'log' has no column operation, table_name, old_row, new_row",
        ),
        (
            lambda: Audit(into=audit_table("a", MetaData()), operation=UpdateOf("x")),
            "Audit takes no UpdateOf",
        ),
    ],
)
def test_arguments_that_cannot_be(definition: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        definition()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "needs a name, got ''"),
        (None, "needs a name, got None"),
        (5, "needs a name, got 5"),
        ("n" * 64, "has 64 bytes, and PostgreSQL's limit is 63; give a shorter"),
        ("ü" * 32, "has 64 bytes, and PostgreSQL's limit is 63; give a shorter"),
        ("a\0", "names cannot contain NUL"),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        lambda **options: Protect(Delete, **options),
        lambda **options: ReadOnly("id", **options),
        lambda **options: FSM("title", transitions=WAY, **options),
        lambda **options: SoftDelete("is_active", **options),
        lambda **options: Versioned("size", **options),
        lambda **options: Touch("deleted_at", **options),
        lambda **options: Audit(into=audit_table("log", MetaData()), **options),
        lambda name: Trigger(name, "after", Update, body="RETURN NULL;"),
    ],
    ids=[
        "protect",
        "read-only",
        "fsm",
        "soft delete",
        "versioned",
        "touch",
        "audit",
        "trigger",
    ],
)
def test_a_name_that_cannot_be(kind: Any, name: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        kind(name=name)


def test_a_name_of_63_bytes_can_be(make: Any) -> None:
    make(Protect(Delete, name="n" * 63), Protect(Delete, name="寸" * 21))


def test_a_default_name_over_the_limit(base: type[DeclarativeBase]) -> None:
    table = Table("t", base.metadata, Column("s" * 60, Text))
    with pytest.raises(DefinitionError, match="has 64 bytes.*give a shorter name=..."):
        FSM("s" * 60, transitions=WAY)
    attach(FSM("s" * 60, transitions=WAY, name="machine"))(table)


def test_operations_are_combined_with_operations_only() -> None:
    with pytest.raises(TypeError):
        Update | "delete"  # type: ignore[operator]


# Names that are taken


@pytest.mark.parametrize(
    ("triggers", "message"),
    [
        ([Protect(Delete), Protect(Delete)], "'protect_delete' is used by Protect and"),
        ([ReadOnly("id"), ReadOnly("size")], "'read_only' is used by ReadOnly and"),
        (
            [Protect(Delete, name="read_only"), ReadOnly("id")],
            "'read_only' is used by Protect and ReadOnly; give one of them another",
        ),
    ],
    ids=["protect", "read-only", "both"],
)
def test_two_triggers_with_one_name(make: Any, triggers: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make(*triggers)
    model = make(triggers[0])
    with pytest.raises(DefinitionError, match=message):
        attach(triggers[1])(model)


def test_one_trigger_attached_twice(make: Any) -> None:
    trigger = Protect(Delete)
    with pytest.raises(
        DefinitionError, match="'protect_delete' is used by Protect and"
    ):
        make(trigger, trigger)


def test_one_definition_serves_many_tables(make: Any) -> None:
    trigger = Protect(Delete)
    make(trigger)
    make(trigger)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("event_insert", "trigger on 'account'"),
        ("event_update", "trigger on 'account'"),
        ("event_truncate", "trigger on 'account'"),
        ("event_record", "function"),
    ],
)
@pytest.mark.parametrize("order", ["attached first", "tracked first"])
def test_a_name_that_tracking_has(
    base: type[DeclarativeBase], name: str, kind: str, order: str
) -> None:
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    decorators: list[Any] = [attach(Protect(Insert, name=name)), track()]
    first, second = decorators if order == "attached first" else decorators[::-1]
    first(Account)
    with pytest.raises(DefinitionError) as caught:
        second(Account)
    owners = [f"Account.{name}", "tracking of Account"]
    if order == "attached first":
        owners.reverse()
    assert str(caught.value) == (
        f"{owners[0]} and {owners[1]} would both have a {kind} named "
        f"'account_{name}'; rename one of them"
    )


def test_a_name_that_tracking_has_in_the_mixin(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="would both have a trigger on 'account'"):

        class Account(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            __triggers__ = (Protect(Insert, name="event_insert"),)
            id: Mapped[int] = mapped_column(primary_key=True)


def test_two_tables_whose_triggers_have_one_function(
    base: type[DeclarativeBase],
) -> None:
    one, two, three = (
        Table(name, base.metadata, Column("id", Integer), schema=schema)
        for name, schema in (("a_b", None), ("a", None), ("a", "other"))
    )
    attach(Protect(Delete, name="c"))(one)
    message = "a.b_c and a_b.c would both have a function named 'a_b_c'; rename one"
    with pytest.raises(DefinitionError, match=message):
        attach(Protect(Delete, name="b_c"))(two)
    attach(Protect(Delete, name="b_c"))(three)  # in another schema
    base.metadata.remove(one)
    attach(Protect(Delete, name="b_c"))(two)


def test_two_triggers_of_which_one_has_parts(make: Any) -> None:
    parts = Protect(Insert | Update, condition=new.size > 1, name="guard")
    with pytest.raises(
        DefinitionError, match="trigger on 'thing' named 'thing_guard_i"
    ):
        make(parts, Protect(Delete, name="guard_insert"))


def test_two_trackings_whose_events_are_in_two_schemas(
    base: type[DeclarativeBase],
) -> None:
    """The triggers stand on one table, where one would replace the other."""
    table = Table("account", base.metadata, Column("id", Integer, primary_key=True))
    track(schema="one")(table)
    with pytest.raises(DefinitionError, match="would both have a trigger on 'account'"):
        track(schema="two", events="others")(table)


def test_two_tables_of_one_class_name_and_one_function() -> None:
    metadata = MetaData(naming_convention={"history_attached": "%(trigger_name)s"})

    def thing(name: str) -> Any:
        body = {
            "__tablename__": name,
            "id": mapped_column(Integer, primary_key=True),
        }
        base = type("Base", (DeclarativeBase,), {"metadata": metadata})
        return type("Thing", (base,), body)

    attach(Protect(Delete))(thing("one"))
    with pytest.raises(DefinitionError, match="would both have a function named"):
        attach(Protect(Delete))(thing("two"))


def test_a_definition_that_failed_can_be_made_again(
    base: type[DeclarativeBase],
) -> None:
    table = Table("t", base.metadata, Column("id", Integer), Column("x", Text))
    with pytest.raises(DefinitionError):
        attach(Protect(Delete, name="a"), ReadOnly("nope"))(table)
    attach(Protect(Delete, name="a"), ReadOnly("x"))(table)


# What attach takes


@pytest.mark.parametrize(
    "triggers",
    [
        (),
        (Protect,),
        (Versioned,),
        ("protect_delete",),
        (Delete,),
        ([Protect(Delete)],),
        (Protect(Delete), None),
    ],
    ids=kind_of,
)
def test_something_that_is_not_a_trigger(triggers: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"attach takes triggers such as Protect\(Delete\), got"
    ):
        attach(*triggers)


def test_attach_without_parentheses(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="attach takes triggers such as"):

        @attach
        class Thing(base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize(
    "target", [int, object(), "account", None, MetaData()], ids=kind_of
)
def test_something_that_is_not_mapped(target: Any) -> None:
    with pytest.raises(DefinitionError, match="attach takes a mapped class or a Table"):
        attach(Protect(Delete))(target)


def test_a_class_without_a_table(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="give a class with __tablename__"):

        @attach(Protect(Delete))
        class Abstract(base):  # type: ignore[misc, valid-type]
            __abstract__ = True


def test_a_class_that_is_mapped_to_a_join(base: type[DeclarativeBase]) -> None:
    one, two = (
        Table(name, base.metadata, Column(f"{name}_id", Integer, primary_key=True))
        for name in ("one", "two")
    )

    class Both(base):  # type: ignore[misc, valid-type]
        __table__ = join(one, two, one.c.one_id == two.c.two_id)

    with pytest.raises(DefinitionError, match="attach the tables it is made of"):
        attach(Protect(Delete))(Both)


def test_a_subclass_without_a_table(base: type[DeclarativeBase]) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    message = "Dog has no table of its own: .*'animal'; attach Animal, with a condition"
    with pytest.raises(DefinitionError, match=message):
        attach(Protect(Delete))(Dog)


def test_triggers_of_a_mixin_subclass_without_a_table(
    base: type[DeclarativeBase],
) -> None:
    class Animal(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __history__ = None
        __triggers__ = (Protect(Delete),)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    with pytest.raises(DefinitionError, match="Dog has no table of its own"):

        class Dog(Animal):
            __triggers__ = (Protect(Update),)
            __mapper_args__ = {"polymorphic_identity": "dog"}


@pytest.mark.parametrize("value", [Protect(Delete), {Protect(Delete)}], ids=kind_of)
def test_triggers_of_the_mixin_are_a_tuple(
    base: type[DeclarativeBase], value: Any
) -> None:
    with pytest.raises(DefinitionError, match="Thing: __triggers__ is a tuple, got"):

        class Thing(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            __triggers__ = value
            id: Mapped[int] = mapped_column(primary_key=True)


def test_triggers_of_the_mixin_that_do_not_fit(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="Thing: ReadOnly names 'nope'"):

        class Thing(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            __triggers__ = (ReadOnly("nope"),)
            id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize(
    "trigger",
    [
        Protect(Delete),
        ReadOnly("size"),
        FSM("size", transitions=[(1, 2)]),
        SoftDelete("size", value=1),
        Versioned("size"),
        Touch("size", value=literal(1)),
        Audit(into=audit_table("log", MetaData())),
    ],
    ids=kind_of,
)
def test_a_view(base: type[DeclarativeBase], trigger: Any) -> None:
    key = Column("id", Integer, primary_key=True)
    table = Table("t", base.metadata, key, Column("size", Integer))

    class Seen(base):  # type: ignore[misc, valid-type]
        __table__ = view("seen", base.metadata, select(table))

    kind = type(trigger).__name__
    with pytest.raises(DefinitionError, match=f"Seen: .*{kind} needs a table"):
        attach(trigger)(Seen)


def test_a_mistake_leaves_nothing_attached(base: type[DeclarativeBase]) -> None:
    table = Table("t", base.metadata, Column("id", Integer, primary_key=True))
    for trigger in (ReadOnly("nope"), FSM("id", transitions=WAY)):
        with pytest.raises(DefinitionError):
            attach(Protect(Delete), trigger)(table)
    with pytest.raises(history.exc.IgnoreError, match="has no trigger"):
        history.ignore(table)
