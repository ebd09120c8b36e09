"""Ignoring triggers: for a session, a connection or the thread, within a block."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper

from sa_history._types import UNSET, Unset
from sa_history.attachments.registry import attachments_of
from sa_history.contexts.block import Block
from sa_history.contexts.stack import Blocks
from sa_history.exc import IgnoreError
from sa_history.sql.ignore_switch import switch_key
from sa_history.tracking.registry import trackings_of_table
from sa_history.util.identifiers import unstorable
from sa_history.util.messages import suggestion
from sa_history.util.sessions import Target


def ignore(
    target: Target | type[Any] | Table | str, /, *what: type[Any] | Table | str
) -> IgnoreBlock:
    """Return a block in which named triggers do not run.

    It is a context manager, an async one, and a decorator. What counts is when a
    statement is executed, so flush inside of the block what is meant to be in it.
    Nothing is sent to the database here: the next statement carries it, in the
    transaction, so it ends with the block, with a rollback and with the connection's
    return to the pool.

    :param target: a session or connection, sync or async, to which it is bound.
        Without one it is for whatever the thread does; inside a running event loop,
        where tasks share the thread, that is refused.
    :param what: models or tables, and names of triggers. Models alone: every trigger
        of theirs, tracking included. With names: those of them; tracking has the name
        of its attribute, ``"events"``. Names alone: the triggers with that name of all
        tables. Blocks inside of one another add up.
    :raises IgnoreError: nothing is named, or a model has no such trigger; on entering:
        the target cannot have a block.

    A trigger that is deferred is ignored where its statement is executed; what it
    writes, where it runs.

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
    # It is looked at when the block is entered: a scoped session may not exist before.
    return IgnoreBlock(target, _keys(what))


class IgnoreBlock(Block[frozenset[str]]):
    """What :func:`ignore` returns."""

    error = IgnoreError
    function = "history.ignore"

    def __init__(self, target: Target | Unset, keys: frozenset[str]) -> None:
        super().__init__(target)
        self._keys = keys

    def anew(self) -> IgnoreBlock:
        """Return another block like this one."""
        return IgnoreBlock(self._target, self._keys)

    def push(self, blocks: Blocks) -> tuple[list[frozenset[str]], frozenset[str]]:
        """Put the keys on the stack."""
        blocks.ignored.append(self._keys)
        return blocks.ignored, self._keys


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
    """Return the triggers of a model that can be ignored, by name."""
    found = [
        (name, table) for table in _tables(model) for name in _ignorable_names(table)
    ]
    if not found:
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


def _tables(model: Any) -> list[Table]:
    """Return the tables that hold a model's rows, its subclasses' included."""
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
