"""Tiled: a catalogue of scientific data, and who may see it.

asyncpg. Its own triggers keep a closure table of a tree, and a column that repeats
the parent; a deletion reaches the tables below by cascades.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from applications.life import Application, Operation, main


def load(url: str, folder: Path) -> Application:
    from tiled.catalog import orm
    from tiled.catalog.core import REQUIRED_REVISION, initialize_database
    from tiled.graph import orm as _graph  # noqa: F401 (more models)

    address = url.replace("+psycopg:", "+asyncpg:").replace("%2F", "/")

    async def initialize() -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(address)
        await initialize_database(engine)
        await engine.dispose()

    def create(engine: sa.Engine) -> None:
        asyncio.run(initialize())
        with engine.begin() as connection:
            for statement in (
                "CREATE TABLE alembic_version (version_num text)",
                f"INSERT INTO alembic_version VALUES ('{REQUIRED_REVISION}')",
            ):
                connection.execute(sa.text(statement))

    # It is of SQLite only, and this repeats the primary key without a name.
    metadata = orm.Base.metadata
    metadata.remove(metadata.tables["metadata_fts5"])
    structures = metadata.tables["structures"]
    structures.constraints -= {
        c for c in structures.constraints if isinstance(c, sa.UniqueConstraint)
    }
    return Application(
        metadata=metadata,
        registry=orm.Base.registry,
        packages=["tiled"],
        operations=operations(address, folder),
        create=create,
        overlooked=["alembic_version", "metadata_tsvector_search"],
    )


def operations(address: str, folder: Path) -> list[Operation]:
    from sqlalchemy import select
    from tiled.catalog import from_uri, orm
    from tiled.structures.core import StructureFamily

    CONTAINER = StructureFamily.container

    async def tree(catalog: Any) -> None:
        for name in ("raw", "processed"):
            await catalog.create_node(
                structure_family=CONTAINER, metadata={"name": name}, key=name
            )
        for parent in ("raw", "processed"):
            node = await catalog.lookup_adapter([parent])
            for number in range(5):
                await node.create_node(
                    structure_family=CONTAINER,
                    metadata={"number": number, "tags": ["x", number]},
                    key=f"scan {number}",
                    access_tags=["public"],
                )
        deep = await catalog.lookup_adapter(["raw", "scan 0"])
        await deep.create_node(structure_family=CONTAINER, metadata={}, key="detail")

    async def metadata(catalog: Any) -> None:
        for number in range(3):
            node = await catalog.lookup_adapter(["raw", f"scan {number}"])
            await node.replace_metadata(metadata={"number": number, "good": True})
            await node.replace_metadata(metadata={"number": number}, specs=[])
            await node.replace_metadata(metadata={"n": number}, drop_revision=True)
        node = await catalog.lookup_adapter(["raw", "scan 0"])
        await node.delete_revision(1)

    async def tags(catalog: Any) -> None:
        async with catalog.context.session() as session:
            tag = orm.AccessTag(name="team")
            principal = orm.AccessTagsPrincipal(name="ada")
            session.add_all([tag, principal])
            await session.flush()
            for scope in ("read:metadata", "read:data"):
                grant = orm.AccessGrant(
                    tag=tag, principal=principal, scope=scopes[scope]
                )
                session.add(grant)
            session.add(orm.AccessTagOwnerAssociation(tag=tag, principal=principal))
            await session.commit()
        for number in range(4):
            node = await catalog.lookup_adapter(["processed", f"scan {number}"])
            await node.replace_metadata(access_tags=["team"])

    async def removed(catalog: Any) -> None:
        node = await catalog.lookup_adapter(["raw"])
        await node.delete(recursive=True)
        node = await catalog.lookup_adapter(["processed", "scan 1"])
        await node.delete()
        async with catalog.context.session() as session:
            team = await session.scalar(
                select(orm.AccessTag).where(orm.AccessTag.name == "team")
            )
            await session.delete(team)
            await session.commit()

    from tiled.access_control.scopes import ScopeName

    scopes = {member.value: member for member in ScopeName}

    def of(work: Callable[[Any], Awaitable[None]]) -> Operation:
        async def run() -> None:
            catalog = from_uri(address, writable_storage=str(folder / "data"))
            await catalog.startup()
            try:
                await work(catalog)
            finally:
                await catalog.shutdown()

        return work.__name__, lambda: asyncio.run(run())

    works: Sequence[Callable[[Any], Awaitable[None]]] = (
        *(tree, metadata, tags, removed),
    )
    return [*map(of, works)]


if __name__ == "__main__":
    main(load)
