"""Other packages in one ``env.py``, which compare the same database.

The settings are those of ``docs/migrations.md``. Each environment is in a process of
its own, as what a package registers with Alembic stays.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL, Engine

from tests.migrations.models import scalars
from tests.migrations.test_environments import ALEMBIC, in_ini, init, replace, run

PAGE = Path(__file__).parents[2] / "docs" / "migrations.md"


def settings(package: str) -> str:
    """Return the block of the documentation that has the settings for a package."""
    blocks = PAGE.read_text().split("```python\n# env.py\n")[1:]
    (block,) = (b.split("```")[0] for b in blocks if b.startswith(f"from {package}"))
    return block


ENUMS = """
import enum

from sqlalchemy import Enum
from sqlalchemy.dialects.postgresql import ARRAY, ENUM
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import track


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@track()
class Brick(Base):
    __tablename__ = "brick"

    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[Colour]
    shape: Mapped[str] = mapped_column(ENUM("round", "flat", name="shape"))
    colours: Mapped[list[str]] = mapped_column(ARRAY(Enum("x", "y", name="xy")))
"""

UP_AND_DOWN = (
    "revision --autogenerate -m change",
    "upgrade head",
    "check",
    "downgrade -1",
    "upgrade head",
)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_enums_are_created_whichever_package_is_imported_first(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, first: str
) -> None:
    init(
        tmp_path,
        "generic",
        ("target_metadata = None", "target_metadata = models.Base.metadata"),
    )
    ours, theirs = "import sa_history.alembic", "import alembic_postgresql_enum"
    lines = [ours, theirs] if first == "ours" else [theirs, ours]
    replace(tmp_path / "migrations" / "env.py", (ours, "\n".join(lines)))
    replace(
        tmp_path / "alembic.ini",
        ("driver://user:pass@localhost/dbname", in_ini(pg_url)),
    )
    (tmp_path / "models.py").write_text(ENUMS)
    run(tmp_path, ALEMBIC, *UP_AND_DOWN)
    added = (
        ENUMS + '    size: Mapped[str] = mapped_column(ENUM("s", "l", name="size"))\n'
    )
    (tmp_path / "models.py").write_text(added)
    run(tmp_path, ALEMBIC, *UP_AND_DOWN)
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO brick VALUES (1, 'RED', 'flat', '{x}', 's')"
        )
    row = "SELECT ROW(colour, shape, colours, size)::text FROM brick_event"
    assert scalars(pg_engine, row) == ["(RED,flat,{x},s)"]


UTILS, EXTENSIONS = "alembic_utils", "sqlalchemy_declarative_extensions"

TRIGGERS = "    triggers=Triggers(ignore_unspecified=True),\n"


@pytest.mark.parametrize(
    ("package", "without"),
    [
        (UTILS, ""),
        (EXTENSIONS, ", append_only=True"),
        (EXTENSIONS, TRIGGERS),
    ],
)
def test_what_we_install_is_not_dropped_by_a_package_with_objects_of_its_own(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, package: str, without: str
) -> None:
    target = "target_metadata = models.Base.metadata"
    block = settings(package).replace(without, "")
    init(tmp_path, "generic", ("target_metadata = None", f"{target}\n\n{block}"))
    models = tmp_path / "models.py"
    models.write_text(models.read_text().replace(without, ""))
    if package == UTILS:
        given = "connection=connection, target_metadata=target_metadata"
        replace(
            tmp_path / "migrations" / "env.py",
            (given, f"{given}, include_object=include_object"),
        )
    replace(
        tmp_path / "alembic.ini",
        ("driver://user:pass@localhost/dbname", in_ini(pg_url)),
    )
    printed = run(tmp_path, ALEMBIC, *UP_AND_DOWN, "check")
    assert printed.count("No new upgrade operations detected.") == 2
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO account VALUES (1, 'a')")
    assert scalars(pg_engine, "SELECT pgh_label FROM account_event") == ["snapshot"]
    assert scalars(pg_engine, "SELECT double(21)") == [42]


WITHOUT_SETTINGS = {
    # An include_object does nothing unless it is given to context.configure.
    UTILS: settings(UTILS),
    EXTENSIONS: """
from sqlalchemy_declarative_extensions import Functions, Triggers, Views
from sqlalchemy_declarative_extensions import declare_database
from sqlalchemy_declarative_extensions.alembic import register_alembic_events
declare_database(
    target_metadata, functions=Functions(), triggers=Triggers(), views=Views()
)
register_alembic_events()
""",
}


@pytest.mark.parametrize("package", WITHOUT_SETTINGS)
def test_who_lets_a_package_drop_what_we_install_is_warned(
    tmp_path: Path, pg_url: URL, pg_engine: Engine, package: str
) -> None:
    target = "target_metadata = models.Base.metadata"
    init(tmp_path, "generic", ("target_metadata = None", target))
    # A trigger of several operations is refused by one of them.
    models = tmp_path / "models.py"
    models.write_text(models.read_text().replace(", append_only=True", ""))
    replace(
        tmp_path / "alembic.ini",
        ("driver://user:pass@localhost/dbname", in_ini(pg_url)),
    )
    run(tmp_path, ALEMBIC, *UP_AND_DOWN[:3])
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION by_hand() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
    replace(
        tmp_path / "migrations" / "env.py",
        (target, f"{target}\n{WITHOUT_SETTINGS[package]}"),
    )
    printed = run(tmp_path, ALEMBIC, "revision --autogenerate -m lost")
    (warning,) = (line for line in printed.splitlines() if " drops what " in line)
    assert f"{package} drops what history is kept by: " in warning
    assert "account_event_record" in warning
    assert "account_event_insert" in warning
    assert "by_hand" not in warning
    assert "make the revision again" in warning
