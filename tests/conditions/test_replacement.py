"""A trigger whose condition was written otherwise is found, and replaced."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history.alembic
from sa_history import AfterUpdate, new, track
from sa_history.alembic.operations import HistoryOp
from sa_history.install import Problem, check, install

WITHOUT_PARENTHESES = text("NEW.open AND NEW.width > 10 OR NEW.height > 10")
WITH_PARENTHESES = sa.and_(new.open, (new.width > 10) | (new.height > 10))


def box(condition: Any, level: str) -> Any:
    """Return a model whose large boxes are recorded."""

    class Base(DeclarativeBase):
        pass

    @track(AfterUpdate(condition, label="large"), level=level)
    class Box(Base):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True)
        width: Mapped[int]
        height: Mapped[int]
        open: Mapped[bool]

    return Box


def test_a_trigger_that_has_lost_its_parentheses_is_reported_and_replaced(
    pg_engine: Engine, level: str
) -> None:
    box(WITHOUT_PARENTHESES, level).metadata.create_all(pg_engine)
    model: Any = box(WITH_PARENTHESES, level)
    assert {finding.problem for finding in check(pg_engine, model)} == {
        Problem.OUTDATED
    }
    with pg_engine.connect() as connection:
        assert sa_history.alembic
        context = MigrationContext.configure(connection)
        script = produce_migrations(context, model.metadata)
        assert script.upgrade_ops is not None
        assert [op for op in script.upgrade_ops.ops if isinstance(op, HistoryOp)]
    install(pg_engine, model)
    assert not check(pg_engine, model)
    with Session(pg_engine) as session:
        session.add(model(id=1, width=0, height=0, open=False))
        session.commit()
        session.execute(sa.update(model).values(height=20))
        session.commit()
        assert not session.scalars(model.events.select()).all()
        session.execute(sa.update(model).values(open=True))
        session.commit()
        assert len(session.scalars(model.events.select()).all()) == 1
