"""PGlite, in which all clients are one session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from companions.pglite import install, pglite
from sa_history import track


class Base(DeclarativeBase):
    """The models."""


@track()
class Memo(Base):
    __tablename__ = "memo"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pglite")
    install(directory)
    return directory


@pytest.fixture
def pg_url(installed: Path) -> Iterator[URL]:
    with pglite(installed, connections=4) as url:
        yield url


def test_context_of_one_client_is_not_that_of_the_next(pg_url: URL) -> None:
    engine = create_engine(
        pg_url, poolclass=NullPool, connect_args={"prepare_threshold": None}
    )
    Base.metadata.create_all(engine)
    with engine.connect() as one, engine.connect() as other:
        for id_ in range(1, 9, 2):
            with history.context(one, user=id_):
                one.execute(insert(Memo).values(id=id_))
                one.commit()
                other.execute(insert(Memo).values(id=id_ + 1))
                other.commit()
    model = Memo.events.model
    with engine.connect() as connection:
        statement = select(model.id, model.pgh_context_id).order_by(model.id)
        found = [
            (id_, context is not None) for id_, context in connection.execute(statement)
        ]
    assert found == [(id_, id_ % 2 == 1) for id_ in range(1, 9)]


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()
