"""The names that sa_history gives to objects and settings in a database.

Names follow conventions that stand in ``MetaData.naming_convention`` beside
SQLAlchemy's own, and are made here only::

    MetaData(naming_convention={"history_event_table": "%(table_name)s_history"})

===========================  ===================================================
key                          default
===========================  ===================================================
``history_event_table``      ``%(table_name)s_event``
``history_function``         ``%(event_table_name)s_record``
``history_trigger``          ``%(event_table_name)s_%(operation)s``
``history_index``            ``ix_%(event_table_name)s_%(column_name)s``
``history_context_table``    ``pghistory_context``
``history_sequence``         ``pghistory_id_seq``
``history_shared_function``  ``%(context_table_name)s_%(function)s``
``history_attached``         ``%(table_name)s_%(trigger_name)s``
``history_partition``        ``%(event_table_name)s_p%(first_id)s``
``history_seal_table``       ``pghistory_%(content)s``
``history_archive_table``    ``pghistory_archive``
===========================  ===================================================
"""

from __future__ import annotations

import hashlib

from sqlalchemy import MetaData

from sa_history.exc import DefinitionError
from sa_history.util.identifiers import MAX_BYTES, check_name, check_text

_DEFAULTS = {
    "history_event_table": "%(table_name)s_event",
    "history_function": "%(event_table_name)s_record",
    "history_trigger": "%(event_table_name)s_%(operation)s",
    "history_index": "ix_%(event_table_name)s_%(column_name)s",
    "history_context_table": "pghistory_context",
    "history_sequence": "pghistory_id_seq",
    "history_shared_function": "%(context_table_name)s_%(function)s",
    "history_attached": "%(table_name)s_%(trigger_name)s",
    "history_partition": "%(event_table_name)s_p%(first_id)s",
    "history_seal_table": "pghistory_%(content)s",
    "history_archive_table": "pghistory_archive",
}

CONTEXT_ID = "pghistory.context_id"
"""The setting that holds the id of the current context."""

CONTEXT_METADATA = "pghistory.context_metadata"
"""The setting that holds the keys and values of the current context, as JSON."""

CONTEXT_PARENT_ID = "pghistory.context_parent_id"
"""The setting that holds the id of the context around the current one."""

CONTEXT_STORED = "pghistory.context_stored"
"""The setting in which a transaction remembers the context that it has stored."""

CONTEXT_COPIES = "pghistory.context_copies"
"""The setting in which a transaction remembers its copies of contexts.

JSON: the id of a context and the name of its table, with the id of the copy.
"""

DELETED_ROWS = "pghistory.deleted_rows_"
"""The setting in which a transaction remembers how many rows it had deleted from a
table when it recorded an INSERT there; the table's OID is added to the name."""

NESTED_DEPTH = "pghistory.nested_depth_"
"""The setting in which a transaction remembers at which depth of triggers a change of a
table was recorded, if it was one that a trigger has made; the table's OID is added to
the name."""

HAS_NESTED = "pghistory.has_nested"
"""The setting by which a transaction remembers that it has a :data:`NESTED_DEPTH`."""

AS_OF = "pghistory.as_of"
"""The setting that holds the point in time at which a session sees the rows."""

IGNORED = "pghistory.ignore"
"""The setting that holds the ignored triggers; see :mod:`.ignore_switch`."""


_TOKENS = {
    "history_event_table": ("table_name",),
    "history_function": ("event_table_name",),
    "history_trigger": ("event_table_name", "operation"),
    "history_index": ("event_table_name", "column_name"),
    "history_context_table": (),
    "history_sequence": ("context_table_name",),
    "history_shared_function": ("context_table_name", "function"),
    "history_attached": ("table_name", "trigger_name"),
    "history_partition": ("event_table_name", "first_id"),
    "history_seal_table": ("content",),
    "history_archive_table": (),
}

# There is one sequence; of the others one would replace another of the same name.
_MAY_LEAVE_OUT = {"history_sequence"}


def check_conventions(metadata: MetaData) -> None:
    """Refuse naming conventions that cannot be filled, or name two objects alike.

    :param metadata: the MetaData whose ``naming_convention`` is checked.
    :raises DefinitionError: a convention has a wrong token, or lacks one.
    """
    if metadata.schema is not None:
        check_name("the schema of the MetaData", metadata.schema)
    for convention, tokens in _TOKENS.items():
        generated_name(metadata, convention, **dict.fromkeys(tokens, "x"))
        template = str(
            metadata.naming_convention.get(convention, _DEFAULTS[convention])
        )
        for token in tokens:
            if f"%({token})s" not in template and convention not in _MAY_LEAVE_OUT:
                raise DefinitionError(
                    f"naming convention {convention!r} is {template!r}, which gives "
                    f"different objects the same name; use %({token})s in it"
                )


def generated_name(metadata: MetaData, convention: str, **tokens: str) -> str:
    """Return the name that ``convention`` gives for ``tokens``, within 63 bytes.

    :param metadata: the MetaData whose ``naming_convention`` may hold the convention.
    :param convention: a key of the table above, such as ``"history_trigger"``.
    :param tokens: the values of the convention's tokens, such as ``table_name``.
    :raises DefinitionError: the convention uses a token that does not exist.
    """
    template = metadata.naming_convention.get(convention, _DEFAULTS[convention])
    try:
        name = str(template) % tokens
    except (KeyError, TypeError, ValueError) as error:
        raise DefinitionError(
            f"naming convention {convention!r} is {template!r}, which cannot be "
            f"filled: {error}; it may use {sorted(tokens)} as %(name)s"
        ) from error
    check_text(f"what naming convention {convention!r} gives", name)
    return shortened(name)


def require_new_table(metadata: MetaData, name: str, purpose: str) -> None:
    """Refuse to add a table to a MetaData that has one of its name.

    :param purpose: what the table is for, and what to do, for the message.
    :raises DefinitionError: there is a table of this name.
    """
    key = f"{metadata.schema}.{name}" if metadata.schema else name
    if key in metadata.tables:
        raise DefinitionError(
            f"the MetaData has a table {key!r} already, which {purpose} where tables "
            "are reflected"
        )


def shortened(name: str) -> str:
    """Return a name in at most 63 bytes.

    :return: the name itself, or if it is longer its start with a hash of the whole.
    """
    encoded = name.encode()
    if len(encoded) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    start = encoded[: MAX_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{start}_{digest}"
