"""The example of the archive has one answer, by DuckDB and by Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine

import sa_history as history

EXAMPLE = Path(__file__).parent.parent / "examples" / "archive"


def test_spark_answers_what_duckdb_answers(
    spark: Any, pg_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import ask
    import shop
    import two_years

    folder, engine = str(tmp_path / "kiosk"), create_engine(pg_url)
    two_years.make(engine, 40)
    history.archive(engine, shop.Base, to=folder, open=True)
    engine.dispose()
    expected = ask.answers(ask.by_duckdb(folder), folder)
    assert all(expected.values())
    assert ask.answers(ask.by_spark(folder, spark), folder) == expected
    ask.draw(expected, str(tmp_path / "answers.png"))
