"""A trigger that notes what fired it, and the script that creates it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import MetaData, create_mock_engine
from sqlalchemy.dialects import postgresql

from sa_history import Operations, Trigger

SAY = "INSERT INTO said (word) VALUES ({}); RETURN COALESCE(NEW, OLD);"
"""A body that notes something."""


def say(name: str, when: Any, operation: Operations, **options: Any) -> Trigger:
    """Return a trigger that notes its name, with what fired it."""
    body = SAY.format(f"'{name} ' || TG_OP")
    return Trigger(name, when, operation, body=body, **options)


def printed(metadata: MetaData, drivername: str = "postgresql+psycopg") -> str:
    """Return what create_all does, as a script."""
    statements: list[str] = []
    offline = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    engine = create_mock_engine(
        f"{drivername}://",
        lambda element, *_, **__: statements.append(
            str(element.compile(dialect=offline))
        ),
    )
    metadata.create_all(engine, checkfirst=False)
    return "".join(f"{statement.strip()};\n" for statement in statements)
