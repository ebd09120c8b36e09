"""Names, values and schemas that refusing triggers take as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from sa_history import FSM, Delete, Insert, Protect, ReadOnly, Update, attach, new, old
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError, TransitionError

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]

ODD = {
    "mixed case": "Mixed Case",
    "keyword": "select",
    "double quote": 'dou"ble',
    "single quote": "it's",
    "percent": "100% %s %(x)s %%",
    "colon": "a:b ::c \\:d",
    "braces": "{a} {0}",
    "backslash": "a\\b\\",
    "dollar": "$$ $history$ $1",
    "comment": "--a /* b",
    "newline": "a\nb",
    "point": "a.b",
    "multi-byte": "Größe 寸",
    "old": "OLD",
    "new": "NEW",
    "old rows": "old_rows",
    "new rows": "new_rows",
    "found": "pgh_found",
    "operation": "tg_op",
    "63 bytes": "n" * 63,
    "63 bytes of many": "寸" * 21,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_names_and_values_are_taken_as_they_are(
    odd: str, level: str, pg_engine: Engine, attempt: Attempt, pg_session: Session
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema=odd)

    @attach(
        Protect(Insert | Update, condition=new.state == odd, level=level, name=odd),
        Protect(Delete, condition=old.state == "kept", level=level, name="keep"),
        ReadOnly("fixed", level=level, hint=odd),
        FSM(
            "state",
            transitions=[("a", f"{odd}!"), (f"{odd}!", "kept"), ("a", odd)],
            initial=["a", odd],
            level=level,
            name="machine",
        ),
    )
    class Thing(Base):
        __tablename__ = odd
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[str] = mapped_column(odd)
        fixed: Mapped[str] = mapped_column(f"{odd[:20]}2", default="")

    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(odd))
    Base.metadata.create_all(pg_engine)
    assert attempt(insert(Thing).values(id=1, state=odd)) is ProtectedError
    assert attempt(insert(Thing).values(id=1, state=f"{odd}!")) is TransitionError
    assert attempt(insert(Thing).values(id=1, state="a")) is None
    assert attempt(update(Thing).values(state=odd)) is ProtectedError
    assert attempt(update(Thing).values(state="kept")) is TransitionError
    assert attempt(update(Thing).values(state=f"{odd}!")) is None
    assert attempt(update(Thing).values(state="kept")) is None
    with pytest.raises(ReadOnlyError) as caught:
        pg_session.execute(update(Thing).values(fixed="x"))
    pg_session.rollback()
    diag = caught.value.orig.diag  # type: ignore[union-attr]
    assert (diag.schema_name, diag.table_name) == (odd, odd)
    assert (diag.column_name, diag.message_hint) == (f"{odd[:20]}2", odd)
    assert attempt(delete(Thing)) is ProtectedError
    name = '"' + odd.replace('"', '""') + '"'
    truncate = f"TRUNCATE {name}.{name}".replace(":", "\\:")
    assert attempt(truncate) is ProtectedError
    Base.metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        left = "SELECT count(*) FROM pg_proc WHERE pronamespace::regnamespace <> ALL"
        left += " ('{pg_catalog,information_schema}'::regnamespace[])"
        assert connection.scalar(text(left.replace("::", "\\:\\:"))) == 0


def test_long_names_are_shortened_and_stay_apart(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    tables = [
        Table(f"{'t' * 62}{n}", base.metadata, Column("id", Integer, primary_key=True))
        for n in (1, 2)
    ]
    for table in tables:
        attach(
            Protect(Insert, condition=new.id == 1, name="g" * 63, level=level),
            Protect(Insert, condition=new.id == 2, name=f"{'g' * 62}2", level=level),
            Protect(Insert | Update, condition=new.id == 3, name="a", level=level),
        )(table)
    create_all()
    for table in tables:
        for id in (1, 2, 3):
            assert attempt(insert(table).values(id=id)) is ProtectedError
        assert attempt(insert(table).values(id=4)) is None
        assert attempt(update(table).values(id=3)) is ProtectedError
        assert attempt(update(table).values(id=1)) is None


def test_translated_schemas_are_protected_each(
    account: Account, base: type[DeclarativeBase], pg_engine: Engine, level: str
) -> None:
    model = account(
        Protect(Delete, condition=old.balance > 0, level=level),
        ReadOnly("owner", level=level),
    )
    names = ["tenant_1", 'Tenant "2%_']
    with pg_engine.begin() as connection:
        for name in names:
            connection.execute(CreateSchema(name))
    base.metadata.drop_all(pg_engine)
    for name in names:
        engine = pg_engine.execution_options(schema_translate_map={None: name})
        base.metadata.create_all(engine)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(model(id=1, owner="ann", balance=1))
            session.commit()
            for statement, error in (
                (update(model).values(owner="x"), ReadOnlyError),
                (delete(model), ProtectedError),
            ):
                with pytest.raises(error) as caught:
                    session.execute(statement)
                session.rollback()
                diag = caught.value.orig.diag  # type: ignore[union-attr]
                assert diag.schema_name == name
            quoted = name.replace('"', '""')
            with pytest.raises(ProtectedError):
                session.execute(text(f'TRUNCATE "{quoted}".account'))
        base.metadata.drop_all(engine)
    with pg_engine.connect() as connection:
        left = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'account%'"
        assert connection.scalar(text(left)) == 0
