"""A mistake in a definition is an error when the class is made."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import (
    ARRAY,
    Column,
    Computed,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    column,
    exists,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.ext.declarative import DeferredReflection
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    declarative_base,
    mapped_column,
    relationship,
)
from sqlalchemy.types import TypeEngine

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AllChange,
    AnyChange,
    HistoryMixin,
    Manual,
    Protect,
    Snapshot,
    attach,
    new,
    old,
    track,
)
from sa_history.exc import ConditionError, DefinitionError, EventsError
from sa_history.tracking import registry


class Role(enum.Enum):
    ADMIN = "admin"


@pytest.fixture
def make(base: type[DeclarativeBase]) -> Callable[..., Any]:
    """Make a tracked class with the columns id, balance and email."""

    def tracked(*trackers: Any, **options: Any) -> Any:
        @track(*trackers, **options)
        class Account(base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            id: Mapped[int] = mapped_column(primary_key=True)
            balance: Mapped[int]
            email: Mapped[str]

        return Account

    return tracked


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (new.balanse < 0, "no column attribute 'balanse' for new.balanse.*'balance'"),
        (old.x == 1, "no column attribute 'x' for old.x; it has id, balance, email"),
        (AnyChange("mail"), "no column attribute 'mail'.*did you mean 'email'"),
        (func.lower(new.x) == "a", "no column attribute 'x'"),
        (lambda old, new: new.nope > 0, "no column attribute 'nope'"),
        (AnyChange(exclude=["nope"]), "no column attribute 'nope'"),
        (AllChange(exclude=["id", "balance", "email"]), "leaves no column"),
        (new.balance == object(), "cannot be written as SQL"),
        (new.balance.nonsense(), "nonsense"),
        (text("NEW.balance = :x"), "cannot be written as SQL"),
        (new.balance == select(literal(1)).scalar_subquery(), "it has a subquery"),
        (column("x").in_([1]) & exists().where(new.balance == 1), "it has a subquery"),
        (lambda old, new: "NEW.x", "a function of old and new that returns one"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(
    make: Callable[..., Any], condition: Any, message: str
) -> None:
    with pytest.raises(ConditionError, match=message) as caught:
        make(AfterUpdate(condition))
    assert str(caught.value).startswith("Account")


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        (AfterInsert(old.balance < 0), "INSERT uses old.balance, but there is no old"),
        (AfterInsert(AnyChange()), "INSERT uses old.id, but there is no old row"),
        (Snapshot(old.balance < 0), "INSERT uses old.balance, but there is no old"),
        (AfterDelete(new.balance < 0), "DELETE uses new.balance, but there is no new"),
    ],
)
def test_a_condition_over_a_row_that_is_not_there_is_refused(
    make: Callable[..., Any], tracker: Any, message: str
) -> None:
    with pytest.raises(ConditionError, match=message):
        make(tracker)


@pytest.mark.parametrize(
    ("tracker", "arguments", "message"),
    [
        (AfterInsert, {"row": "old"}, "row='old' cannot be stored.*INSERT has no old"),
        (Snapshot, {"row": "old"}, "INSERT has no old row"),
        (AfterDelete, {"row": "new"}, "DELETE has no new row"),
        (AfterUpdate, {"row": "both"}, 'row is "old" or "new", got \'both\''),
        (AfterUpdate, {"columns": ["a"], "exclude": ["b"]}, "both columns and exclude"),
        (AfterUpdate, {"columns": "a"}, r"got 'a'; write \['a'\]"),
        (AfterUpdate, {"exclude": "a"}, r"AfterUpdate: exclude .* write \['a'\]"),
        (AfterUpdate, {"label": ""}, "needs a label, got ''"),
        (AfterUpdate, {"label": 5}, "AfterUpdate needs a label, got 5"),
        (AfterUpdate, {"label": "a\0b"}, "AfterUpdate: label cannot contain NUL"),
        (Manual, {}, "Manual needs a label"),
    ],
)
def test_a_tracker_with_impossible_arguments_is_refused(
    tracker: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        tracker(**arguments)


def test_a_label_in_the_place_of_the_condition_is_refused() -> None:
    with pytest.raises(DefinitionError, match="got the string 'low'.*give label="):
        AfterUpdate("low")  # type: ignore[arg-type]


def test_a_condition_over_the_class_itself_is_refused(make: Callable[..., Any]) -> None:
    account = make(Snapshot)
    with pytest.raises(ConditionError, match="write new.balance or old.balance"):
        track(AfterUpdate(account.balance < 0), events="low", event_table="low")(
            account
        )


def test_names_may_come_from_a_generator(make: Callable[..., Any]) -> None:
    account = make(
        Snapshot(columns=(n for n in ["balance"])), columns=iter(["balance"])
    )
    assert {"id", "balance"} < set(account.events.table.c.keys())
    assert "email" not in account.events.table.c


def test_a_label_used_twice_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(
        DefinitionError,
        match="Account: the label 'update' is used by AfterUpdate and AfterInsert",
    ):
        make(AfterUpdate, AfterInsert(label="update"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["balanse"]}, "Account names 'balanse'.*did you mean 'balance'"),
        ({"exclude": ["nope"]}, "Account names 'nope'.*it has id, balance, email"),
        ({"level": "rows"}, 'level is "statement" or "row", got \'rows\''),
        ({"context": "json"}, 'context is "reference", "inline" or None'),
        ({"events": "not a name"}, "events is the name of an attribute"),
        ({"events": "balance"}, "Account has an attribute 'balance' already"),
        ({"event_table": "account"}, "would be 'account', which is a table already"),
        ({"context_columns": ["user"]}, "columns with a name, got 'user'"),
        ({"context_columns": [Column("email", String)]}, "context column 'email'"),
        ({"index": ["nope"]}, "index names 'nope', which is not tracked"),
        ({"base": 5}, "base is a plain class"),
        ({"search_path": "public"}, "search_path is a list of names, got 'public'"),
        ({"columns": [5]}, "columns is a list of names, got 5 in it"),
        ({"event_table": 5}, "event_table is a name, got 5"),
        ({"created_at": "now"}, "created_at is an expression, got 'now'"),
        (
            {"context_columns": [Column("tags", ARRAY(Integer))]},
            "give another, such as",
        ),
        ({"context_columns": [Column("a", ForeignKey("account.id"))]}, "has a key"),
        ({"context_columns": [Column("role", Enum(Role))]}, "stores the names of Role"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    make: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        make(Snapshot, **options)


def test_something_that_is_not_a_tracker_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match="is not a tracker.*AfterUpdate"):
        make(new.balance < 0)


def test_something_that_is_not_a_table_is_refused() -> None:
    with pytest.raises(DefinitionError, match="a mapped class or a Table, got <class"):
        track(Snapshot)(int)


# SQLAlchemy has views of its own since 2.1.
CREATE_VIEW = getattr(sqlalchemy, "CreateView", None)
VIEWS: dict[str, Callable[..., Any]] = {
    "of_the_library": lambda tool: history.view(
        "tools", tool.metadata, select(tool.c.id)
    ),
}
if CREATE_VIEW is not None:
    VIEWS["of_sqlalchemy"] = lambda tool: (
        CREATE_VIEW(select(tool.c.id), "tools", metadata=tool.metadata).table
    )


@pytest.mark.parametrize("make_view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_refused_and_so_is_a_class_that_is_mapped_to_it(
    base: type[DeclarativeBase], make_view: Callable[..., Any]
) -> None:
    view = make_view(Table("t", base.metadata, Column("id", Integer, primary_key=True)))

    class Tools(base):  # type: ignore[misc, valid-type]
        __table__ = view
        __mapper_args__ = {"primary_key": [view.c.id]}

    for target, subject in ((view, "tools"), (Tools, "Tools")):
        with pytest.raises(DefinitionError, match=f"{subject} is a view; track the"):
            track()(target)
    assert "pghistory_context" not in base.metadata.tables


def test_a_table_in_the_place_of_trackers_is_refused() -> None:
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True))
    for wrong in (table, table.metadata):
        with pytest.raises(DefinitionError, match=r"write track\(...\)\(table\)"):
            track(wrong)  # type: ignore[arg-type]


def test_a_column_with_the_name_of_an_event_column_is_refused(
    base: type[DeclarativeBase],
) -> None:
    table = Table("t", base.metadata, Column("pgh_id", Integer, primary_key=True))
    with pytest.raises(DefinitionError, match=r"has columns \['pgh_id'\]"):
        track(Snapshot)(table)


def test_an_attribute_with_the_name_of_one_of_events_is_refused(
    base: type[DeclarativeBase],
) -> None:
    with pytest.raises(DefinitionError, match=r"has columns \['pgh_label'\]"):

        @track(Snapshot)
        class Account(base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            id: Mapped[int] = mapped_column(primary_key=True)
            pgh_label: Mapped[str] = mapped_column("label")


@pytest.mark.parametrize(
    "convention",
    [
        {"history_trigger": "trigger_%(event_table_name)s"},
        {"history_function": "record"},
        {"history_event_table": "events"},
    ],
)
def test_a_convention_that_gives_two_objects_one_name_is_refused(
    convention: dict[str, str],
) -> None:
    metadata = MetaData(naming_convention=convention)
    table = Table("t", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(DefinitionError, match="the same name; use %"):
        track(Snapshot)(table)


def test_a_context_table_that_was_reflected_is_refused() -> None:
    metadata = MetaData()
    Table("pghistory_context", metadata, Column("id", Integer, primary_key=True))
    table = Table("t", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(DefinitionError, match="leave it and the event tables out"):
        track(Snapshot)(table)


def test_tracking_twice_under_one_name_is_refused(make: Callable[..., Any]) -> None:
    account = make(Snapshot)
    message = "the table 'account' is tracked already, and Account.events has"
    with pytest.raises(DefinitionError, match=message):
        track(AfterDelete)(account)

    class Again(account.registry.generate_base()):  # type: ignore[misc]
        __table__ = account.__table__

    with pytest.raises(DefinitionError, match=f"^Again: {message} its events; leave"):
        track(AfterDelete)(Again)


@pytest.mark.parametrize("decorate", [track(), attach(Protect(history.Delete))])
def test_what_has_no_table_is_refused_with_what_to_give(
    base: type[DeclarativeBase], decorate: Any
) -> None:
    class Abstract(base):  # type: ignore[misc, valid-type]
        __abstract__ = True

    with pytest.raises(DefinitionError, match="^Abstract is abstract, and has"):
        decorate(Abstract)

    class Late(DeferredReflection, base):  # type: ignore[misc, valid-type]
        __tablename__ = "late"

    with pytest.raises(DefinitionError, match=r"on it after that: \w+\(\)\(Late\)"):
        decorate(Late)


def test_a_second_history_has_a_class_of_its_own(make: Callable[..., Any]) -> None:
    account = make(Snapshot)
    track(AfterDelete, events="past_deletions", event_table="deletion")(account)
    assert account.events.model.__name__ == "AccountEvent"
    assert account.past_deletions.model.__name__ == "AccountPastDeletions"


def test_a_manual_label_that_another_history_has_is_refused(
    make: Callable[..., Any],
) -> None:
    """What create_event writes to is not guessed; other labels may be in both."""
    account = make(Snapshot, Manual("seen"))
    options = {"events": "log", "event_table": "log"}
    with pytest.raises(
        DefinitionError,
        match="Account: the label 'seen' of Manual is that of one in Account.events",
    ):
        track(Snapshot, Manual("seen"), **options)(account)
    track(Snapshot, Manual("read"), **options)(account)
    assert account.log.model.__name__ == "AccountLog"


def test_a_refused_definition_leaves_nothing_in_the_metadata(
    make: Callable[..., Any], base: type[DeclarativeBase]
) -> None:
    with pytest.raises(ConditionError):
        make(AfterUpdate(new.nope < 0))
    with pytest.raises(DefinitionError):
        track(index=["nope"])(base.metadata.tables["account"])
    assert "account_event" not in base.metadata.tables


def test_a_condition_is_no_truth_value() -> None:
    with pytest.raises(TypeError, match="combine conditions with & | ~"):
        assert 0 < new.balance < 5


def test_the_mixin_is_checked_as_well(base: type[DeclarativeBase]) -> None:
    with pytest.raises(ConditionError, match="Account has no column attribute 'nope'"):

        class Account(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            __history__ = (AfterUpdate(new.nope < 0),)
            id: Mapped[int] = mapped_column(primary_key=True)


def test_the_mixin_takes_a_tuple_of_trackers(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="Account: __history__ is a tuple"):

        class Account(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            __history__ = Snapshot
            id: Mapped[int] = mapped_column(primary_key=True)


def test_the_mixin_on_a_subclass_without_a_table_is_refused(
    base: type[DeclarativeBase],
) -> None:
    class Account(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "a"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    with pytest.raises(DefinitionError, match="Saving has no table of its own"):

        class Saving(Account):
            __mapper_args__ = {"polymorphic_identity": "s"}
            __history__ = (AfterDelete,)


def test_the_mixin_tracks_with_an_older_declarative_base() -> None:
    old_base = declarative_base()

    class Account(HistoryMixin, old_base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id = Column(Integer, primary_key=True)

    assert Account.events.table.name == "account_event"


def test_tracking_does_not_need_the_classes_that_relationships_name(
    base: type[DeclarativeBase],
) -> None:
    @track()
    class Order(base):  # type: ignore[misc, valid-type]
        __tablename__ = "order"
        id: Mapped[int] = mapped_column(primary_key=True)
        items: Mapped[list[Item]] = relationship("Item")

    @track()
    class Item(base):  # type: ignore[misc, valid-type]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        order_id: Mapped[int] = mapped_column(ForeignKey("order.id"))

    assert Order.events.model.__name__ == "OrderEvent"
    assert Order(items=[Item()]).items


def test_what_the_caller_passed_is_not_changed(make: Callable[..., Any]) -> None:
    tracker = AfterUpdate(new.balance < 0)
    before = dict(vars(tracker))
    make(tracker, AfterDelete)
    assert vars(tracker) == before


def test_untracked_models_say_so(base: type[DeclarativeBase]) -> None:
    class Plain(base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(EventsError, match="is not tracked; put @track"):
        history.events(Plain)
    with pytest.raises(EventsError, match="5 is not a mapped class"):
        history.events(5)
    with pytest.raises(EventsError, match="needs something whose events"):
        history.AggregateEvent.select()


def test_questions_to_history_that_cannot_be_answered_are_refused(
    make: Callable[..., Any],
) -> None:
    account = make(Snapshot)
    other = Table("t", MetaData(), Column("id", Integer, primary_key=True))
    track(Snapshot)(other)
    with pytest.raises(EventsError, match="the label 'snapshto'; did you"):
        history.AggregateEvent.select(account, labels=["snapshto"])
    with pytest.raises(EventsError, match="across takes tracked classes"):
        history.AggregateEvent.select(across=account(id=1))
    with pytest.raises(EventsError, match="no common order"):
        history.AggregateEvent.select(account, other)
    with pytest.raises(EventsError, match=r"got \(False,\); compare attributes"):
        account.events.where(account.events.model == "T")


def test_an_object_without_a_key_has_no_events(make: Callable[..., Any]) -> None:
    with pytest.raises(EventsError, match="no key yet.*flush"):
        make(Snapshot)(balance=1).events.select()


def test_events_are_not_a_list(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"run session.scalars"):
        list(make(Snapshot).events)


def test_a_generated_column_is_stored_where_the_database_stores_it(
    base: type[DeclarativeBase],
) -> None:
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("kept", Integer, Computed("id + 1", persisted=True)),
        Column("virtual", Integer, Computed("id + 1", persisted=False)),
    )
    track(Snapshot)(table)
    assert "kept" in history.events(table).table.c
    assert "virtual" not in history.events(table).table.c


def test_a_condition_is_written_once_and_no_function_before_it_is_created(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(registry, "record_function", written.append)

    def condition(old: Any, new: Any) -> Any:
        written.append("condition")
        return new.id > 1

    make(AfterInsert(condition))
    assert written == ["condition"]


class Lower(TypeDecorator[str]):
    """A type of the application around a DOMAIN of a DOMAIN."""

    impl = DOMAIN("word", DOMAIN("given", String, not_null=True))
    cache_ok = True


@pytest.mark.parametrize(
    "type_", [DOMAIN("given", String, not_null=True), Lower()], ids=["domain", "around"]
)
def test_an_event_cannot_be_without_a_value_whose_domain_is_not_null(
    type_: TypeEngine[str],
) -> None:
    def table() -> Table:
        id_ = Column("id", Integer, primary_key=True)
        return Table("person", MetaData(), id_, Column("name", type_))

    left_out = (
        r"^person: AfterDelete\('delete'\) does not store 'name', whose DOMAIN is NOT"
        " NULL, so that no event could be without it"
    )
    with pytest.raises(DefinitionError, match=left_out):
        track(Snapshot, AfterDelete(columns=["id"]))(table())
    with pytest.raises(DefinitionError, match="erasable names 'name', whose DOMAIN"):
        track(erasable=["name"])(table())
    track(Snapshot, AfterDelete)(table())
    track(AfterDelete(columns=["id"]), exclude=["name"])(table())
