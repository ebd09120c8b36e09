"""What sessions do at random with the classes of ``mappings``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from sqlalchemy import delete, insert, inspect, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import (
    CircularDependencyError,
    IntegrityError,
    InvalidRequestError,
)
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import FlushError, StaleDataError

import sa_history as history

from .mappings import Entity, Mappings

REFUSED = (
    # By the database, and by SQLAlchemy, which has an AssertionError for a key that
    # would become NULL.
    IntegrityError,
    StaleDataError,
    FlushError,
    CircularDependencyError,
    InvalidRequestError,
    AssertionError,
    KeyError,
)


def raise_unless_refused(error: Exception) -> None:
    """Raise an error that is ours, or one that SQLAlchemy has for other reasons."""
    texts = {AssertionError: "Dependency rule", KeyError: "Deferred loader"}
    is_other = texts.get(type(error), "") not in str(error)
    if is_other or isinstance(error, history.exc.HistoryError):
        raise error


class Work:
    """Units of work at random.

    :param chance: what decides.
    """

    def __init__(self, mappings: Mappings, chance: random.Random) -> None:
        self.mappings = mappings
        self.chance = chance
        self.context: list[dict[str, int]] = []

    def transaction(self, session: Session) -> Iterator[dict[str, int]]:
        """Work in a transaction, and yield the context after each flush.

        What the database or SQLAlchemy refuses in a savepoint is rolled back.
        """
        for _ in range(self.chance.randint(2, 6)):
            with ExitStack() as blocks:
                outer = len(self.context)
                blocks.callback(self.context.__delitem__, slice(outer, None))
                for _ in range(self.chance.choice((0, 0, 1, 2))):
                    keys = {self.chance.choice("abc"): self.chance.randint(1, 9)}
                    blocks.enter_context(history.context(session, **keys))
                    self.context.append(keys)
                yield from self._in_savepoint(session)

    def _in_savepoint(self, session: Session) -> Iterator[dict[str, int]]:
        if self.chance.random() < 0.2:
            self.step(session)
            session.flush()
            yield self.current()
            return
        savepoint = session.begin_nested()
        try:
            self.step(session)
            session.flush()
        except REFUSED as error:
            raise_unless_refused(error)
            savepoint.rollback()
            session.expunge_all()
            return
        if self.chance.random() < 0.2:
            savepoint.rollback()
        else:
            savepoint.commit()
            yield self.current()

    def current(self) -> dict[str, int]:
        """Return the context of what is written now."""
        return {name: value for keys in self.context for name, value in keys.items()}

    def step(self, session: Session) -> None:
        """Do one thing."""
        steps = {
            self.add: 8,
            self.change: 8,
            self.delete: 3,
            self.move: 3,
            self.link: 3,
            self.change_key: 1,
            self.merge: 2,
            self.forget: 1,
            self.insert_in_bulk: 2,
            self.update_in_bulk: 2,
            self.delete_in_bulk: 1,
            self.upsert: 1,
        }
        (step,) = self.chance.choices([*steps], [*steps.values()])
        step(session)

    def any(self, session: Session, model: Any = None) -> tuple[Any, Entity] | None:
        """Return an object, and what is known of its class; None if there is none."""
        model = model or self.chance.choice(self.mappings.entities).model
        query = select(model).order_by(*inspect(model).primary_key)
        found = session.scalars(query).unique().all()
        if not found:
            return None
        obj = self.chance.choice(found)
        return obj, next(e for e in self.mappings.entities if e.model is type(obj))

    def values(self, entity: Entity) -> dict[str, Any]:
        """Return values for some attributes, and for all that need one."""
        found = {}
        for name, make in entity.made.items():
            attribute = entity.columns.get(name)
            is_needed = attribute is not None and attribute.is_needed
            if is_needed or self.chance.random() < 0.5:
                is_null = attribute is not None and attribute.options["nullable"]
                is_null = is_null and self.chance.random() < 0.2
                found[name] = None if is_null else make(self.chance)
        return found

    def new(self, session: Session, entity: Entity) -> Any:
        """Return a new object that is in no session; None if it lacks a parent."""
        parents = {}
        for name, (model, may_be_null) in entity.parents.items():
            found = self.any(session, model)
            if found is not None and (not may_be_null or self.chance.random() < 0.6):
                parents[name] = found[0]
            elif not may_be_null:
                return None
        obj = entity.model()
        for name, make in entity.of_key.items():
            setattr(obj, name, make(self.chance))
        for name, value in {**self.values(entity), **entity.fixed, **parents}.items():
            setattr(obj, name, value)
        return obj

    def add(self, session: Session) -> None:
        with session.no_autoflush:
            obj = self.new(session, self.chance.choice(self.mappings.entities))
        if obj is not None:
            session.add(obj)

    def change(self, session: Session) -> None:
        found = self.any(session)
        if found is None:
            return
        obj, entity = found
        for name, value in self.values(entity).items():
            now = getattr(obj, name)
            if isinstance(now, MutableDict) and self.chance.random() < 0.5:
                now["more"] = self.chance.randint(1, 9)
            elif isinstance(now, MutableList) and self.chance.random() < 0.5:
                now.append("more")
            else:
                setattr(obj, name, value)

    def delete(self, session: Session) -> None:
        found = self.any(session)
        if found is not None:
            session.delete(found[0])

    def move(self, session: Session) -> None:
        found = self.any(session)
        if found is None or not found[1].parents:
            return
        name = self.chance.choice([*found[1].parents])
        model, may_be_null = found[1].parents[name]
        parent = self.any(session, model)
        if may_be_null and self.chance.random() < 0.3:
            setattr(found[0], name, None)
        elif parent is not None:
            setattr(found[0], name, parent[0])

    def link(self, session: Session) -> None:
        linked = [e for e in self.mappings.entities if e.collections]
        if not linked:
            return
        found = self.any(session, self.chance.choice(linked).model)
        other = self.any(session, linked[0].collections["linked"])
        if found is None or other is None:
            return
        links = found[0].linked
        positions = [n for n, each in enumerate(links) if each is other[0]]
        if positions:
            del links[positions[0]]
        else:
            links.append(other[0])

    def change_key(self, session: Session) -> None:
        found = self.any(session)
        if found is not None and found[1].how == "root":
            for name, make in found[1].of_key.items():
                setattr(found[0], name, make(self.chance))

    def merge(self, session: Session) -> None:
        found = self.any(session)
        if found is None:
            return
        obj, entity = found
        copy = entity.model()
        mapper = inspect(entity.model)
        for column in mapper.primary_key:
            name = mapper.get_property_by_column(column).key
            setattr(copy, name, getattr(obj, name))
        for name, value in {**self.values(entity), **entity.fixed}.items():
            setattr(copy, name, value)
        session.merge(copy)

    def forget(self, session: Session) -> None:
        found = self.any(session)
        if found is not None:
            obj = found[0]
            ways = (
                lambda: session.refresh(obj),
                lambda: session.expire(obj),
                session.expire_all,
                session.expunge_all,
            )
            self.chance.choice(ways)()

    def _in_bulk(self) -> Entity | None:
        """Return a class that statements may write, and whose rows need no parent."""
        possible = [
            entity
            for entity in self.mappings.entities
            if all(may_be_null for _, may_be_null in entity.parents.values())
            and inspect(entity.model).version_id_col is None
            and not inspect(entity.model).with_polymorphic
        ]
        return self.chance.choice(possible) if possible else None

    def _columns(self, entity: Entity, names: Any) -> dict[str, Any]:
        of_key = {name: make(self.chance) for name, make in entity.of_key.items()}
        made = {name: entity.made[name](self.chance) for name in names}
        return {**of_key, **made, **entity.fixed}

    def insert_in_bulk(self, session: Session) -> None:
        entity = self._in_bulk()
        if entity is not None:
            count = self.chance.randint(1, 3)
            rows = [self._columns(entity, entity.columns) for _ in range(count)]
            session.execute(insert(entity.model), rows)

    def update_in_bulk(self, session: Session) -> None:
        entity = self._in_bulk()
        if entity is None or not entity.own:
            return
        name = self.chance.choice([*entity.own])
        statement = update(entity.model).values({name: entity.made[name](self.chance)})
        if self.chance.random() < 0.5:
            keys = session.scalars(select(entity.table.primary_key.columns[0])).all()
            statement = statement.where(
                entity.table.primary_key.columns[0].in_(keys[:2])
            )
        session.execute(statement)
        session.expire_all()

    def delete_in_bulk(self, session: Session) -> None:
        entity = self._in_bulk()
        if entity is None or entity.how not in ("root", "concrete", "association"):
            return
        key = entity.table.primary_key.columns[0]
        keys = session.scalars(select(key)).all()[:2]
        session.execute(delete(entity.model).where(key.in_(keys)))
        session.expire_all()

    def upsert(self, session: Session) -> None:
        entity = self._in_bulk()
        if (
            entity is None
            or entity.how != "root"
            or not entity.of_key
            or not entity.own
        ):
            return
        mapper = inspect(entity.model)
        row = self._columns(entity, entity.own)
        if mapper.polymorphic_on is not None:
            row["kind"] = mapper.polymorphic_identity
        statement = upsert(entity.model).values(row)
        column = mapper.attrs[self.chance.choice([*entity.own])].columns[0]
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[*entity.table.primary_key],
                set_={column: statement.excluded[column.key]},
            )
        )
        session.expire_all()
