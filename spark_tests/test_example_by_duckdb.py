"""The archive of the example answers by DuckDB, without Spark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import URL

EXAMPLE = Path(__file__).parent.parent / "examples" / "archive"


def run(script: str, *arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE / script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_two_years_are_archived_and_answer(pg_url: URL, tmp_path: Path) -> None:
    folder, picture = tmp_path / "kiosk", tmp_path / "answers.png"
    url = pg_url.render_as_string(hide_password=False)
    made = run("make.py", str(folder), "--orders", "40", DATABASE_URL=url)
    assert "public.orders_event" in made
    printed = run("ask.py", str(folder), "--picture", str(picture))
    assert "orders as of the first day of a quarter" in printed
    assert "wooden train" in printed
    assert picture.stat().st_size > 10_000
