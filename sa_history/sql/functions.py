"""Bodies of functions in PL/pgSQL: those that event tables share, and the refusal."""

from __future__ import annotations

from sa_history.sql.compose import (
    DollarQuoted,
    Fragment,
    Joined,
    Literal,
    Qualified,
    Raw,
    Setting,
    join,
)
from sa_history.sql.naming import (
    CONTEXT_COPIES,
    CONTEXT_ID,
    CONTEXT_METADATA,
    CONTEXT_PARENT_ID,
    CONTEXT_STORED,
)

VERSION = 2
"""The version of the functions that are the same for every tracked table.

The number stands in their bodies, so that an older library leaves alone the functions
that a newer one has installed.
"""

_HEADER = f"\n-- sa_history: version {VERSION}\n"


_ID_LENGTH = 36
"""The characters of a uuid as text."""


_IS_OWN = (
    "CASE WHEN context.created_at = now() THEN pg_xact_status((\n"
    "        pg_current_xact_id()::text::bigint - 2147483648\n"
    "        + ((context.xmin::text::bigint - pg_current_xact_id()::text::bigint"
    " + 2147483648) & 4294967295)\n"
    "      )::text::xid8) = 'in progress' END"
)
"""Whether this transaction, or a subtransaction of it, has written a visible row.

A visible row that somebody else has written is committed. Two transactions can begin in
the same microsecond, so the time alone does not tell them apart. ``xmin`` has the lower
32 bits of a transaction's number, which lies within 2^31 of the current one's.
"""

_NEW_ID = (
    "(lpad(to_hex((EXTRACT(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')\n"
    "      || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid"
)
"""A UUID of version 7: the time in milliseconds, and random digits after it."""


def attach_context(context_table: Qualified) -> Fragment:
    """Return the body of the function that stores the current context.

    The function returns the id of the stored context, or NULL without a context.

    A row is changed by the transaction that has made it, and by no other; otherwise
    anybody could change by settings who made past changes. If a context's row is that
    of another transaction, with other metadata, the function stores a copy whose parent
    is the context. Nobody can foretell a copy's id, and so store something else under
    it. The transaction remembers in a setting which copies it has.

    If another transaction is storing the same context at the moment, the function
    stores a copy too. It does not wait: one thread may have both transactions, in a
    block without a target, and would wait for ever. The transaction that gets the
    advisory lock writes the context itself.

    Metadata is compared as text: ``1`` and ``1.0`` are equal as ``jsonb``.

    At row level, to look for the context takes as long as to write an event's indexes.
    So the transaction remembers in another setting what it has stored. A rollback to a
    savepoint takes back the settings as it does the rows.

    Who has written the row is asked by a SELECT of its own, and only if it is to be
    changed: PostgreSQL makes ready each expression of a SELECT that it executes, though
    no row be found. The UPDATE cannot ask, since Citus refuses functions there that are
    not immutable.

    There is no EXCEPTION block: it would be a subtransaction for each call, six to
    eight times slower.

    :param context_table: the table of contexts.
    """
    stored = f"current_setting('{CONTEXT_STORED}', true)"
    table_name = DollarQuoted(context_table)
    # A client that sets another context in mid-transaction makes this another text, and
    # so does a MetaData with a context table of its own.
    current = Joined(
        (
            Raw(
                f"current_setting('{CONTEXT_ID}', true)"
                f" || COALESCE(current_setting('{CONTEXT_METADATA}', true), '') || "
            ),
            table_name,
        )
    )
    copy_key = Raw(f"current_setting('{CONTEXT_ID}', true) || ") + table_name
    insert = Joined(
        (
            Raw("    INSERT INTO "),
            context_table,
            Raw("\n      (id, created_at, updated_at, metadata, parent_id)\n"),
        )
    )
    return Joined(
        (
            Raw(
                f"{_HEADER}DECLARE\n"
                "  context_id uuid;\n"
                "  context_metadata jsonb;\n"
                "  stored_id uuid;\n"
                "  is_same boolean;\n"
                "  is_own boolean;\n"
                f"BEGIN\n  IF substr({stored}, {_ID_LENGTH + 1}) = "
            ),
            current,
            Raw(
                f" THEN\n    RETURN left({stored}, {_ID_LENGTH});\n"
                # The first call in a transaction does not look for copies.
                f"  ELSIF {stored} <> '' THEN\n"
                "    stored_id := "
            ),
            Setting(CONTEXT_COPIES),
            Raw("::jsonb ->> ("),
            copy_key,
            Raw(");\n  END IF;\n  context_id := "),
            Setting(CONTEXT_ID),
            Raw(
                ";\n"
                "  IF context_id IS NULL THEN\n"
                "    RETURN NULL;\n"
                "  END IF;\n"
                "  context_metadata := COALESCE("
            ),
            Setting(CONTEXT_METADATA),
            Raw(
                ", '{}');\n"
                "  SELECT context.id,\n"
                "      context.metadata::text = context_metadata::text\n"
                "    INTO stored_id, is_same\n"
                "    FROM "
            ),
            context_table,
            Raw(
                " AS context\n"
                "    WHERE context.id = COALESCE(stored_id, context_id);\n"
                "  IF NOT FOUND AND pg_try_advisory_xact_lock("
                "hashtextextended(context_id::text, 0)) THEN\n"
            ),
            insert,
            Raw("    VALUES (context_id, now(), now(), context_metadata, "),
            Setting(CONTEXT_PARENT_ID),
            Raw(
                "::uuid)\n"
                "    ON CONFLICT (id) DO NOTHING;\n"
                "  ELSIF NOT is_same THEN\n"
                f"    SELECT {_IS_OWN}\n"
                "    INTO is_own\n"
                "    FROM "
            ),
            context_table,
            Raw(" AS context\n    WHERE context.id = stored_id;\n    UPDATE "),
            context_table,
            Raw(
                " AS context SET metadata = context_metadata\n"
                "    WHERE context.id = stored_id AND is_own;\n"
                "  END IF;\n"
                "  IF NOT FOUND THEN\n"
                f"    stored_id := {_NEW_ID};\n"
            ),
            insert,
            Raw(
                "    VALUES (stored_id, now(), now(), context_metadata, context_id);\n"
                f"    PERFORM set_config('{CONTEXT_COPIES}', (COALESCE("
            ),
            Setting(CONTEXT_COPIES),
            Raw("::jsonb, '{}')\n      || jsonb_build_object("),
            copy_key,
            Raw(
                ", stored_id))::text, true);\n"
                "  END IF;\n"
                # PERFORM would be a query of its own, with a plan to execute.
                f"  RETURN left(set_config('{CONTEXT_STORED}',"
                " COALESCE(stored_id, context_id)::text || "
            ),
            current,
            Raw(f", true), {_ID_LENGTH});\nEND\n"),
        )
    )


def context_value(sqlstate: str) -> Fragment:
    """Return the body of the function that reads a key of the context.

    The function raises an error if the key is required and missing.

    :param sqlstate: the SQLSTATE of the refusal.
    """
    return Joined(
        (
            Raw(f"{_HEADER}DECLARE\n  metadata jsonb := "),
            Setting(CONTEXT_METADATA),
            Raw(
                ";\n"
                "  value text := CASE WHEN as_json"
                " THEN NULLIF(metadata -> key, 'null')::text"
                " ELSE metadata ->> key END;\n"
                "BEGIN\n"
                "  IF value IS NULL AND required THEN\n"
                "    RAISE EXCEPTION"
                " 'a change of %.% needs a context with the key \"%\"',\n"
                "      in_schema, in_table, key USING ERRCODE = "
            ),
            Literal(sqlstate),
            Raw(
                ",\n      SCHEMA = in_schema, TABLE = in_table, COLUMN = key,\n"
                "      HINT = 'Make the change inside a history.context(...)"
                " that has this key.';\n"
                "  END IF;\n"
                "  RETURN value;\n"
                "END\n"
            ),
        )
    )


def append_only(sqlstate: str) -> Fragment:
    """Return the body of the trigger function that refuses to change events.

    :param sqlstate: the SQLSTATE of the refusal.
    """
    return Joined(
        (
            Raw(f"{_HEADER}BEGIN\n"),
            refuse(
                Literal("% of %.% is refused: its events are append-only"),
                (Raw("TG_OP"), Raw("TG_TABLE_SCHEMA"), Raw("TG_TABLE_NAME")),
                sqlstate,
                Literal("Events tell what happened; make a new change instead."),
                indent="  ",
            ),
            Raw("END\n"),
        )
    )


def refuse(
    message: Literal,
    values: tuple[Fragment, ...],
    sqlstate: str,
    hint: Fragment,
    indent: str,
    column: str | None = None,
) -> Fragment:
    """Return the statement by which a trigger refuses a change.

    It has no operator and calls no function, so it means the same whatever the
    caller's ``search_path`` is.

    :param message: the message, with a percent sign for each value.
    :param values: the values, as expressions of PL/pgSQL.
    :param sqlstate: the SQLSTATE of the refusal.
    :param hint: the hint that tells what to do instead.
    :param indent: the spaces before each line.
    :param column: the column that the error names, or None for none.
    """
    more = () if column is None else (Raw(", COLUMN = "), Literal(column))
    return Joined(
        (
            Raw(f"{indent}RAISE EXCEPTION "),
            join(", ", (message, *values)),
            Raw(f" USING\n{indent}  ERRCODE = "),
            Literal(sqlstate),
            Raw(
                f",\n{indent}  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,"
                " CONSTRAINT = TG_NAME"
            ),
            *more,
            Raw(f",\n{indent}  HINT = "),
            hint,
            Raw(";\n"),
        )
    )
