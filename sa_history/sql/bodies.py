"""The bodies of the functions that all event tables share."""

from __future__ import annotations

from sa_history.sql.compose import Fragment, Joined, Literal, Qualified, Raw
from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA, CONTEXT_PARENT_ID


def _setting(name: str) -> str:
    # A setting that was local to an earlier transaction reads '' and not NULL.
    return f"NULLIF(current_setting('{name}', true), '')"


def attach_context(context_table: Qualified) -> Fragment:
    """Return the body that stores the context in force, and returns its id.

    Where another transaction is storing the same context now, this one stores a copy
    of its own, inside of it: to wait for the other would be to wait for ever where one
    thread has both, in a block without a target. Who has the advisory lock writes the
    row.

    There is no EXCEPTION block: it would be a subtransaction for each call, six to
    eight times slower.
    """
    return Joined(
        (
            Raw(
                "\nDECLARE\n"
                f"  context_id uuid := {_setting(CONTEXT_ID)};\n"
                f"  context_parent uuid := {_setting(CONTEXT_PARENT_ID)};\n"
                f"  context_metadata jsonb := {_setting(CONTEXT_METADATA)};\n"
                "BEGIN\n"
                "  IF context_id IS NULL THEN\n"
                "    RETURN NULL;\n"
                "  END IF;\n"
                "  context_metadata := COALESCE(context_metadata, '{}');\n"
                "  PERFORM FROM "
            ),
            context_table,
            Raw(
                " AS context\n"
                "    WHERE context.id = context_id"
                " AND context.metadata = context_metadata;\n"
                "  IF FOUND THEN\n"
                "    RETURN context_id;\n"
                "  END IF;\n"
                "  IF NOT pg_try_advisory_xact_lock("
                "hashtextextended(context_id::text, 0)) THEN\n"
                "    context_parent := context_id;\n"
                "    context_id :="
                " md5(context_id::text || pg_current_xact_id()::text)::uuid;\n"
                "  END IF;\n"
                "  INSERT INTO "
            ),
            context_table,
            Raw(
                " AS context\n"
                "    (id, created_at, updated_at, metadata, parent_id)\n"
                "  VALUES"
                " (context_id, now(), now(), context_metadata, context_parent)\n"
                "  ON CONFLICT (id) DO UPDATE\n"
                "  SET metadata = EXCLUDED.metadata,"
                " updated_at = EXCLUDED.updated_at\n"
                "  WHERE context.metadata <> EXCLUDED.metadata;\n"
                "  RETURN context_id;\n"
                "END\n"
            ),
        )
    )


def context_value(sqlstate: str) -> Fragment:
    """Return the body that gives a key of the context, or refuses without it.

    :param sqlstate: the SQLSTATE of the refusal.
    """
    return Joined(
        (
            Raw(
                "\nDECLARE\n"
                f"  metadata jsonb := {_setting(CONTEXT_METADATA)};\n"
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
    """Return the trigger body that refuses to change events.

    :param sqlstate: the SQLSTATE of the refusal.
    """
    return Joined(
        (
            Raw(
                "\nBEGIN\n"
                "  RAISE EXCEPTION '% of %.% is refused: its events are append-only',\n"
                "    TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = "
            ),
            Literal(sqlstate),
            Raw(
                ",\n    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,"
                " CONSTRAINT = TG_NAME,\n"
                "    HINT = 'Events tell what happened; make a new change instead.';\n"
                "END\n"
            ),
        )
    )
