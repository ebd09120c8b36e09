"""Any name that PostgreSQL allows works, in any schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterUpdate,
    AggregateEvent,
    AnyChange,
    Manual,
    Snapshot,
    new,
    old,
    track,
)

Recorded = Callable[..., list[tuple[Any, ...]]]

ODD = {
    "mixed_case": "Mixed Case",
    "keyword": "select",
    "double_quote": 'dou"ble',
    "single_quote": "it's",
    "percent": "100% %s %(x)s %%",
    "colon": "a:b ::c \\:d",
    "braces": "{a} {0}",
    "backslash": "a\\b\\",
    "dollar": "$$ $history$ $1",
    "comment": "--a /* b",
    "newline": "a\nb",
    "point": "a.b",
    "multi_byte": "Größe 寸",
    "trailing": "_a_",
}


@pytest.fixture
def schemas(pg_engine: Engine) -> Callable[..., None]:
    """Create schemas."""

    def create(*names: str) -> None:
        with pg_engine.begin() as connection:
            for name in names:
                connection.execute(CreateSchema(name))

    return create


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_names_labels_and_values_are_taken_as_they_are(
    odd: str,
    level: str,
    schemas: Callable[..., None],
    pg_engine: Engine,
    pg_session: Session,
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema=f"s{odd}")

    @track(
        Snapshot(label=odd),
        AfterUpdate((new.value == odd) & AnyChange("value"), label=f"is {odd}"),
        AfterDelete,
        Manual(f"manual {odd}"),
        level=level,
        append_only=True,
        context_columns=[Column(f"key {odd}", Text, nullable=False)],
    )
    class Thing(Base):
        __tablename__ = f"t{odd}"
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[str] = mapped_column(odd)

    schemas(f"s{odd}")
    Base.metadata.create_all(pg_engine)
    with history.context(pg_session, **{f"key {odd}": odd}):
        thing = Thing(id=1, value="a")
        pg_session.add(thing)
        pg_session.flush()
        thing.value = odd
        history.create_event(pg_session, thing, label=f"manual {odd}")
        pg_session.delete(thing)
        pg_session.commit()
    events = pg_session.scalars(Thing.events.select()).all()
    assert [(e.pgh_label, e.value) for e in events] == [
        (odd, "a"),
        (odd, odd),
        (f"is {odd}", odd),
        (f"manual {odd}", odd),
        ("delete", odd),
    ]
    key = Thing.events.table.c[f"key {odd}"]
    assert set(pg_session.scalars(select(key))) == {odd}
    assert {event.pgh_context.metadata[f"key {odd}"] for event in events} == {odd}
    (first, *_) = pg_session.execute(AggregateEvent.select(Thing))
    assert first.pgh_data == {"id": 1, "value": "a"}


def test_a_column_with_the_name_of_a_word_of_functions_is_looked_at(
    pg_engine: Engine, level: str
) -> None:
    meeting = Table(
        "meeting",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("begin", Integer),
    )
    track(
        AfterUpdate(new["begin"] > old["begin"], label="later"),
        AfterUpdate(new["begin"] < old["begin"], label="earlier"),
        level=level,
    )(meeting)
    meeting.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(meeting.insert().values({"id": 1, "begin": 5}))
        for begin in (7, 6):
            connection.execute(meeting.update().values({"begin": begin}))
        table = history.events(meeting).table
        labels = select(table.c.pgh_label).order_by(table.c.pgh_id)
        assert connection.scalars(labels).all() == ["later", "earlier"]


def test_event_table_is_made_in_the_schema_of_the_tracked_table(
    base: type[DeclarativeBase],
    level: str,
    schemas: Callable[..., None],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        __table_args__ = {"schema": "bank"}
        id: Mapped[int] = mapped_column(primary_key=True)

    schemas("bank")
    create_all()
    with history.context(pg_session, user=7):
        pg_session.add(Account(id=1))
        pg_session.commit()
    assert recorded(Account, "id") == [("snapshot", "I", 1, {"user": 7})]
    rows = text("SELECT count(*) FROM bank.account_event JOIN public.pghistory_context")
    rows = text(f"{rows} c ON c.id = pgh_context_id")
    assert pg_session.scalar(rows) == 1


def test_event_table_can_be_in_another_schema(
    base: type[DeclarativeBase],
    level: str,
    schemas: Callable[..., None],
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(level=level, schema="audit", append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        __table_args__ = {"schema": "bank"}
        id: Mapped[int] = mapped_column(primary_key=True)

    @track(level=level, schema="audit", event_table="plain")
    class Plain(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    schemas("bank", "audit")
    create_all()
    with history.context(pg_session, user=7):
        pg_session.add_all([Account(id=1), Plain(id=2)])
        pg_session.commit()
    assert Account.events.table.fullname == "audit.account_event"
    assert recorded(Account, "id") == [("snapshot", "I", 1, {"user": 7})]
    assert recorded(Plain, "id") == [("snapshot", "I", 2, {"user": 7})]
    assert pg_session.scalar(text("SELECT count(*) FROM audit.account_event")) == 1
    pg_session.close()
    base.metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        left = "SELECT count(*) FROM pg_proc WHERE pronamespace IN"
        left += " (SELECT oid FROM pg_namespace WHERE nspname IN ('audit', 'public'))"
        assert connection.scalar(text(left)) == 0


def test_tables_of_one_name_in_two_schemas_have_their_own_events(
    base: type[DeclarativeBase],
    level: str,
    schemas: Callable[..., None],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
) -> None:
    def account(schema: str) -> Any:
        body = {
            "__tablename__": "account",
            "__table_args__": {"schema": schema},
            "id": mapped_column(Integer, primary_key=True),
        }
        return track(level=level)(type(f"Account_{schema}", (base,), body))

    one, two = account("one"), account("two")
    schemas("one", "two")
    create_all()
    pg_session.add_all([one(id=1), two(id=2)])
    pg_session.commit()
    assert recorded(one, "id") == [("snapshot", "I", 1, None)]
    assert recorded(two, "id") == [("snapshot", "I", 2, None)]


# Where the connection looks for names


@pytest.fixture
def account(base: type[DeclarativeBase], level: str) -> Any:
    @track(
        Snapshot,
        AfterUpdate(new.name == "x", label="x"),
        AfterDelete,
        Manual("seen"),
        level=level,
        append_only=True,
        context_columns=[Column("user", Integer)],
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account


WRITES = (
    "INSERT INTO {}.account VALUES (1, 'a')",
    "UPDATE {}.account SET name = 'x'",
    "DELETE FROM {}.account",
    "INSERT INTO {}.account VALUES (2, 'b')",
    "TRUNCATE {}.account",
)
WRITTEN = [
    ("snapshot", "I", 1, "a", 7),
    ("snapshot", "U", 1, "x", 7),
    ("x", "U", 1, "x", 7),
    ("delete", "D", 1, "x", 7),
    ("snapshot", "I", 2, "b", 7),
    ("delete", "T", 2, "b", 7),
]


@pytest.mark.parametrize("path", ["''", "elsewhere", "pg_temp"])
def test_writer_needs_no_search_path(
    account: Any,
    create_all: Callable[[], None],
    schemas: Callable[..., None],
    pg_engine: Engine,
    recorded: Recorded,
    path: str,
) -> None:
    create_all()
    schemas("elsewhere")
    with pg_engine.connect() as connection, history.context(connection, user=7):
        # Objects that must not be taken for ours.
        for table in ("account_event", "pghistory_context"):
            connection.execute(text(f"CREATE TABLE elsewhere.{table} ()"))
            connection.execute(text(f"CREATE TEMP TABLE {table} () ON COMMIT DROP"))
        connection.execute(text(f"SET LOCAL search_path = {path}"))
        for statement in WRITES:
            connection.execute(text(statement.format("public")))
        connection.commit()
    events = recorded(account, "id", "name", "user")
    assert [event[:-1] for event in events] == WRITTEN


def test_tables_are_made_in_the_first_schema_of_the_search_path(
    account: Any,
    base: type[DeclarativeBase],
    schemas: Callable[..., None],
    pg_engine: Engine,
    pg_url: URL,
) -> None:
    schemas("app")
    engine = create_engine(pg_url, connect_args={"options": "-csearch_path=app,public"})
    base.metadata.create_all(engine)
    with pg_engine.begin() as connection, history.context(connection, user=7):
        for statement in WRITES:
            connection.execute(text(statement.format("app")))
    with Session(engine) as session, history.context(session, user=8):
        thing = account(id=3, name="c")
        session.add(thing)
        history.create_event(session, thing, label="seen")
        session.commit()
        events = session.scalars(account.events.select()).all()
        found = [(e.pgh_label, e.pgh_op, e.id, e.name, e.user) for e in events]
        assert found[:-2] == WRITTEN
        assert found[-2:] == [("snapshot", "I", 3, "c", 8), ("seen", "M", 3, "c", 8)]
    base.metadata.drop_all(engine)
    with engine.connect() as connection:
        left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'app'::regnamespace"
        assert connection.scalar(text(left)) == 0
    engine.dispose()


@pytest.fixture
def tenants(pg_engine: Engine, schemas: Callable[..., None]) -> list[Engine]:
    """Engines that use the tables of a model in a schema of their own each."""
    names = ["tenant_1", 'Tenant "2%_']
    schemas(*names)
    return [
        pg_engine.execution_options(schema_translate_map={None: name, "extra": name})
        for name in names
    ]


def test_translated_schemas_hold_a_history_each(
    account: Any, base: type[DeclarativeBase], tenants: list[Engine], level: str
) -> None:
    @track(level=level)
    class Extra(base):  # type: ignore[misc, valid-type]
        __tablename__ = "extra"
        __table_args__ = {"schema": "extra"}
        id: Mapped[int] = mapped_column(primary_key=True)

    for number, engine in enumerate(tenants):
        base.metadata.create_all(engine)
        base.metadata.create_all(engine)
        with Session(engine) as session, history.context(session, user=number):
            thing = account(id=number, name="a")
            session.add_all([thing, Extra(id=number)])
            session.flush()
            session.execute(update(account).values(name="x"))
            history.create_event(session, thing, label="seen")
            session.commit()
    for number, engine in enumerate(tenants):
        with Session(engine) as session:
            events = session.scalars(account.events.select()).all()
            assert [(e.pgh_label, e.id, e.user) for e in events] == [
                ("snapshot", number, number),
                ("snapshot", number, number),
                ("x", number, number),
                ("seen", number, number),
            ]
            assert {e.pgh_context.metadata["user"] for e in events} == {number}
            (extra,) = session.scalars(Extra.events.select())
            assert extra.pgh_context_id == events[0].pgh_context_id
            together = session.execute(AggregateEvent.select(base)).all()
            assert len(together) == 5
        base.metadata.drop_all(engine)
        with engine.connect() as connection:
            schema = engine.get_execution_options()["schema_translate_map"][None]
            left = text(
                "SELECT relname FROM pg_class c JOIN pg_namespace n"
                " ON relnamespace = n.oid WHERE nspname = :schema UNION ALL"
                " SELECT proname FROM pg_proc JOIN pg_namespace n"
                " ON pronamespace = n.oid WHERE nspname = :schema"
            )
            assert connection.scalars(left, {"schema": schema}).all() == []


# Names that sa_history makes


def generated_names(connection: Any) -> dict[str, list[str]]:
    """The names of what stands in the database, by kind."""
    in_public = "'public'::regnamespace"
    kinds = {
        "tables": f"SELECT relname FROM pg_class WHERE relnamespace = {in_public}",
        "functions": f"SELECT proname FROM pg_proc WHERE pronamespace = {in_public}",
        "triggers": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }
    return {k: sorted(connection.scalars(text(sql))) for k, sql in kinds.items()}


def test_names_follow_the_naming_convention(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(
            naming_convention={
                "pk": "%(table_name)s_key",
                "history_event_table": "%(table_name)s_log",
                "history_function": "write_%(event_table_name)s",
                "history_trigger": "on_%(operation)s_to_%(event_table_name)s",
                "history_index": "%(event_table_name)s__%(column_name)s",
                "history_context_table": "who",
                "history_sequence": "%(context_table_name)s_numbers",
                "history_shared_function": "%(function)s_of_%(context_table_name)s",
            }
        )

    @track(Snapshot, AfterDelete, level="row", append_only=True)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session, history.context(session, user=7):
        session.add(Account(id=1))
        session.commit()
        assert generated_names(session) == {
            "functions": [
                "append_only_of_who",
                "attach_of_who",
                "value_of_who",
                "write_account_log",
            ],
            "tables": [
                "account",
                "account_id_seq",
                "account_key",
                "account_log",
                "account_log__pgh_context_id",
                "account_log__pgh_obj_id",
                "account_log__pgh_old_key",
                "account_log__pgh_xact_id",
                "account_log_key",
                "who",
                "who__parent_id",
                "who__user",
                "who_key",
                "who_numbers",
            ],
            "triggers": [
                "on_append_only_to_account_log",
                "on_insert_delete_to_account_log",
                "on_truncate_to_account_log",
                "on_update_to_account_log",
            ],
        }
    assert recorded(Account, "id") == [("snapshot", "I", 1, {"user": 7})]


def test_convention_with_an_unknown_token_is_refused_with_the_known_ones() -> None:
    metadata = MetaData(naming_convention={"history_event_table": "%(table)s_log"})
    table = Table("account", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(history.exc.DefinitionError, match="table_name"):
        track()(table)


@pytest.mark.parametrize(
    "start",
    ["a" * 62, "ä" * 31, "a" + "寸" * 20 + "b", "%" * 62],
    ids=["ascii", "two_bytes", "three_bytes", "percent"],
)
def test_long_names_are_shortened_and_stay_apart(
    pg_engine: Engine, level: str, start: str, recorded: Recorded
) -> None:
    metadata = MetaData()
    tables = [
        Table(
            f"{start}{end}",
            metadata,
            Column("id", Integer, primary_key=True),
            Column(f"{start}{end}", Integer, key="value"),
        )
        for end in "xy"
    ]
    for table in tables:
        track(
            Snapshot,
            AfterUpdate(new.value > 0, label=table.name * 3),
            AfterDelete,
            level=level,
            append_only=True,
        )(table)
    told: list[str] = []

    @event.listens_for(pg_engine, "connect")
    def listen(connection: Any, _: Any) -> None:
        connection.add_notice_handler(
            lambda notice: told.append(notice.message_primary)
        )

    metadata.create_all(pg_engine)
    metadata.create_all(pg_engine)
    assert [message for message in told if "truncated" in message] == []
    with pg_engine.begin() as connection, history.context(connection, user=7):
        for number, table in enumerate(tables):
            connection.execute(insert(table).values(id=number, value=number))
            connection.execute(update(table).values(value=5))
            connection.execute(table.delete())
    for number, table in enumerate(tables):
        assert recorded(table, "id", "value") == [
            ("snapshot", "I", number, number, {"user": 7}),
            ("snapshot", "U", number, 5, {"user": 7}),
            (table.name * 3, "U", number, 5, {"user": 7}),
            ("delete", "D", number, 5, {"user": 7}),
        ]
    with pg_engine.connect() as connection:
        names = generated_names(connection)
    assert all(len(n.encode()) <= 63 for kind in names.values() for n in kind)
    assert len(set(names["triggers"])) == len(names["triggers"])
    metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        assert not any(generated_names(connection).values())
