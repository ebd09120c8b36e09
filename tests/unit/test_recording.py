"""The trigger function and the triggers that are made of recordings.

The forms of the statements were chosen by their speed, which no result shows, so their
text is compared.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import MetaData

from sa_history._types import Operation
from sa_history.capture.context_storage import ContextReference, InlineContext
from sa_history.capture.context_table import create_shared_objects
from sa_history.capture.recording import (
    Capture,
    ContextColumn,
    Recording,
    operations_key,
    record_function,
    record_triggers,
)
from sa_history.capture.statement_order import KeyColumn
from sa_history.definition.row_order import ROWS
from sa_history.sql.compose import Fragment, Qualified, Raw

INSERT, UPDATE, DELETE, TRUNCATE = Operation

INSERTED = Recording(INSERT, "in", "new", (("id", "id"), ("the size", "size")))
RICH = Recording(INSERT, "rich", "new", (("id", "id"),), condition="NEW.size > 9")
UPDATED = Recording(UPDATE, "up", "new", (("id", "id"),))
MOVED = Recording(
    UPDATE,
    "moved",
    "new",
    (("id", "id"),),
    condition="OLD.size < NEW.size",
    reads_old_row=True,
    key=("id", 'k"'),
    key_changes="OLD.id <> NEW.id",
)
KEPT = Recording(UPDATE, "kept", "old", (("id", "id"),), condition="OLD.size > 9")
DELETED = Recording(DELETE, "out", "old", (("id", "id"),))
EMPTIED = Recording(TRUNCATE, "out", "old", (("id", "id"),))


def capture(*recordings: Recording, level: str, **options: Any) -> Capture:
    return replace(
        Capture(
            tracked=Qualified(None, "note"),
            events=Qualified("h", "event"),
            function=Qualified("h", "f"),
            recordings=recordings,
            row_operations=ROWS if level == "row" else frozenset(),
            context_values=(),
            context_value=Qualified("h", "value"),
            context_columns=(),
        ),
        **options,
    )


def sql(fragment: Fragment) -> str:
    return fragment.render(lambda schema: schema or "public")


def body(captured: Capture) -> str:
    return sql(record_function(captured).body)


def triggers(captured: Capture) -> list[str]:
    made = record_triggers(captured, lambda firing: f"t_{operations_key(firing)}")
    return [sql(trigger.create()).replace("\n", " ") for trigger in made]


def test_captures_of_equal_values_are_equal() -> None:
    captured = capture(MOVED, level="row", context_columns=(USER,))
    assert {captured, copy.deepcopy(captured)} == {captured}


def test_a_statement_is_recorded_by_one_insert_of_each_tracker() -> None:
    recordings = (INSERTED, RICH, MOVED, KEPT, DELETED, EMPTIED)
    assert body(capture(*recordings, level="statement")) == (
        """
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id", "the size")
    SELECT 'in', 'I', (SELECT pg_current_xact_id()::text::bigint), NEW."id", NEW."size"
    FROM new_rows AS NEW;
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    SELECT 'rich', 'I', (SELECT pg_current_xact_id()::text::bigint), NEW."id"
    FROM new_rows AS NEW
    WHERE NEW.size > 9;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_old_key", "id")
    SELECT 'moved', 'U', (SELECT pg_current_xact_id()::text::bigint),"""
        """ CASE WHEN OLD.id <> NEW.id THEN jsonb_build_array(OLD."id", OLD."k""\""""
        """) END, NEW."id"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD"""
        """ ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.size < NEW.size) OR NEW.pgh_row IS NULL"""
        """ OR OLD.pgh_row IS NULL THEN true ELSE false END;
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    SELECT 'kept', 'U', (SELECT pg_current_xact_id()::text::bigint), OLD."id"
    FROM old_rows AS OLD
    WHERE OLD.size > 9;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    SELECT 'out', 'D', (SELECT pg_current_xact_id()::text::bigint), OLD."id"
    FROM old_rows AS OLD;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF pg_catalog.row_security_active(TG_RELID) THEN
      RAISE EXCEPTION '% of %.% is refused: row-level security may hide rows from the\
 trigger %', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_NAME USING
        ERRCODE = '42501',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
        HINT = 'DELETE the rows, or first give NO FORCE ROW LEVEL SECURITY to the\
 table, or BYPASSRLS to the owner of the trigger''s function.';
    END IF;
    IF TG_RELID <> '"public"."note"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."note";
      RETURN NULL;
    END IF;
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    SELECT 'out', 'T', (SELECT pg_current_xact_id()::text::bigint), OLD."id"
    FROM (SELECT * FROM "public"."note" AS every
      WHERE every.tableoid = '"public"."note"'::regclass
        OR every.tableoid IN (
          SELECT l.relation FROM pg_locks AS l
          JOIN pg_database AS d ON d.oid = l.database
          JOIN pg_class AS c ON c.oid = l.relation
          WHERE d.datname = current_database()
            AND l.pid = pg_backend_pid() AND l.locktype = 'relation'
            AND l.mode = 'AccessExclusiveLock' AND l.granted
            AND (c.relispartition OR c.xmin <> pg_current_xact_id()::xid)
        )) AS OLD;
  END IF;
  RETURN NULL;
END
"""
    )


def test_a_deletion_looks_for_rows_only_if_it_was_made_before_the_last_insert() -> None:
    key = (KeyColumn("id", "pgh_obj_id", True), KeyColumn('k"', 'k"', False))
    captured = capture(INSERTED, DELETED, level="statement", key=key)
    text = body(captured)
    assert text.startswith(
        "\n#variable_conflict use_column\n"
        "DECLARE\n  pgh_deleted text;\n  pgh_found text;\n"
        "  pgh_depth integer;\n  pgh_nested boolean;\nBEGIN\n"
    )
    count = "pg_stat_get_xact_tuples_deleted(TG_RELID)"
    assert (
        "  IF TG_OP = 'INSERT' THEN\n"
        f"    IF {count} > 0 THEN\n"
        "      pgh_deleted := set_config('pghistory.deleted_rows_' || TG_RELID, "
        f"{count}::text, true);\n"
        "    END IF;\n"
        "    IF pgh_nested THEN\n"
    ) in text
    assert (
        "  ELSIF TG_OP = 'DELETE' THEN\n"
        "    IF pgh_nested"
        " OR current_setting('pghistory.deleted_rows_' || TG_RELID, true) = "
        f"{count}::text THEN\n"
        """      SELECT concat_ws(', ', OLD."id", OLD."k""\") INTO pgh_found\n"""
        "    FROM old_rows AS OLD\n"
        "        WHERE EXISTS (\n"
        '          SELECT FROM "public"."note" AS again JOIN "h"."event" AS event ON'
        ' event."pgh_obj_id" OPERATOR(pg_catalog.=) again."id" AND'
        """ event."k""\"::text OPERATOR(pg_catalog.=) again."k""\"::text\n"""
        '          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id" AND'
        """ again."k""\"::text OPERATOR(pg_catalog.=) OLD."k""\"::text\n"""
        "            AND (again.tableoid = TG_RELID"
        " OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))\n"
        "            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint\n"
        "            AND event.pgh_op IN ('I', 'U')\n"
    ) in text
    plain = body(replace(captured, key=()))
    assert "DECLARE" not in plain
    for unchecked in (
        capture(INSERTED, level="statement", key=key),
        capture(DELETED, level="statement", key=key),
    ):
        assert body(unchecked) == body(replace(unchecked, key=()))
    for by_row in (
        capture(INSERTED, DELETED, level="row", key=key),
        replace(captured, row_operations=ROWS - {INSERT}),
        replace(captured, row_operations=ROWS - {DELETE}),
    ):
        assert "pg_stat_get_xact" not in body(by_row)


def test_what_is_nested_is_looked_for_only_where_a_row_may_have_two_events() -> None:
    key = (KeyColumn("id", "id", True),)
    noticed = "  IF pg_trigger_depth() > 1 OR current_setting("
    for level in ("statement", "row"):
        for recordings in ((UPDATED,), (INSERTED, DELETED), (INSERTED, MOVED)):
            text = body(capture(*recordings, level=level, key=key))
            assert text.count(noticed) == 1
            assert text.count("    IF pgh_nested") == len(recordings)
            assert noticed not in body(capture(*recordings, level=level))
        for recording in (INSERTED, DELETED, EMPTIED):
            assert noticed not in body(capture(recording, level=level, key=key))


def test_a_row_is_recorded_by_the_values_of_each_tracker() -> None:
    recordings = (INSERTED, RICH, MOVED, DELETED, EMPTIED)
    assert body(capture(*recordings, level="row")) == (
        """
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id", "the size")
    VALUES ('in', 'I', pg_current_xact_id()::text::bigint, NEW."id", NEW."size");
    IF NEW.size > 9 THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    VALUES ('rich', 'I', pg_current_xact_id()::text::bigint, NEW."id");
    END IF;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_old_key", "id")
    VALUES ('moved', 'U', pg_current_xact_id()::text::bigint,"""
        """ CASE WHEN OLD.id <> NEW.id THEN jsonb_build_array(OLD."id", OLD."k""\""""
        """) END, NEW."id");
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    VALUES ('out', 'D', pg_current_xact_id()::text::bigint, OLD."id");
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF pg_catalog.row_security_active(TG_RELID) THEN
      RAISE EXCEPTION '% of %.% is refused: row-level security may hide rows from the\
 trigger %', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_NAME USING
        ERRCODE = '42501',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
        HINT = 'DELETE the rows, or first give NO FORCE ROW LEVEL SECURITY to the\
 table, or BYPASSRLS to the owner of the trigger''s function.';
    END IF;
    IF TG_RELID <> '"public"."note"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."note";
      RETURN NULL;
    END IF;
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id", "id")
    SELECT 'out', 'T', (SELECT pg_current_xact_id()::text::bigint), OLD."id"
    FROM (SELECT * FROM "public"."note" AS every
      WHERE every.tableoid = '"public"."note"'::regclass
        OR every.tableoid IN (
          SELECT l.relation FROM pg_locks AS l
          JOIN pg_database AS d ON d.oid = l.database
          JOIN pg_class AS c ON c.oid = l.relation
          WHERE d.datname = current_database()
            AND l.pid = pg_backend_pid() AND l.locktype = 'relation'
            AND l.mode = 'AccessExclusiveLock' AND l.granted
            AND (c.relispartition OR c.xmin <> pg_current_xact_id()::xid)
        )) AS OLD;
  END IF;
  RETURN NULL;
END
"""
    )


def test_events_of_distributed_rows_have_numbers_that_hold_on_all_nodes() -> None:
    """A row is recorded through Citus, a statement in the shard beside its own."""
    recordings = (INSERTED, MOVED, DELETED, EMPTIED)
    options = {
        "is_distributed": True,
        "distributed_by": "id",
        "row_operations": frozenset({INSERT}),
        "key": (KeyColumn("id", "id", True),),
    }
    assert body(capture(*recordings, level="statement", **options)) == (
        """
#variable_conflict use_column
DECLARE
  pgh_clock text;
  pgh_node bigint;
  pgh_began timestamptz;
  pgh_transaction bigint;
  pgh_shard text;
  pgh_rows integer;
  pgh_event record;
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean;
BEGIN
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.has_nested', true)\
 <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' ||\
 TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID,\
 pg_trigger_depth()::text, true)
        || set_config('pghistory.has_nested', 'on', true);
    END IF;
  END IF;
  SELECT here.groupid & 255,
      CASE WHEN t.transaction_number = 0 THEN now() ELSE t.transaction_stamp END,
      CASE WHEN t.transaction_number = 0
        THEN (here.groupid & 255) << 4 | (pg_current_xact_id()::text::bigint & 15)
        ELSE (t.initiator_node_identifier & 255) << 4 | (t.transaction_number & 15)
      END
    INTO pgh_node, pgh_began, pgh_transaction
    FROM pg_dist_local_group AS here, get_current_transaction_id() AS t;
  pgh_transaction := pgh_transaction + ((EXTRACT(epoch FROM pgh_began) -\
 1577836800) * 1000000)::bigint * 4096;
  IF TG_OP = 'INSERT' THEN
    IF pgh_nested THEN
      pgh_shard := shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, NEW."id"), false);
      EXECUTE 'WITH pgh_tracked AS (SELECT *, cmin::text::bigint AS pgh_cmin FROM '\
 || TG_RELID::regclass || '),
        pgh_events AS (SELECT *, cmin::text::bigint AS pgh_cmin FROM ' || pgh_shard\
 || ')'
        || $history$ SELECT concat_ws(', ', NEW."id") FROM (SELECT $2 AS "id", $3\
 AS "size") AS NEW
        WHERE NOT EXISTS (
          SELECT FROM pgh_tracked AS now WHERE now."id" OPERATOR(pg_catalog.=)\
 NEW."id"
            AND ROW(now."id", now."size")::record OPERATOR(pg_catalog.*=)\
 ROW(NEW."id", NEW."size")::record
        )
        LIMIT 1$history$
        INTO pgh_found USING pgh_transaction, NEW."id", NEW."size";
      IF pgh_found IS NOT NULL THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and\
 that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME,\
 pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = concat('Set NEW in a BEFORE trigger, make the trigger that writes\
 it DEFERRABLE INITIALLY DEFERRED, or give it a name that sorts after ', TG_NAME,\
 '.');
      END IF;
    END IF;
    pgh_clock := btrim(citus_get_node_clock()::text, '()');
    INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_id", "pgh_created_at",\
 "pgh_xact_id", "id", "the size")
    VALUES ('in', 'I', ((split_part(pgh_clock, ',', 1)::bigint - 1577836800000) <<\
 22) + (split_part(pgh_clock, ',', 2)::bigint << 8) + pgh_node, pgh_began,\
 pgh_transaction, NEW."id", NEW."size");
  ELSIF TG_OP = 'UPDATE' THEN
    SELECT count(*) INTO pgh_rows FROM (SELECT FROM new_rows LIMIT 2) AS few;
    IF pgh_rows > 0 AND (pgh_nested) THEN
      SELECT shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, "id"), false) INTO\
 pgh_shard
        FROM new_rows
        WHERE (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid =\
 '"public"."note"'::regclass) = (SELECT colocationid FROM pg_dist_partition WHERE\
 logicalrelid = '"h"."event"'::regclass)
        LIMIT 1;
      IF NOT FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: Citus does not keep its events\
 together with its rows', TG_OP, TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME,\
 '_[0-9]+$', '') USING
          ERRCODE = '55000',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Have Citus distribute both tables alike; sa-history check says\
 what differs.';
      END IF;
      EXECUTE 'WITH pgh_tracked AS (SELECT *, cmin::text::bigint AS pgh_cmin FROM '\
 || TG_RELID::regclass || '),
        pgh_events AS (SELECT *, cmin::text::bigint AS pgh_cmin FROM ' || pgh_shard\
 || ')'
        || $history$ SELECT concat_ws(', ', NEW."id")
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON\
 NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN OLD.size < NEW.size THEN NOT EXISTS (
          SELECT FROM pgh_tracked AS now WHERE now."id" OPERATOR(pg_catalog.=)\
 NEW."id"
            AND ROW(now."id")::record OPERATOR(pg_catalog.*=) ROW(NEW."id")::record
        ) END
        LIMIT 1$history$
        INTO pgh_found USING pgh_transaction;
      IF pgh_found IS NOT NULL THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and\
 that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME,\
 pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it\
 DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    IF pgh_rows = 1 THEN
    SELECT 'moved' AS "pgh_label", 'U' AS "pgh_op", ((split_part(pgh_clock, ',',\
 1)::bigint - 1577836800000) << 22) + (split_part(pgh_clock, ',', 2)::bigint << 8)\
 + pgh_node AS "pgh_id", pgh_began AS "pgh_created_at", pgh_transaction AS\
 "pgh_xact_id", CASE WHEN OLD.id <> NEW.id THEN jsonb_build_array(OLD."id",\
 OLD."k""\") END AS "pgh_old_key", NEW."id"
    INTO pgh_event
    FROM (SELECT btrim(citus_get_node_clock()::text, '()') AS pgh_clock, * FROM\
 new_rows) AS NEW, old_rows AS OLD
    WHERE OLD.size < NEW.size;
    IF FOUND THEN
      pgh_shard := shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, pgh_event."id"), false);
    EXECUTE 'INSERT INTO ' || pgh_shard || $history$ ("pgh_label", "pgh_op",\
 "pgh_id", "pgh_created_at", "pgh_xact_id", "pgh_old_key", "id")
    VALUES ($1, $2, $3, $4, $5, $6, $7)$history$ USING pgh_event."pgh_label",\
 pgh_event."pgh_op", pgh_event."pgh_id", pgh_event."pgh_created_at",\
 pgh_event."pgh_xact_id", pgh_event."pgh_old_key", pgh_event."id";
    END IF;
    ELSIF pgh_rows > 1 THEN
      SELECT shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, "id"), false) INTO\
 pgh_shard
        FROM new_rows
        WHERE (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid =\
 '"public"."note"'::regclass) = (SELECT colocationid FROM pg_dist_partition WHERE\
 logicalrelid = '"h"."event"'::regclass)
        LIMIT 1;
      IF NOT FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: Citus does not keep its events\
 together with its rows', TG_OP, TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME,\
 '_[0-9]+$', '') USING
          ERRCODE = '55000',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Have Citus distribute both tables alike; sa-history check says\
 what differs.';
      END IF;
    EXECUTE 'INSERT INTO ' || pgh_shard || $history$ ("pgh_label", "pgh_op",\
 "pgh_id", "pgh_created_at", "pgh_xact_id", "pgh_old_key", "id")
    SELECT 'moved', 'U', ((split_part(pgh_clock, ',', 1)::bigint - 1577836800000)\
 << 22) + (split_part(pgh_clock, ',', 2)::bigint << 8) + $1, $2, $3, CASE WHEN\
 OLD.id <> NEW.id THEN jsonb_build_array(OLD."id", OLD."k""\") END, NEW."id"
    FROM (SELECT row_number() OVER () AS pgh_row,\
 btrim(citus_get_node_clock()::text, '()') AS pgh_clock, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON\
 NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.size < NEW.size) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS\
 NULL THEN true ELSE false END$history$ USING pgh_node, pgh_began, pgh_transaction,\
 TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME, '_[0-9]+$', '');
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT count(*) INTO pgh_rows FROM (SELECT FROM old_rows LIMIT 2) AS few;
    IF pgh_rows > 0 AND (pgh_nested) THEN
      SELECT shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, "id"), false) INTO\
 pgh_shard
        FROM old_rows
        WHERE (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid =\
 '"public"."note"'::regclass) = (SELECT colocationid FROM pg_dist_partition WHERE\
 logicalrelid = '"h"."event"'::regclass)
        LIMIT 1;
      IF NOT FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: Citus does not keep its events\
 together with its rows', TG_OP, TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME,\
 '_[0-9]+$', '') USING
          ERRCODE = '55000',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Have Citus distribute both tables alike; sa-history check says\
 what differs.';
      END IF;
      EXECUTE 'WITH pgh_tracked AS (SELECT *, cmin::text::bigint AS pgh_cmin FROM '\
 || TG_RELID::regclass || '),
        pgh_events AS (SELECT *, cmin::text::bigint AS pgh_cmin FROM ' || pgh_shard\
 || ')'
        || $history$ SELECT concat_ws(', ', OLD."id")
    FROM old_rows AS OLD
        WHERE EXISTS (
          SELECT FROM pgh_tracked AS again JOIN pgh_events AS event ON event."id"\
 OPERATOR(pg_catalog.=) again."id"
          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id"
            AND event.pgh_xact_id + 0 = $1
            AND event.pgh_op IN ('I', 'U')
            AND event.pgh_cmin > again.pgh_cmin
        )
        LIMIT 1$history$
        INTO pgh_found USING pgh_transaction;
      IF pgh_found IS NOT NULL THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that\
 is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found\
 USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Let the statement read its WITH to the end, use two statements,\
 or give track(level="row").';
      END IF;
    END IF;
    IF pgh_rows = 1 THEN
    SELECT 'out' AS "pgh_label", 'D' AS "pgh_op", ((split_part(pgh_clock, ',',\
 1)::bigint - 1577836800000) << 22) + (split_part(pgh_clock, ',', 2)::bigint << 8)\
 + pgh_node AS "pgh_id", pgh_began AS "pgh_created_at", pgh_transaction AS\
 "pgh_xact_id", OLD."id"
    INTO pgh_event
    FROM (SELECT btrim(citus_get_node_clock()::text, '()') AS pgh_clock, * FROM\
 old_rows) AS OLD
    WHERE true;
    IF FOUND THEN
      pgh_shard := shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, pgh_event."id"), false);
    EXECUTE 'INSERT INTO ' || pgh_shard || $history$ ("pgh_label", "pgh_op",\
 "pgh_id", "pgh_created_at", "pgh_xact_id", "id")
    VALUES ($1, $2, $3, $4, $5, $6)$history$ USING pgh_event."pgh_label",\
 pgh_event."pgh_op", pgh_event."pgh_id", pgh_event."pgh_created_at",\
 pgh_event."pgh_xact_id", pgh_event."id";
    END IF;
    ELSIF pgh_rows > 1 THEN
      SELECT shard_name('"h"."event"'::regclass,\
 get_shard_id_for_distribution_column('"h"."event"'::regclass, "id"), false) INTO\
 pgh_shard
        FROM old_rows
        WHERE (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid =\
 '"public"."note"'::regclass) = (SELECT colocationid FROM pg_dist_partition WHERE\
 logicalrelid = '"h"."event"'::regclass)
        LIMIT 1;
      IF NOT FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: Citus does not keep its events\
 together with its rows', TG_OP, TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME,\
 '_[0-9]+$', '') USING
          ERRCODE = '55000',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Have Citus distribute both tables alike; sa-history check says\
 what differs.';
      END IF;
    EXECUTE 'INSERT INTO ' || pgh_shard || $history$ ("pgh_label", "pgh_op",\
 "pgh_id", "pgh_created_at", "pgh_xact_id", "id")
    SELECT 'out', 'D', ((split_part(pgh_clock, ',', 1)::bigint - 1577836800000) <<\
 22) + (split_part(pgh_clock, ',', 2)::bigint << 8) + $1, $2, $3, OLD."id"
    FROM (SELECT btrim(citus_get_node_clock()::text, '()') AS pgh_clock, * FROM\
 old_rows) AS OLD$history$ USING pgh_node, pgh_began, pgh_transaction,\
 TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME, '_[0-9]+$', '');
    END IF;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF pg_catalog.row_security_active(TG_RELID) THEN
      RAISE EXCEPTION '% of %.% is refused: row-level security may hide rows from the\
 trigger %', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_NAME USING
        ERRCODE = '42501',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
        HINT = 'DELETE the rows, or first give NO FORCE ROW LEVEL SECURITY to the\
 table, or BYPASSRLS to the owner of the trigger''s function.';
    END IF;
    IF TG_RELID = '"public"."note"'::regclass THEN
      DELETE FROM "public"."note";
    END IF;
  END IF;
  RETURN NULL;
END
"""
    )


def test_a_nested_write_of_a_distributed_row_is_looked_for_in_its_shard() -> None:
    """A condition is asked before, as the text of the query has no variables."""
    key = (KeyColumn("id", "id", True),)
    options = {"is_distributed": True, "key": key}
    recordings = (INSERTED, RICH, UPDATED, KEPT, DELETED)
    text = body(capture(*recordings, level="row", **options))
    assert "IF (pgh_nested) AND (NEW.size > 9) THEN" in text
    assert "IF (pgh_nested) AND (OLD.size > 9) THEN" in text
    assert text.count("USING pgh_transaction, NEW.") == 4
    assert "AND event.pgh_xact_id + 0 = $1" in text
    assert "AND event.pgh_cmin > again.pgh_cmin" in text
    assert "FROM (SELECT $2 AS" in text
    assert "pg_current_xact_id()::text::bigint)" not in text


SHARED = create_shared_objects(MetaData(schema="h"))
USER = ContextColumn("user", Raw("bigint"), required=True, as_json=False)
DATA = ContextColumn("data", Raw("jsonb"), required=False, as_json=True)
USER_VALUE = (
    """CAST("h"."value"('user', true, false, TG_TABLE_SCHEMA, TG_TABLE_NAME)"""
    " AS bigint)"
)
DATA_VALUE = (
    """CAST("h"."value"('data', false, true, TG_TABLE_SCHEMA, TG_TABLE_NAME)"""
    " AS jsonb)"
)


@pytest.mark.parametrize("level", ["statement", "row"])
def test_an_event_may_store_no_column_of_the_row(level: str) -> None:
    counted = replace(INSERTED, columns=())
    sql = body(capture(counted, level=level))
    assert 'INSERT INTO "h"."event" ("pgh_label", "pgh_op", "pgh_xact_id")' in sql
    assert ", )" not in sql
    assert ", \n" not in sql


@pytest.mark.parametrize(
    ("options", "columns", "values"),
    [
        (
            {"context_values": ContextReference(SHARED).trigger_values()},
            '"pgh_context_id"',
            ['"h"."pghistory_context_attach"()'],
        ),
        (
            {"context_values": InlineContext(SHARED).trigger_values()},
            '"pgh_context_id", "pgh_context"',
            [
                "NULLIF(current_setting('pghistory.context_id', true), '')::uuid",
                "NULLIF(current_setting('pghistory.context_metadata', true),"
                " '')::jsonb",
            ],
        ),
        (
            {"context_columns": (USER, DATA)},
            '"user", "data"',
            [USER_VALUE, DATA_VALUE],
        ),
    ],
    ids=["reference", "inline", "columns"],
)
def test_the_context_is_looked_up_once_for_a_statement(
    options: dict[str, Any], columns: str, values: list[str]
) -> None:
    into = f'("pgh_label", "pgh_op", "pgh_xact_id", {columns}, "id")'
    once = ", ".join(f"(SELECT {value})" for value in values)
    assert (
        f"{into}\n    SELECT 'out', 'D', (SELECT pg_current_xact_id()::text::bigint),"
        f' {once}, OLD."id"\n'
    ) in body(capture(DELETED, level="statement", **options))
    assert (
        f"{into}\n    VALUES ('out', 'D', pg_current_xact_id()::text::bigint,"
        f' {", ".join(values)}, OLD."id");\n'
    ) in body(capture(DELETED, level="row", **options))


def test_a_function_checks_first_whether_it_is_ignored_and_notifies_last() -> None:
    options = {"ignored": Raw("ignored()"), "notify": "it's"}
    written = body(capture(DELETED, level="statement", **options))
    begin = "BEGIN\n  IF ignored() THEN\n    RETURN NULL;\n  END IF;\n  IF TG_OP"
    end = "  END IF;\n  PERFORM pg_notify('it''s', '');\n  RETURN NULL;\nEND\n"
    assert begin in written
    assert written.endswith(end)


def test_the_function_searches_the_schemas_of_the_conditions() -> None:
    function = record_function(capture(DELETED, level="row", search_path=("s",)))
    assert function.path == ("pg_catalog", "s", "pg_temp")
    assert function.name == Qualified("h", "f")


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        ({"reads_old_row": True}, True),
        ({"key_changes": "OLD.id <> NEW.id"}, True),
        ({}, False),
        ({"operation": DELETE, "reads_old_row": True}, False),
    ],
    ids=["condition", "key", "neither", "operation_with_one_row"],
)
def test_old_and_new_rows_are_paired_if_both_are_read(
    options: dict[str, Any], pairs: bool
) -> None:
    recording = replace(UPDATED, **options)
    assert ("FULL JOIN" in body(capture(recording, level="statement"))) is pairs


EXECUTE = 'EXECUTE FUNCTION "h"."f"()'
ON = f'ON "public"."note" FOR EACH ROW {EXECUTE}'


def test_triggers_of_statements_have_one_operation_and_its_rows() -> None:
    recordings = (INSERTED, RICH, MOVED, DELETED, EMPTIED)
    assert triggers(capture(*recordings, level="statement")) == [
        'CREATE OR REPLACE TRIGGER "t_insert" AFTER INSERT ON "public"."note"'
        f' REFERENCING NEW TABLE AS "new_rows" FOR EACH STATEMENT {EXECUTE}',
        'CREATE OR REPLACE TRIGGER "t_update" AFTER UPDATE ON "public"."note"'
        ' REFERENCING OLD TABLE AS "old_rows" NEW TABLE AS "new_rows"'
        f" FOR EACH STATEMENT {EXECUTE}",
        'CREATE OR REPLACE TRIGGER "t_delete" AFTER DELETE ON "public"."note"'
        f' REFERENCING OLD TABLE AS "old_rows" FOR EACH STATEMENT {EXECUTE}',
        'CREATE OR REPLACE TRIGGER "t_truncate" BEFORE TRUNCATE ON "public"."note"'
        f" FOR EACH STATEMENT {EXECUTE}",
    ]


@pytest.mark.parametrize(
    ("recordings", "expected"),
    [
        pytest.param(
            (INSERTED, UPDATED, DELETED, EMPTIED),
            [
                f'"t_insert_update_delete" AFTER INSERT OR UPDATE OR DELETE {ON}',
                '"t_truncate" BEFORE TRUNCATE ON "public"."note"'
                f" FOR EACH STATEMENT {EXECUTE}",
            ],
            id="one_for_all_rows",
        ),
        pytest.param(
            (INSERTED, KEPT, DELETED),
            [
                f'"t_insert_delete" AFTER INSERT OR DELETE {ON}',
                '"t_update" AFTER UPDATE ON "public"."note" FOR EACH ROW'
                f" WHEN (OLD.size > 9) {EXECUTE}",
            ],
            id="one_for_a_condition",
        ),
        pytest.param(
            (MOVED, KEPT, replace(KEPT, label="again")),
            [
                '"t_update" AFTER UPDATE ON "public"."note" FOR EACH ROW'
                f" WHEN ((OLD.size < NEW.size) OR (OLD.size > 9)) {EXECUTE}",
            ],
            id="any_of_the_conditions",
        ),
        pytest.param(
            (MOVED, UPDATED),
            [f'"t_update" AFTER UPDATE {ON}'],
            id="no_condition_beside_one",
        ),
    ],
)
def test_a_trigger_for_each_row_has_the_conditions_of_its_operation_as_its_when(
    recordings: tuple[Recording, ...], expected: list[str]
) -> None:
    made = triggers(capture(*recordings, level="row"))
    assert made == [f"CREATE OR REPLACE TRIGGER {each}" for each in expected]


@pytest.mark.parametrize(
    ("watched_columns", "user_condition", "when"),
    [
        (0, None, "C"),
        (3, None, "C"),
        (4, None, "OLD.* OPERATOR(pg_catalog.*<>) NEW.*"),
        (3, "A", "C"),
        (4, "A", "(A) AND OLD.* OPERATOR(pg_catalog.*<>) NEW.*"),
    ],
)
def test_more_than_three_columns_are_compared_as_rows_first(
    watched_columns: int, user_condition: str | None, when: str
) -> None:
    """The function then compares the columns, which takes longer in a WHEN."""
    recording = replace(
        UPDATED,
        condition="C",
        watched_columns=watched_columns,
        user_condition=user_condition,
    )
    captured = capture(recording, level="row")
    assert f" WHEN ({when}) " in triggers(captured)[0]
    assert ("IF C THEN" in body(captured)) is (when != "C")


def test_truncate_is_refused_on_citus_if_no_deletion_is_recorded() -> None:
    text = body(capture(EMPTIED, level="row"))
    assert (
        '    IF TG_RELID <> \'"public"."note"\'::regclass THEN\n      RETURN NULL;\n'
        "    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f"
        " ON f.oid = t.tgfoid\n"
        "      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger')"
        " THEN\n"
        "      RAISE EXCEPTION 'TRUNCATE of %.% is not recorded on Citus',"
        " TG_TABLE_SCHEMA, TG_TABLE_NAME;\n      RETURN NULL;\n    END IF;\n"
    ) in text
