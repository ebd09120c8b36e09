"""Partitions, by their own names, for a role that may only write tracked tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.util import CommandError
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.exc import InstallError
from sa_history.install import check, harden

from .test_application_role import harden_by_migration


@pytest.fixture
def pg_engine(pg_engine: Engine) -> Engine:
    """An engine that can give and take rights, whatever the server's default is."""
    return pg_engine.execution_options(isolation_level="READ COMMITTED")


@pytest.fixture
def account(base: type[DeclarativeBase], level: str) -> Any:
    @track(Snapshot, AfterDelete, level=level, ignorable=False, partition_by=10)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Account


@pytest.fixture
def role(pg_engine: Engine, pg_url: URL) -> Iterator[str]:
    """A role that gets all rights on each new table."""
    name = f"app_{pg_url.database}"[-63:]
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        grant = f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {name}"
        connection.execute(text(grant))
    yield name
    with pg_engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {name}"))
        connection.execute(text(f"DROP ROLE {name}"))


def test_a_role_has_no_rights_on_partitions(
    account: Any,
    role: str,
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_url: URL,
    tmp_path: Path,
) -> None:
    create_all()
    for dry_run in (True, False):
        with pytest.raises(InstallError, match="DELETE on account_event_p1, ") as error:
            harden(pg_engine, account, role=role, dry_run=dry_run)
        assert str(error.value).startswith(
            "nothing was changed: rights on partitions of history are revoked by the "
            "command partitions: run it first, then this again. role "
        )
    with pytest.raises(
        CommandError, match="the command partitions: .* INSERT on account_event_p1, "
    ):
        harden_by_migration(pg_engine, account, role, tmp_path)
    revoked = f"revoke all on public.account_event_p1 from {role}"
    assert history.partitions(pg_engine, account)[0].done == (revoked,)
    harden(pg_engine, account, role=role)
    app = create_engine(pg_url.set(username=role))
    with app.begin() as connection:
        connection.execute(text("INSERT INTO account SELECT generate_series(1, 15)"))
    # Whoever could write it could have partitions dropped that are in no archive.
    with app.connect() as connection:
        connection.execute(text("SELECT FROM pghistory_archive"))
        with pytest.raises(ProgrammingError, match="InsufficientPrivilege.*_archive"):
            connection.execute(text("DELETE FROM pghistory_archive"))
    history.partitions(pg_engine, account)
    with app.begin() as connection:
        connection.execute(text("DELETE FROM account"))
    events, contexts = history.partitions(pg_engine, account)
    names = [p.name.name for p in (*events.partitions, *contexts.partitions)]
    assert len(names) > 4
    for name in names:
        for statement in (
            f"UPDATE {name} SET {'pgh_label' if 'event' in name else 'id'} = NULL",
            f"DELETE FROM {name}",
            f"TRUNCATE {name}",
            f"INSERT INTO {name} DEFAULT VALUES",
            f"SELECT FROM {name}",
        ):
            with (
                app.connect() as connection,
                pytest.raises(
                    ProgrammingError, match=f"InsufficientPrivilege.* {name}"
                ),
            ):
                connection.execute(text(statement))
    with app.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM account_event")) == 30
        assert check(connection, account) == []
    harden(pg_engine, account, role=role)
    app.dispose()


def test_partitions_are_those_of_the_owner_whoever_makes_them(
    account: Any, pg_engine: Engine, pg_url: URL
) -> None:
    owner = f"owner_{pg_url.database}"[-63:]
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {owner} LOGIN"))
        connection.execute(text(f"GRANT ALL ON SCHEMA public TO {owner}"))
    engine = create_engine(pg_url.set(username=owner))
    account.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO account SELECT generate_series(1, 15)"))
    history.partitions(pg_engine, account)  # by a superuser
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO account SELECT generate_series(16, 30)"))
    events, _ = history.partitions(engine, account)
    assert [p.owner for p in events.partitions] == [None] * len(events.partitions)
    with pg_engine.begin() as connection:
        name = events.partitions[-1].name.name
        connection.execute(text(f"ALTER TABLE {name} OWNER TO CURRENT_USER"))
    events, _ = history.partitions(pg_engine, account)
    assert events.done == (f"give public.{name} to {owner}",)
    with pg_engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {name} OWNER TO CURRENT_USER"))
        connection.execute(text(f"GRANT ALL ON {name} TO PUBLIC"))
    with pytest.raises(InstallError, match="do it as the role that owns the tables"):
        history.partitions(engine, account)
    engine.dispose()
    with pg_engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {owner} CASCADE"))
        connection.execute(text(f"DROP ROLE {owner}"))


def test_who_may_read_nothing_is_told_what_the_catalog_says(
    account: Any,
    role: str,
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_url: URL,
) -> None:
    create_all()
    with pg_engine.begin() as connection:
        connection.execute(text("REVOKE USAGE ON SCHEMA public FROM PUBLIC"))
        detach = "ALTER TABLE account_event DETACH PARTITION account_event_p1"
        connection.execute(text(detach))
    app = create_engine(pg_url.set(username=role))
    missing, orphaned = check(app, account)
    assert missing.name == "public.account_event without an end"
    assert orphaned.name == "public.account_event_p1"
    app.dispose()
