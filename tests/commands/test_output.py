"""What commands print: colours on a terminal, JSON for programs."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sa_history.cli import main
from sa_history.cli.output import has_colors, printable, table_lines

from .conftest import Main, Terminal


def lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def on_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal, and return the exit status and what it prints."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal := Terminal())
        return main(arguments), terminal.getvalue()


@pytest.mark.parametrize(
    ("environment", "on_terminal", "in_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": ""}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colours_are_for_terminals_unless_the_environment_says_otherwise(
    environment: dict[str, str],
    on_terminal: bool,
    in_pipe: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_colors(Terminal()) is on_terminal
    assert has_colors(io.StringIO()) is in_pipe


def test_what_is_wrong_is_red_and_the_rest_is_as_without_colours(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.execute(text("DROP TRIGGER item_event_insert ON item"))
    session.commit()
    assert on_terminal(monkeypatch, "check", "shop:Base,shop:other") == (
        1,
        "\x1b[31mmissing\x1b[0m trigger item_event_insert on public.item: "
        "run sa-history install shop:Base,shop:other\n",
    )
    _, listed = on_terminal(monkeypatch, "ls", "shop:Base")
    assert "\x1b[31mmissing   \x1b[0m trigger  item_event_insert on public" in listed
    assert "\x1b[32minstalled \x1b[0m trigger  item_event_update on public" in listed


@pytest.mark.usefixtures("three_changes")
def test_changes_are_red_and_green(monkeypatch: pytest.MonkeyPatch) -> None:
    _, printed = on_terminal(monkeypatch, "log", "shop:Account", "--user", "ada")
    assert printed.startswith("\x1b[33mevent ")
    assert "    \x1b[32m+owner: Ann\x1b[0m\n" in printed


def test_characters_that_the_terminal_has_not_are_written_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert printable("é—⏎") == "é—⏎"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    assert printable("é—") == "é\\u2014"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert printable("\udc80\x00") == "\\udc80\\x00"


def test_a_table_is_as_wide_as_its_widest_value() -> None:
    rows = [["1", "long"], ["22", ""]]
    assert list(table_lines(["a", "b"], rows)) == [
        " a  | b",
        "----+------",
        " 1  | long",
        " 22 |",
    ]


def test_findings_as_json(run: Main, database: Engine, session: Session) -> None:
    models = "shop:Base,shop:other"
    assert run(f"check {models} --json") == (0, "", "")
    session.execute(text("DROP TRIGGER item_event_insert ON item"))
    session.execute(text("ALTER TABLE visit_event RENAME TO elsewhere"))
    session.commit()
    status, printed, error = run(f"check {models} --json --allow missing")
    assert (status, error) == (0, "")
    assert lines(printed) == [
        {
            "problem": "missing",
            "kind": "table",
            "name": "public.visit_event",
            "command": None,
            "advice": "run the migrations, or create_all()",
            "allowed": True,
        },
        {
            "problem": "missing",
            "kind": "trigger",
            "name": "item_event_insert on public.item",
            "command": None,
            "advice": "run the migrations, or create_all()",
            "allowed": True,
        },
    ]
    session.execute(text("ALTER TABLE elsewhere RENAME TO visit_event"))
    session.commit()
    status, printed, error = run(f"check {models} --json")
    assert (status, error) == (1, "")
    assert lines(printed) == [
        {
            "problem": "missing",
            "kind": "trigger",
            "name": "item_event_insert on public.item",
            "command": f"sa-history install {models}",
            "advice": None,
            "allowed": False,
        }
    ]


def test_what_nobody_claims_as_json(run: Main, database: Engine) -> None:
    status, printed, error = run("check shop:nothing --json")
    assert status == 2
    assert error.startswith("sa-history: shop:nothing tracks nothing;")
    found = lines(printed)
    assert {one["advice"] for one in found} == {"import the models that have it"}
    assert "public.pghistory_id_seq" in {one["name"] for one in found}


def test_objects_and_steps_as_json(run: Main, database: Engine) -> None:
    listed = lines(run("ls shop:other --json")[1])
    mine = [one for one in listed if "visit" in one["name"]]
    assert mine[1] == {
        "state": "installed",
        "kind": "trigger",
        "name": "visit_event_insert on public.visit",
    }
    done = lines(run("uninstall shop:other --json")[1])
    assert {"step": "drop trigger visit_event_insert on public.visit"} in done
    states = {one["state"] for one in lines(run("ls shop:other --json")[1])}
    assert states >= {"installed", "missing"}
    done = lines(run("install shop:other --json")[1])
    assert {"step": "create trigger visit_event_insert on public.visit"} in done
    assert run("install shop:other --json") == (0, "", "")


def test_statements_as_json(run: Main, shop: Any) -> None:
    text_of = run("ddl shop:other --without-tables")[1]
    statements = [one["statement"] for one in lines(run("ddl shop:other --json")[1])]
    assert any(statement.startswith("CREATE TABLE") for statement in statements)
    statements = lines(run("ddl shop:other --without-tables --json")[1])
    assert "".join(f"{one['statement']};\n\n" for one in statements) == text_of


def test_first_events_as_json(run: Main, session: Session) -> None:
    session.execute(text("ALTER TABLE item DISABLE TRIGGER USER"))
    session.execute(text("INSERT INTO item VALUES (1, 'old', 5)"))
    session.commit()
    assert lines(run("baseline shop:Base item --json")[1]) == [
        {"table": "item", "event_table": "item_event", "events": 1}
    ]


def test_a_base_that_tracks_nothing_any_more_is_cleaned(
    run: Main, session: Session, database: Engine, shop: Any
) -> None:
    """Its event tables keep what they need; migrations or a DBA drop those."""
    refused = run("install --prune shop:nothing")
    assert refused[0] == 2
    assert "; if all are imported and nothing is tracked any more, give " in refused[2]
    session.execute(text("CREATE FUNCTION theirs() RETURNS int RETURN 1"))
    session.commit()
    assert run("install shop:nothing --tracks-nothing") == (0, "nothing to do\n", "")
    status, printed, _ = run("install --prune --tracks-nothing shop:nothing")
    assert status == 0
    assert "drop trigger account_event_insert on public.account\n" in printed
    assert "drop function public.account_event_record\n" in printed
    assert "theirs" not in printed
    assert "sequence" not in printed
    left = run("check shop:nothing")[1].splitlines()
    assert left == [
        "orphaned sequence public.pghistory_id_seq: import the models that have it"
    ]
    session.execute(text("INSERT INTO item VALUES (1, 'new', 5)"))
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM item_event")) == 0
