"""Each kind of environment, as ``alembic init`` or Flask-Migrate makes it.

What is changed in it is what the documentation says: a line that imports
``sa_history.alembic``, beside the application's own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from alembic import command
from alembic.config import Config
from alembic.runtime.plugins import Plugin
from sqlalchemy import URL, Engine, create_engine, inspect, text

import sa_history.alembic_plugin
from sa_history.testing import PgServer

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import Protect, Delete, Snapshot, attach, track


class Base(DeclarativeBase):
    pass


@attach(Protect(Delete))
@track(Snapshot, append_only=True)
class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""

# All in one process, since most of the time goes into its start.
RUN = "import sys; from {0} import {1} as run\nfor line in sys.argv[1:]: run({2})\n"
ALEMBIC = RUN.format("alembic.config", "main", "line.split()")
FLASK = RUN.format("flask.cli", "cli", "line.split(), standalone_mode=False")


# Flask-Migrate asks for the engine as older versions of Flask-SQLAlchemy have it.
WARNINGS = ("-Werror", "-Wignore:'get_engine' is deprecated:DeprecationWarning")


def run(directory: Path, program: str, *commands: str, **environment: str) -> str:
    """Run commands one after the other, and return what they print."""
    done = subprocess.run(
        [sys.executable, *WARNINGS, "-c", program, *commands],
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def replace(path: Path, *pairs: tuple[str, str]) -> None:
    content = path.read_text()
    for before, after in pairs:
        assert before in content, before
        content = content.replace(before, after, 1)
    path.write_text(content)


def labels(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO account VALUES (1, 'a')"))
        return list(connection.scalars(text("SELECT pgh_label FROM account_event")))


COMMANDS = (
    "revision --autogenerate -m first",
    "upgrade head",
    "check",
    "downgrade base",
    "upgrade head",
    "check",
)


def init(directory: Path, template: str, *replaced: tuple[str, str]) -> None:
    """Make an environment, and write into it what everybody writes."""
    config = Config(directory / "alembic.ini", toml_file=directory / "pyproject.toml")
    command.init(config, str(directory / "migrations"), template)
    (directory / "models.py").write_text(MODELS)
    (directory / "others.py").write_text(MODELS)
    imports = "from alembic import context\nimport models, others"
    replace(
        directory / "migrations" / "env.py",
        ("from alembic import context", f"{imports}\nimport sa_history.alembic"),
        *replaced,
    )


@pytest.mark.parametrize(
    ("template", "driver"),
    [
        ("generic", "postgresql+psycopg"),
        ("pyproject", "postgresql+psycopg2"),
        ("async", "postgresql+asyncpg"),
    ],
)
def test_migrations_work_with_each_template_of_alembic(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, template: str, driver: str
) -> None:
    init(
        tmp_path,
        template,
        ("target_metadata = None", "target_metadata = models.Base.metadata"),
    )
    url = in_ini(pg_url.set(drivername=driver))
    replace(tmp_path / "alembic.ini", ("driver://user:pass@localhost/dbname", url))
    printed = run(tmp_path, ALEMBIC, *COMMANDS)
    assert printed.count("No new upgrade operations detected.") == 2
    assert labels(pg_engine) == ["snapshot"]


def test_the_template_for_several_databases(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, pg_server: PgServer
) -> None:
    metadata = "{'engine1': models.Base.metadata, 'engine2': others.Base.metadata}"
    init(tmp_path, "multidb", ("target_metadata = {}", f"target_metadata = {metadata}"))
    second = pg_server.create_database(f"{pg_url.database}_2")
    replace(
        tmp_path / "alembic.ini",
        ("driver://user:pass@localhost/dbname2", in_ini(second)),
        ("driver://user:pass@localhost/dbname", in_ini(pg_url)),
    )
    engine = create_engine(second)
    try:
        printed = run(tmp_path, ALEMBIC, *COMMANDS)
        assert printed.count("No new upgrade operations detected.") == 2
        assert labels(pg_engine) == labels(engine) == ["snapshot"]
    finally:
        engine.dispose()
        pg_server.drop_database(second.database)


@pytest.fixture
def site(tmp_path: Path) -> str:
    """A directory where sa_history is installed as the project says, for PYTHONPATH."""
    project = Path(sa_history.__file__).parent.parent / "pyproject.toml"
    [(name, value)] = re.findall(
        r'^"(alembic\.autogenerate\..+)" = "(.+)"$', project.read_text(), re.MULTILINE
    )
    info = tmp_path / "site" / "sa_history-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sa_history\n")
    (info / "entry_points.txt").write_text(f"[alembic.plugins]\n{name} = {value}\n")
    return os.pathsep.join([str(info.parent), *filter(None, sys.path)])


@pytest.mark.parametrize("options", ["", 'autogenerate_plugins=["alembic.*"], '])
def test_no_line_in_env_py_is_needed(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, site: str, options: str
) -> None:
    config = Config(tmp_path / "alembic.ini")
    command.init(config, str(tmp_path / "migrations"), "generic")
    (tmp_path / "models.py").write_text(MODELS)
    replace(
        tmp_path / "migrations" / "env.py",
        ("from alembic import context", "from alembic import context\nimport models"),
        ("target_metadata = None", "target_metadata = models.Base.metadata"),
        ("connection=connection, ", f"connection=connection, {options}"),
    )
    url = in_ini(pg_url)
    replace(tmp_path / "alembic.ini", ("driver://user:pass@localhost/dbname", url))
    first, *others = COMMANDS
    run(tmp_path, ALEMBIC, first, PYTHONPATH=site)
    # In another process, in which nobody has compared anything.
    printed = run(tmp_path, ALEMBIC, *others, PYTHONPATH=site)
    assert printed.count("No new upgrade operations detected.") == 2
    assert labels(pg_engine) == ["snapshot"]
    [revision] = (tmp_path / "migrations" / "versions").glob("*.py")
    assert revision.read_text().count("\nimport sa_history.alembic\n") == 1
    assert revision.read_text().count("create trigger account_event_insert") == 1


def test_importing_it_as_well_compares_once(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, site: str
) -> None:
    init(
        tmp_path,
        "generic",
        ("target_metadata = None", "target_metadata = models.Base.metadata"),
    )
    url = in_ini(pg_url)
    replace(tmp_path / "alembic.ini", ("driver://user:pass@localhost/dbname", url))
    run(tmp_path, ALEMBIC, *COMMANDS, PYTHONPATH=site)
    [revision] = (tmp_path / "migrations" / "versions").glob("*.py")
    assert revision.read_text().count("create trigger account_event_insert") == 1


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_import_registers_it_where_alembic_finds_no_entry_point(
    tmp_path: Path, site: str, is_installed: bool
) -> None:
    if not is_installed:
        (tmp_path / "site" / "sa_history-9.dist-info" / "entry_points.txt").unlink()
    program = """
from alembic.runtime.plugins import _all_plugins as found
print("sa_history" in str([*found]))
import sa_history.alembic
print([name for name in found if "sa_history" in name])
"""
    printed = run(tmp_path, program, PYTHONPATH=site)
    assert printed == f"{is_installed}\n['alembic.autogenerate.sa_history']\n"


def test_each_alembic_loads_the_plugin_in_its_way() -> None:
    """Up to 1.20.0 it iterates over what the entry point names."""
    assert isinstance(sa_history.alembic_plugin, ModuleType)
    assert [*sa_history.alembic_plugin] == [sa_history.alembic_plugin]
    for _ in range(2):
        plugin = Plugin("of_ours")
        sa_history.alembic_plugin.setup(plugin)
        plugin.remove()


def in_ini(url: URL) -> str:
    return url.render_as_string(hide_password=False).replace("%", "%%")


APP = """
import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from sa_history import Delete, Protect, Snapshot, attach, track

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SHOP"]
db = SQLAlchemy(app)
Migrate(app, db)


@attach(Protect(Delete))
@track(Snapshot, append_only=True)
class Account(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.Text)
"""


def test_migrations_work_with_flask_migrate(
    tmp_path: Path, pg_url: URL, pg_engine: Engine
) -> None:
    (tmp_path / "shop.py").write_text(APP)

    def flask(*commands: str) -> str:
        url = pg_url.render_as_string(hide_password=False)
        return run(tmp_path, FLASK, *commands, FLASK_APP="shop", SHOP=url)

    flask("db init")
    replace(
        tmp_path / "migrations" / "env.py",
        ("import context\n", "import context\nimport sa_history.alembic\n"),
    )
    printed = flask("db migrate -m first", "db upgrade", "db migrate")
    assert "No changes in schema detected." in printed
    assert labels(pg_engine) == ["snapshot"]

    (tmp_path / "shop.py").write_text(APP.replace("name = ", "title = "))
    flask("db migrate -m title -x rename_column=account.name:title", "db upgrade")
    printed = flask("db check", "db downgrade", "db upgrade", "db downgrade base")
    assert "No new upgrade operations detected." in printed
    with pg_engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
