"""``sa-history partitions``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, text

from sa_history.cli import main

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import Snapshot, track


class Base(DeclarativeBase):
    pass


@track(Snapshot, partition_by=10)
class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


class Other(DeclarativeBase):
    pass


@track()
class Page(Other):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pg_url: URL,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run the command, and return its exit status and what it prints."""
    (tmp_path / "notebook.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "notebook", raising=False)
    monkeypatch.setenv("DATABASE_URL", pg_url.render_as_string(hide_password=False))

    def command(*arguments: str, models: str = "notebook:Base") -> tuple[int, str, str]:
        status = main(["partitions", models, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


@pytest.fixture
def notes(run: Run, pg_engine: Engine) -> Callable[[int, int], None]:
    """Insert notes with the numbers from one to another."""
    from notebook import Base  # type: ignore[import-not-found]

    Base.metadata.create_all(pg_engine)

    def insert(first: int, last: int) -> None:
        with pg_engine.begin() as connection:
            for number in range(first, last + 1):
                connection.execute(text(f"INSERT INTO note VALUES ({number})"))

    return insert


def test_it_prints_what_was_done(run: Run, notes: Callable[[int, int], None]) -> None:
    run()
    assert run() == (
        0,
        "public.note_event\n  nothing to do\n"
        "public.pghistory_context\n  nothing to do\n",
        "",
    )
    notes(1, 12)
    planned = run("--dry-run")[1]
    assert planned.startswith(
        "public.note_event\n  end public.note_event_p1 before event 13\n"
    )
    assert run()[1] == (
        "public.note_event\n"
        "  end public.note_event_p1 before event 13\n"
        "  close public.note_event_p1\n"
        "public.pghistory_context\n"
        "  nothing to do\n"
    )


def test_json_has_the_partitions(run: Run, notes: Callable[[int, int], None]) -> None:
    notes(1, 12)
    status, out, _ = run("--json")
    events, contexts = map(json.loads, out.splitlines())
    assert status == 0
    assert events["table"] == "public.note_event"
    assert events["done"] == [
        "end public.note_event_p1 before event 13",
        "close public.note_event_p1",
    ]
    assert events["postponed"] == []
    closed, tail = events["partitions"]
    assert (closed["name"], closed["from"], closed["to"]) == ("note_event_p1", 1, 13)
    assert closed["since"] <= closed["until"]
    assert tail == {
        "name": "note_event_p13",
        "from": 13,
        "to": None,
        "since": None,
        "until": None,
    }
    assert contexts["table"] == "public.pghistory_context"


def test_what_has_to_wait_is_said(
    run: Run, notes: Callable[[int, int], None], pg_engine: Engine
) -> None:
    run()
    notes(1, 12)
    with pg_engine.begin() as connection:
        connection.execute(text("LOCK TABLE note_event IN ACCESS SHARE MODE"))
        status, out, _ = run()
    assert status == 0
    assert out.startswith(
        "public.note_event\n  later: end public.note_event_p1 before event 13: "
        "others are using the table\n"
    )


def test_what_cannot_be_meant_is_refused(run: Run) -> None:
    assert run("--keep", "long") == (
        2,
        "",
        "sa-history: keep is a number of days, weeks, months or years, got 'long'; "
        'write "24 months"\n',
    )
    status, _, error = run()
    assert status == 2
    assert error.startswith("sa-history: ")


def test_old_events_are_kept_in_part_or_not_at_all(
    run: Run, notes: Callable[[int, int], None], pg_engine: Engine
) -> None:
    notes(1, 12)
    run()
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "ALTER TABLE note_event_p1 DROP CONSTRAINT pgh_time_check;"
                "UPDATE note_event_p1 SET pgh_created_at = '2020-01-01+00';"
            )
        )
    run()
    _, out, _ = run("--keep", "1 year", "--without-last-events")
    assert out.startswith(
        "public.note_event\n"
        "  remove public.note_event_p1\n"
        "  detach public.note_event_p1\n"
        "  drop public.note_event_p1\n"
    )
    with pg_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM note_event")) == 0


def test_models_without_partitions_have_nothing_to_do(
    run: Run, pg_engine: Engine
) -> None:
    assert run(models="notebook:Other") == (0, "no event table has partitions\n", "")
    assert run("--json", models="notebook:Other") == (0, "", "")
