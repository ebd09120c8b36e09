"""From some options of ``track`` to others, at random, up, down and up again.

After each revision ``alembic check`` and ``check`` find nothing, writes are recorded,
and the past is the present. ``INJECTION_SCALE=12`` tries twelve times as many.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AggregateEvent
from sa_history.install import check
from tests.test_random_options import SCALE, TRACKERS, some_options

OTHER_TABLES = ("event_table", "schema", "partition_by")


class Version:
    """A model with options at random.

    :param chance: chooses them.
    """

    def __init__(self, chance: random.Random) -> None:
        class Base(DeclarativeBase):
            pass

        class Thing(Base):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            value: Mapped[str | None]
            noise: Mapped[int | None]

        options = some_options(chance)
        self.options = {k: v for k, v in options.items() if k not in OTHER_TABLES}
        if chance.random() < 0.4:
            self.options["partition_by"] = 2
        self.model = history.track(*chance.choice(TRACKERS), **self.options)(Thing)
        self.metadata = Base.metadata

    def differences(self, engine: Engine) -> list[Any]:
        """Return what autogenerate and ``check`` find."""
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            needed = produce_migrations(context, self.metadata).upgrade_ops
        assert needed is not None
        if "partition_by" in self.options:
            # It ends partitions, and gives each the trigger of append_only.
            history.partitions(engine, self.metadata)
        return [*needed.as_diffs(), *check(engine, self.metadata)]

    def write(self, engine: Engine, first: int) -> None:
        """Insert, change and delete rows, and compare the past with the present."""
        with Session(engine) as session, history.context(session, user=1, ip="::1"):
            rows = [self.model(id=first + n, value="a", noise=n) for n in range(3)]
            session.add_all(rows)
            session.commit()
            rows[0].value = "b"
            session.delete(rows[1])
            session.commit()
            now = session.scalar(select(func.clock_timestamp()))
            present = session.scalars(select(self.model).order_by(self.model.id)).all()
            kept = [(row.id, row.value) for row in present]
            assert kept[-2:] == [(first, "b"), (first + 2, "a")]
            with history.as_of(session, now) as past:
                then = past.scalars(select(self.model).order_by(self.model.id))
                assert [(row.id, row.value) for row in then] == kept
            assert session.execute(AggregateEvent.select(self.model)).all()
        if "sealed" in self.options:
            # What of it can be verified is up to the columns that are dropped.
            history.seal(engine, self.metadata)


@pytest.mark.parametrize("number", range(2 * SCALE))
def test_options_are_changed_by_revisions_and_back(
    number: int, migrations: Any, pg_engine: Engine
) -> None:
    seed = number if SCALE == 1 else random.randrange(10**6)
    chance = random.Random(seed)
    before, after = Version(chance), Version(chance)
    print(f"seed {seed}: {before.options} -> {after.options}")
    for revision, version in enumerate((before, after)):
        migrations.metadata = version.metadata
        migrations.revise()
        migrations.upgrade()
        assert version.differences(pg_engine) == []
        version.write(pg_engine, 10 * revision)
    migrations.downgrade()
    assert before.differences(pg_engine) == []
    before.write(pg_engine, 20)
    migrations.upgrade()
    assert after.differences(pg_engine) == []
    after.write(pg_engine, 30)
    migrations.downgrade("base")
    with pg_engine.connect() as connection:
        left = inspect(connection).get_table_names()
    assert left == ["alembic_version"]
