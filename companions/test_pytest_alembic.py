"""pytest-alembic on a project whose revisions have history."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import URL

from companions.pages import PAGE, section_of

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import Protect, Delete, Snapshot, attach, track


class Base(DeclarativeBase):
    pass


@track(Snapshot, append_only=True)
@attach(Protect(Delete))
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""

ENV = """
from alembic import context

from models import Base

engine = context.config.attributes["connection"]
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
"""

REVISE = """
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

config = Config("alembic.ini")
config.attributes["connection"] = create_engine({url!r})
command.revision(config, "history", autogenerate=True)
"""


def python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True
    )


def project(directory: Path, url: str) -> None:
    """Make a project, with a revision that has all that its models define."""
    (directory / "models.py").write_text(MODELS)
    assert python(directory, "-m", "alembic", "init", "migrations").returncode == 0
    (directory / "migrations" / "env.py").write_text(ENV)
    done = python(directory, "-c", REVISE.format(url=url))
    assert done.returncode == 0, done.stderr
    section = section_of(PAGE.read_text(), "pytest-alembic")
    conftest = section.split("```python\n")[1].split("```")[0]
    placeholder = "postgresql+psycopg://localhost/shop"
    (directory / "tests").mkdir()
    (directory / "tests" / "conftest.py").write_text(conftest.replace(placeholder, url))


def run_tests(directory: Path) -> str:
    alembic = ["-p", "no:cacheprovider", "--test-alembic", "-q", "--rootdir=."]
    return python(directory, "-m", "pytest", *alembic).stdout


def test_all_its_tests_pass(tmp_path: Path, pg_url: URL) -> None:
    project(tmp_path, pg_url.render_as_string(hide_password=False))
    assert "4 passed" in run_tests(tmp_path)


def test_missing_triggers_are_found(tmp_path: Path, pg_url: URL) -> None:
    project(tmp_path, pg_url.render_as_string(hide_password=False))
    models = tmp_path / "models.py"
    models.write_text(
        MODELS.replace("Snapshot, append", "Snapshot, level='row', append")
    )
    printed = run_tests(tmp_path)
    assert "1 failed, 3 passed" in printed
    assert "test_model_definitions_match_ddl" in printed
