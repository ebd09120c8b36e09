"""What a mock engine is given makes the database that ``create_all`` makes.

Programs print it in ways of their own: Atlas's provider takes out line breaks and tabs,
and keeps the percent signs that are doubled for a driver.
"""

from __future__ import annotations

import contextlib
import io
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Engine,
    MetaData,
    NullPool,
    create_engine,
    create_mock_engine,
    func,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import (
    FSM,
    AfterUpdate,
    Audit,
    Delete,
    Protect,
    Snapshot,
    SoftDelete,
    Touch,
    Trigger,
    Update,
    Versioned,
    attach,
    audit_table,
    new,
    old,
    track,
    view,
)
from sa_history.cli.command import Database
from sa_history.cli.installation import ddl
from sa_history.install import check
from sa_history.testing import PgServer
from tests.replication.test_dump import pg

NOTE = """-- Who has a note looks at "it".
IF NEW.body LIKE 'a%' THEN
\tRAISE NOTICE 'it''s 100%% of % %', E'\\\\\\n', NEW.body; END IF;
RETURN
NEW;"""


@pytest.fixture(params=["inline", "reference"])
def model(request: pytest.FixtureRequest, base: type[DeclarativeBase]) -> Any:
    """Models with something of everything that has a function, trigger or view."""

    @track(
        Snapshot,
        AfterUpdate(new.body == 'it\'s\n"\t5%" of\\', label="odd"),
        append_only=True,
        context=request.param,
    )
    @attach(
        Protect(Delete, condition=old.body.like("50%\n-- no comment /* $$ */")),
        FSM("state", transitions=[("draft", "out"), ("out", "gone")]),
        SoftDelete("deleted_at", value=func.now()),
        Touch("changed_at"),
        Versioned("version"),
        Trigger("note", "before", Update, body=NOTE, declare="x int;\ny int;"),
        Trigger("late", "after", Update, body=NOTE, deferrable="deferred"),
    )
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        state: Mapped[str]
        version: Mapped[int]
        changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
        deleted_at: Mapped[datetime | None]

    log = audit_table("audit_log", base.metadata)

    @track(AfterUpdate, level="row")
    @attach(Audit(into=log))
    class Line(base):  # type: ignore[misc, valid-type]
        __tablename__ = "line"
        id: Mapped[int] = mapped_column(primary_key=True)

    view("half", base.metadata, select(Page.id).where(Page.body != "50%\nof\t'it'\\"))
    return Page


@pytest.fixture
def databases(servers: tuple[PgServer, PgServer]) -> Iterator[tuple[Engine, Engine]]:
    """Two empty databases of a server."""
    names = [f"printed_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    urls = [servers[1].create_database(name) for name in names]
    one, other = (create_engine(url, poolclass=NullPool) for url in urls)
    yield one, other
    for name in names:
        servers[1].drop_database(name)


def printed_by_atlas(metadata: MetaData) -> str:
    """Return what atlas-provider-sqlalchemy 0.5.2 prints of a MetaData."""
    printed: list[str] = []

    def dump(statement: Any, *_: Any, **__: Any) -> None:
        text = str(statement.compile(dialect=engine.dialect))
        printed.append(text.replace("\t", "").replace("\n", "") + ";\n\n")

    engine = create_mock_engine("postgresql://", dump)
    metadata.create_all(engine, checkfirst=False)
    return "".join(printed)


def printed_by_command(metadata: MetaData) -> str:
    """Return what the command prints."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        ddl(Database([metadata], "sa-history {}", None, ["models"]), False, json=False)
    return written.getvalue()


def run(url: URL, script: str) -> None:
    """Run a script as psql runs a file."""
    done = pg("psql", url, "--quiet", "--set=ON_ERROR_STOP=1", input=script)
    assert done.returncode == 0, done.stderr


def dumped(engine: Engine) -> list[str]:
    """Return what pg_dump says of a database, without its random words."""
    done = pg("pg_dump", engine.url)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if not line.startswith("\\")]


@pytest.mark.parametrize("printed", [printed_by_atlas, printed_by_command])
def test_printed_statements_make_the_database_that_create_all_makes(
    printed: Callable[[MetaData], str], model: Any, databases: tuple[Engine, Engine]
) -> None:
    one, other = databases
    model.metadata.create_all(one)
    run(other.url, printed(model.metadata))
    assert dumped(other) == dumped(one)
    assert check(other, model) == []


def test_what_the_command_prints_can_be_read(model: Any) -> None:
    assert NOTE in printed_by_command(model.metadata)
