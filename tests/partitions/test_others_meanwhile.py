"""Others write, erase and change partitions between any two steps of maintenance.

What there has to be afterwards is known from what they did: each event once, what is
erased as NULL, and of the removed events the last one of each row.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.capture.archive_table import ensure_archive_table
from sa_history.capture.partitioning import KEPT_OFFSET, Horizon
from sa_history.ddl.partitions import PartitionedTable
from sa_history.ddl.repartition import Repartition
from sa_history.exc import InstallError
from sa_history.install import check
from sa_history.query.removed_events import read_horizon
from sa_history.sql.compose import Qualified
from sa_history.tracking.registry import trackings_in

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)


def model(level: str, partition_by: int | None) -> tuple[type[DeclarativeBase], Any]:
    """Return a base, and its tracked class, whose values can be erased."""

    class Base(DeclarativeBase):
        pass

    @track(
        Snapshot,
        AfterDelete,
        level=level,
        append_only=True,
        erasable=["owner"],
        partition_by=partition_by,
    )
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str | None]

    return Base, Account


class Others:
    """Those who do something meanwhile, and what there has to be of it.

    :param engine: connects them; a statement that would wait for long fails.
    :param account: the tracked class.
    :param seed: of what they do.
    """

    def __init__(self, engine: Engine, account: Any, seed: int) -> None:
        self.engine = engine
        self.account = account
        self.random = random.Random(seed)
        self.events: dict[int, tuple[str, int, str | None]] = {}
        self.done: list[str] = []
        self.keep: str | None = "1 day"
        self.detached: Any = None
        self._now = 0

    def act(self) -> None:
        """Do one of the things that people do; none of it counts if it fails."""
        acts = [self.write, self.write, self.write, self.erase, self.by_hand]
        acts += [self.close, self.again, self.detach]
        act = self.random.choice(acts)
        try:
            act()
        except (DBAPIError, InstallError) as error:
            self.done.append(f"{act.__name__} failed: {error}")
        else:
            self.done.append(act.__name__)

    def write(self) -> None:
        """Insert, update and delete rows."""
        self._now += 1
        number, owner = self.random.randint(1, 6), f"owner {self._now}"
        with Session(self.engine) as session:
            row = session.get(self.account, number)
            if row is None:
                session.add(self.account(id=number, owner=owner))
            elif self.random.random() < 0.3:
                session.delete(row)
            else:
                row.owner = owner
            session.flush()
            last = session.execute(
                text(
                    "SELECT pgh_id, pgh_op, id, owner FROM account_event"
                    " ORDER BY pgh_id DESC LIMIT 1"
                )
            ).one()
            session.commit()
        self.events[last.pgh_id] = (last.pgh_op, last.id, last.owner)

    def erase(self) -> None:
        """Erase what is known of a row's owners."""
        number = self.random.randint(1, 6)
        if self.detached is not None:
            self.detach()  # what is detached is in no table that can be erased
        with Session(self.engine) as session:
            history.erase(session, self.account, number)
            session.commit()
        for key, (op, id_, _) in self.events.items():
            if id_ == number:
                self.events[key] = (op, id_, None)

    def by_hand(self) -> None:
        """Write an event with the next number, as a program with INSERT does."""
        row = (self.random.randint(1, 6), f"by hand {self.random.random()}")
        with self.engine.begin() as connection:
            number = connection.execute(
                text(
                    "INSERT INTO account_event (pgh_op, pgh_label, pgh_obj_id, id,"
                    " owner) VALUES ('U', 'snapshot', :id, :id, :owner)"
                    " RETURNING pgh_id"
                ),
                {"id": row[0], "owner": row[1]},
            ).scalar_one()
        self.events[number] = ("U", *row)

    def close(self) -> None:
        """Let numbers pass, so that partitions are full."""
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "SELECT setval('pghistory_id_seq',"
                    " (SELECT last_value + 4 FROM pghistory_id_seq))"
                )
            )

    def again(self) -> None:
        """Begin a second run, which gets no turn."""
        history.partitions(self.engine, self.account, keep=self.keep, now=LATER)

    def detach(self) -> None:
        """Detach the first partition, or attach it again."""
        alter = "ALTER TABLE account_event"
        with self.engine.begin() as connection:
            if self.detached is None:
                detached = connection.execute(text(OLDEST)).first()
                if detached is not None:
                    connection.execute(text(f"{alter} DETACH PARTITION {detached[0]}"))
            else:
                name, bounds = self.detached
                connection.execute(text(f"{alter} ATTACH PARTITION {name} {bounds}"))
                detached = None
        self.detached = detached

    @contextmanager
    def act_during(self, engine: Engine) -> Iterator[None]:
        """Do something now and then before a statement of an engine."""
        is_acting: list[bool] = []

        def look(*_: Any) -> None:
            if not is_acting and self.random.random() < 0.2:
                is_acting.append(True)
                self.act()
                is_acting.clear()

        event.listen(engine, "before_cursor_execute", look)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", look)

    def expected(self, horizon: Horizon | None) -> dict[int, tuple[str, int, Any]]:
        """Return the events that there have to be, by their numbers.

        :param horizon: how far back events were removed; None if none were.
        """
        if horizon is None:
            return self.events
        last = {e[1]: n for n, e in sorted(self.events.items()) if n < horizon.first_id}
        kept = {n - KEPT_OFFSET: self.events[n] for n in last.values()}
        return {
            **{n: event for n, event in kept.items() if event[0] != "D"},
            **{n: e for n, e in self.events.items() if n >= horizon.first_id},
        }


OLDEST = """
SELECT c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
WHERE inhparent = 'account_event'::regclass
  AND obj_description(c.oid, 'pg_class') NOT LIKE 'To be dropped%'
  AND pg_get_expr(c.relpartbound, c.oid) NOT SIMILAR TO '%(MINVALUE|MAXVALUE)%'
ORDER BY c.oid LIMIT 1
"""


@pytest.fixture
def others(pg_engine: Engine) -> Iterator[Callable[..., Others]]:
    """Make others, who have written what fills two partitions."""
    options = {"options": "-c lock_timeout=50"}
    engine = create_engine(pg_engine.url, connect_args=options)

    def make(account: Any, seed: int) -> Others:
        made = Others(engine, account, seed)
        for _ in range(25):
            made.write()
        return made

    yield make
    engine.dispose()


def read_events(engine: Engine) -> dict[int, tuple[str, int, Any]]:
    statement = "SELECT pgh_id, pgh_op, id, owner FROM account_event"
    with engine.connect() as connection:
        rows = connection.execute(text(statement)).all()
    found = {row[0]: (row[1], row[2], row[3]) for row in rows}
    assert len(found) == len(rows)
    return found


def read_horizon_of(engine: Engine, base: type[DeclarativeBase]) -> Horizon | None:
    (tracking,) = trackings_in(base.metadata)
    with engine.connect() as connection:
        return read_horizon(connection, tracking)


SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("converts", [False, True], ids=["partitioned", "one table"])
@pytest.mark.usefixtures("read_committed")
def test_what_others_do_while_old_events_are_removed_stays_done(
    converts: bool, seed: int, level: str, pg_engine: Engine, others: Any
) -> None:
    base, account = model(level, 10)
    models = model(level, None) if converts else (base, account)
    models[0].metadata.create_all(pg_engine)
    ensure_archive_table(base.metadata).create(pg_engine, checkfirst=True)
    who = others(models[1], seed)

    def maintain() -> list[Any]:
        return history.partitions(
            pg_engine, base, keep="1 day", now=LATER, convert=converts
        )

    for _ in range(3):
        with who.act_during(pg_engine):
            maintain()
        for _ in range(8):
            who.write()
    if who.detached is not None:
        who.detach()
    for report in [*maintain(), *maintain()]:
        last = report
    assert last.postponed == (), who.done
    assert check(pg_engine, base) == [], who.done
    horizon = read_horizon_of(pg_engine, base)
    assert horizon is not None, who.done
    found, expected = read_events(pg_engine), who.expected(horizon)
    assert set(found.items()) ^ set(expected.items()) == set(), who.done


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("read_committed")
def test_what_others_do_while_partitions_become_one_table_stays_done(
    seed: int, level: str, pg_engine: Engine, others: Any
) -> None:
    base, account = model(level, 10)
    base.metadata.create_all(pg_engine)
    who = others(account, seed)
    who.keep = None
    history.partitions(pg_engine, base)
    table = PartitionedTable(Qualified("public", "account_event"), "pgh_id", "bigint")
    with who.act_during(pg_engine), pg_engine.connect() as connection:
        first = Qualified("public", "account_event_p1")
        Repartition(connection, table, first, 1, lambda done: who.act()).unpartition()
    name = who.detached and who.detached[0]
    found = read_events(pg_engine)
    if name:
        with pg_engine.connect() as connection:
            rows = connection.execute(
                text(f"SELECT pgh_id, pgh_op, id, owner FROM {name}")
            ).all()
        found |= {row[0]: (row[1], row[2], row[3]) for row in rows}
    assert set(found.items()) ^ set(who.events.items()) == set(), who.done
