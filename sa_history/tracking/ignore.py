"""Ignoring triggers: for a session, a connection or the thread, within a block."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper

from sa_history._types import UNSET, Unset
from sa_history.attachments.registry import attachments_of
from sa_history.contexts.block import Block
from sa_history.contexts.stack import Stacks
from sa_history.definition.mapped_tables import Model
from sa_history.exc import IgnoreError
from sa_history.sql.ignore_switch import switch_key
from sa_history.tracking.registry import trackings_of_table
from sa_history.util.identifiers import unstorable
from sa_history.util.messages import suggestion
from sa_history.util.sessions import Target


def ignore(target: Target | Model | str, /, *what: Model | str) -> IgnoreBlock:
    """Return a block in which named triggers do not run.

    The block is a context manager, an async context manager, and a decorator. It counts
    for statements that are executed inside of it, so flush there what it is meant for.
    The block itself sends nothing: the next statement sends a setting of its
    transaction along, which ends with the block, with a rollback, and when the
    connection returns to its pool.

    :param target: the session or connection, sync or async, that the block is for. If
        left out, the block is for all statements of the thread; a running event loop,
        whose tasks share the thread, refuses that.
    :param what: models or tables, and names of triggers. Models without names: all
        their triggers, tracking included. Models with names: their triggers of these
        names; that of tracking is the name of its attribute, ``"events"``. Names alone:
        the triggers of these names on all tables. Nested blocks add up.
    :raises IgnoreError: nothing is named, or a model has no such trigger; when the
        block is entered: the target cannot have a block.

    Whether a deferred trigger is ignored is decided when its statement is executed;
    whether the triggers of its own writes are, when it runs.

    A trigger with ``ignorable=False`` runs all the same, and append-only protection
    of events cannot be ignored.

    Example::

        with history.ignore(session, Account, "protect_delete"):
            session.delete(account)
            session.flush()


        @history.ignore("protect_insert")
        def official_create(session): ...
    """
    if isinstance(target, (str, type, Table)):
        return IgnoreBlock(UNSET, _keys((target, *what)))
    # Checked when the block is entered: a scoped session may not exist before.
    return IgnoreBlock(target, _keys(what))


class IgnoreBlock(Block[frozenset[str]]):
    """A block in which triggers do not run, as :func:`ignore` makes it."""

    error = IgnoreError
    function = "history.ignore"

    def __init__(self, target: Target | Unset, keys: frozenset[str]) -> None:
        super().__init__(target)
        self._keys = keys

    def copy(self) -> IgnoreBlock:
        """Return a block with the same arguments."""
        return IgnoreBlock(self._target, self._keys)

    def push(self, stacks: Stacks) -> tuple[list[frozenset[str]], frozenset[str]]:
        """Put the keys on the stack."""
        stacks.ignored.append(self._keys)
        return stacks.ignored, self._keys


def _keys(what: tuple[Any, ...]) -> frozenset[str]:
    names = [item for item in what if isinstance(item, str)]
    models = [item for item in what if not isinstance(item, str)]
    for name in names:
        wrong = unstorable(name)
        if wrong is not None:
            raise IgnoreError(f"no trigger has {wrong} in its name, got {name!r}")
    if not what:
        raise IgnoreError(
            "ignore needs to be told what: write history.ignore(session, Account), or "
            'history.ignore(session, "protect_delete")'
        )
    if not models:
        return frozenset(switch_key(None, name) for name in names)
    known = {name: table for model in models for name, table in _triggers(model)}
    for name in names:
        if name not in known:
            subjects = " or ".join(map(_name_of, models))
            raise IgnoreError(
                f"{subjects} has no trigger {name!r} that can be ignored"
                f"{suggestion(name, known)}"
            )
    return frozenset(
        switch_key(table.key, name if names else None)
        for model in models
        for name, table in _triggers(model)
        if not names or name in names
    )


def _triggers(model: Any) -> list[tuple[str, Table]]:
    """Return the triggers of a model that can be ignored, each with its table."""
    found = [
        (name, table) for table in _tables(model) for name in _ignorable_names(table)
    ]
    if not found:
        if any(map(has_triggers, _tables(model))):
            raise IgnoreError(
                f"{_name_of(model)} has no trigger that can be ignored, since what it "
                "has is ignorable=False; the owner of the table can disable it "
                "meanwhile: ALTER TABLE ... DISABLE TRIGGER USER"
            )
        raise IgnoreError(
            f"{_name_of(model)} has no trigger that can be ignored; give it one with "
            "attach(...) or track(...)"
        )
    return found


def _ignorable_names(table: Table) -> list[str]:
    attached = attachments_of(table.metadata).of_table(table)
    tracked = trackings_of_table(table)
    return [a.name for a in attached if a.trigger.ignorable] + [
        t.options.events for t in tracked if t.options.ignorable
    ]


def has_triggers(table: Table) -> bool:
    """Return whether a table is tracked, or has triggers by ``attach``."""
    attached = attachments_of(table.metadata).of_table(table)
    return bool(attached or trackings_of_table(table))


def _tables(model: Any) -> list[Table]:
    """Return the tables of a model's rows, those of its subclasses included."""
    if isinstance(model, Table):
        return [model]
    mapper = inspect(model, raiseerr=False) if isinstance(model, type) else None
    if not isinstance(mapper, Mapper):
        raise IgnoreError(
            f"ignore takes models, tables and names of triggers, got {model!r}"
        )
    tables = {table: None for m in mapper.self_and_descendants for table in m.tables}
    return [table for table in tables if isinstance(table, Table)]


def _name_of(model: Any) -> str:
    return str(getattr(model, "__name__", None) or getattr(model, "name", model))
