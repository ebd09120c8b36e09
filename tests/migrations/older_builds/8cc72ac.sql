SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE FUNCTION public.account_event_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
  pgh_deleted text;
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean := false;
BEGIN
  IF NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?| ARRAY['account:events', 'account:*', '*:events'] THEN
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.nested_depth_' || TG_RELID, true) <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' || TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID, pg_trigger_depth()::text, true);
    END IF;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF pg_stat_get_xact_tuples_deleted(TG_RELID) > 0 THEN
      pgh_deleted := set_config('pghistory.deleted_rows_' || TG_RELID, pg_stat_get_xact_tuples_deleted(TG_RELID)::text, true);
    END IF;
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM new_rows AS NEW
        WHERE NOT EXISTS (
          SELECT FROM "public"."account" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."balance", now."doc")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."balance", NEW."doc")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."account_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "user", "pgh_obj_id", "id", "balance", "doc")
    SELECT 'snapshot', 'I', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), (SELECT CAST("public"."pghistory_context_value"('user', false, false, TG_TABLE_SCHEMA, TG_TABLE_NAME) AS INTEGER)), NEW."id", NEW."id", NEW."balance", NEW."doc"
    FROM new_rows AS NEW;
  ELSIF TG_OP = 'UPDATE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN OLD.id IS DISTINCT FROM NEW.id OR pg_catalog.record_image_ne(row(OLD.balance), row(NEW.balance)) OR pg_catalog.record_image_ne(row(OLD.doc), row(NEW.doc)) THEN NOT EXISTS (
          SELECT FROM "public"."account" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."balance", now."doc")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."balance", NEW."doc")::record
        ) END
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN (NEW.balance < 0) AND (OLD.id IS DISTINCT FROM NEW.id OR pg_catalog.record_image_ne(row(OLD.balance), row(NEW.balance)) OR pg_catalog.record_image_ne(row(OLD.doc), row(NEW.doc))) THEN NOT EXISTS (
          SELECT FROM "public"."account" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."balance", now."doc")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."balance", NEW."doc")::record
        ) END
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."account_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "user", "pgh_old_key", "pgh_obj_id", "id", "balance", "doc")
    SELECT 'snapshot', 'U', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), (SELECT CAST("public"."pghistory_context_value"('user', false, false, TG_TABLE_SCHEMA, TG_TABLE_NAME) AS INTEGER)), CASE WHEN OLD.id IS DISTINCT FROM NEW.id THEN jsonb_build_array(OLD."id") END, NEW."id", NEW."id", NEW."balance", NEW."doc"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.id IS DISTINCT FROM NEW.id OR pg_catalog.record_image_ne(row(OLD.balance), row(NEW.balance)) OR pg_catalog.record_image_ne(row(OLD.doc), row(NEW.doc))) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS NULL THEN true ELSE false END;
    INSERT INTO "public"."account_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "user", "pgh_old_key", "pgh_obj_id", "id", "balance", "doc")
    SELECT 'overdrawn', 'U', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), (SELECT CAST("public"."pghistory_context_value"('user', false, false, TG_TABLE_SCHEMA, TG_TABLE_NAME) AS INTEGER)), CASE WHEN OLD.id IS DISTINCT FROM NEW.id THEN jsonb_build_array(OLD."id") END, NEW."id", NEW."id", NEW."balance", NEW."doc"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN ((NEW.balance < 0) AND (OLD.id IS DISTINCT FROM NEW.id OR pg_catalog.record_image_ne(row(OLD.balance), row(NEW.balance)) OR pg_catalog.record_image_ne(row(OLD.doc), row(NEW.doc)))) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS NULL THEN true ELSE false END;
  ELSIF TG_OP = 'DELETE' THEN
    IF pgh_nested OR current_setting('pghistory.deleted_rows_' || TG_RELID, true) = pg_stat_get_xact_tuples_deleted(TG_RELID)::text THEN
      SELECT concat_ws(', ', OLD."id") INTO pgh_found
    FROM old_rows AS OLD
        WHERE EXISTS (
          SELECT FROM "public"."account" AS again JOIN "public"."account_event" AS event ON event."pgh_obj_id" OPERATOR(pg_catalog.=) again."id"
          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id"
            AND (again.tableoid = TG_RELID OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))
            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint
            AND event.pgh_op IN ('I', 'U')
            AND event.cmin::text::bigint > again.cmin::text::bigint
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Let the statement read its WITH to the end, use two statements, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."account_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "user", "pgh_obj_id", "id", "balance", "doc")
    SELECT 'delete', 'D', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), (SELECT CAST("public"."pghistory_context_value"('user', false, false, TG_TABLE_SCHEMA, TG_TABLE_NAME) AS INTEGER)), OLD."id", OLD."id", OLD."balance", OLD."doc"
    FROM old_rows AS OLD;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF TG_RELID <> '"public"."account"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."account";
      RETURN NULL;
    END IF;
    INSERT INTO "public"."account_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "user", "pgh_obj_id", "id", "balance", "doc")
    SELECT 'delete', 'T', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), (SELECT CAST("public"."pghistory_context_value"('user', false, false, TG_TABLE_SCHEMA, TG_TABLE_NAME) AS INTEGER)), OLD."id", OLD."id", OLD."balance", OLD."doc"
    FROM (SELECT * FROM "public"."account" AS every
      WHERE every.tableoid = '"public"."account"'::regclass
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
$$;
COMMENT ON FUNCTION public.account_event_record() IS 'sa_history:1fcc49b213d0a961';
CREATE FUNCTION public.animal_event_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
  pgh_deleted text;
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean := false;
BEGIN
  IF NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?| ARRAY['animal:events', 'animal:*', '*:events'] THEN
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.nested_depth_' || TG_RELID, true) <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' || TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID, pg_trigger_depth()::text, true);
    END IF;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF pg_stat_get_xact_tuples_deleted(TG_RELID) > 0 THEN
      pgh_deleted := set_config('pghistory.deleted_rows_' || TG_RELID, pg_stat_get_xact_tuples_deleted(TG_RELID)::text, true);
    END IF;
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM new_rows AS NEW
        WHERE NOT EXISTS (
          SELECT FROM "public"."animal" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."kind", now."name")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."kind", NEW."name")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."animal_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "kind", "name")
    SELECT 'snapshot', 'I', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), NEW."id", NEW."id", NEW."kind", NEW."name"
    FROM new_rows AS NEW;
  ELSIF TG_OP = 'UPDATE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN OLD.id IS DISTINCT FROM NEW.id OR OLD.kind IS DISTINCT FROM NEW.kind OR OLD.name IS DISTINCT FROM NEW.name THEN NOT EXISTS (
          SELECT FROM "public"."animal" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."kind", now."name")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."kind", NEW."name")::record
        ) END
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."animal_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_old_key", "pgh_obj_id", "id", "kind", "name")
    SELECT 'snapshot', 'U', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), CASE WHEN OLD.id IS DISTINCT FROM NEW.id THEN jsonb_build_array(OLD."id") END, NEW."id", NEW."id", NEW."kind", NEW."name"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.kind IS DISTINCT FROM NEW.kind OR OLD.name IS DISTINCT FROM NEW.name) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS NULL THEN true ELSE false END;
  ELSIF TG_OP = 'DELETE' THEN
    IF pgh_nested OR current_setting('pghistory.deleted_rows_' || TG_RELID, true) = pg_stat_get_xact_tuples_deleted(TG_RELID)::text THEN
      SELECT concat_ws(', ', OLD."id") INTO pgh_found
    FROM old_rows AS OLD
        WHERE EXISTS (
          SELECT FROM "public"."animal" AS again JOIN "public"."animal_event" AS event ON event."pgh_obj_id" OPERATOR(pg_catalog.=) again."id"
          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id"
            AND (again.tableoid = TG_RELID OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))
            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint
            AND event.pgh_op IN ('I', 'U')
            AND event.cmin::text::bigint > again.cmin::text::bigint
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Let the statement read its WITH to the end, use two statements, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."animal_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "kind", "name")
    SELECT 'delete', 'D', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."kind", OLD."name"
    FROM old_rows AS OLD;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF TG_RELID <> '"public"."animal"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."animal";
      RETURN NULL;
    END IF;
    INSERT INTO "public"."animal_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "kind", "name")
    SELECT 'delete', 'T', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."kind", OLD."name"
    FROM (SELECT * FROM "public"."animal" AS every
      WHERE every.tableoid = '"public"."animal"'::regclass
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
$$;
COMMENT ON FUNCTION public.animal_event_record() IS 'sa_history:d04f353dd22495d2';
CREATE FUNCTION public.dog_event_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
  pgh_deleted text;
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean := false;
BEGIN
  IF NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?| ARRAY['dog:events', 'dog:*', '*:events'] THEN
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.nested_depth_' || TG_RELID, true) <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' || TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID, pg_trigger_depth()::text, true);
    END IF;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF pg_stat_get_xact_tuples_deleted(TG_RELID) > 0 THEN
      pgh_deleted := set_config('pghistory.deleted_rows_' || TG_RELID, pg_stat_get_xact_tuples_deleted(TG_RELID)::text, true);
    END IF;
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM new_rows AS NEW
        WHERE NOT EXISTS (
          SELECT FROM "public"."dog" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."breed")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."breed")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."dog_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "breed")
    SELECT 'snapshot', 'I', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), NEW."id", NEW."id", NEW."breed"
    FROM new_rows AS NEW;
  ELSIF TG_OP = 'UPDATE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN OLD.id IS DISTINCT FROM NEW.id OR OLD.breed IS DISTINCT FROM NEW.breed THEN NOT EXISTS (
          SELECT FROM "public"."dog" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."breed")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."breed")::record
        ) END
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."dog_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_old_key", "pgh_obj_id", "id", "breed")
    SELECT 'snapshot', 'U', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), CASE WHEN OLD.id IS DISTINCT FROM NEW.id THEN jsonb_build_array(OLD."id") END, NEW."id", NEW."id", NEW."breed"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.breed IS DISTINCT FROM NEW.breed) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS NULL THEN true ELSE false END;
  ELSIF TG_OP = 'DELETE' THEN
    IF pgh_nested OR current_setting('pghistory.deleted_rows_' || TG_RELID, true) = pg_stat_get_xact_tuples_deleted(TG_RELID)::text THEN
      SELECT concat_ws(', ', OLD."id") INTO pgh_found
    FROM old_rows AS OLD
        WHERE EXISTS (
          SELECT FROM "public"."dog" AS again JOIN "public"."dog_event" AS event ON event."pgh_obj_id" OPERATOR(pg_catalog.=) again."id"
          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id"
            AND (again.tableoid = TG_RELID OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))
            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint
            AND event.pgh_op IN ('I', 'U')
            AND event.cmin::text::bigint > again.cmin::text::bigint
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Let the statement read its WITH to the end, use two statements, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."dog_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "breed")
    SELECT 'delete', 'D', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."breed"
    FROM old_rows AS OLD;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF TG_RELID <> '"public"."dog"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."dog";
      RETURN NULL;
    END IF;
    INSERT INTO "public"."dog_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "breed")
    SELECT 'delete', 'T', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."breed"
    FROM (SELECT * FROM "public"."dog" AS every
      WHERE every.tableoid = '"public"."dog"'::regclass
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
$$;
COMMENT ON FUNCTION public.dog_event_record() IS 'sa_history:383f1be6ed5f1cfe';
CREATE FUNCTION public.invoice_event_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
  pgh_deleted text;
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean := false;
BEGIN
  IF NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?| ARRAY['invoice:events', 'invoice:*', '*:events'] THEN
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.nested_depth_' || TG_RELID, true) <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' || TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID, pg_trigger_depth()::text, true);
    END IF;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF pg_stat_get_xact_tuples_deleted(TG_RELID) > 0 THEN
      pgh_deleted := set_config('pghistory.deleted_rows_' || TG_RELID, pg_stat_get_xact_tuples_deleted(TG_RELID)::text, true);
    END IF;
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM new_rows AS NEW
        WHERE NOT EXISTS (
          SELECT FROM "public"."invoice" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."state", now."version", now."is_active", now."updated_at")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."state", NEW."version", NEW."is_active", NEW."updated_at")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."invoice_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "state", "version", "is_active", "updated_at")
    SELECT 'snapshot', 'I', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), NEW."id", NEW."id", NEW."state", NEW."version", NEW."is_active", NEW."updated_at"
    FROM new_rows AS NEW;
  ELSIF TG_OP = 'UPDATE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN OLD.id IS DISTINCT FROM NEW.id OR OLD.state IS DISTINCT FROM NEW.state OR OLD.version IS DISTINCT FROM NEW.version OR OLD.is_active IS DISTINCT FROM NEW.is_active OR OLD.updated_at IS DISTINCT FROM NEW.updated_at THEN NOT EXISTS (
          SELECT FROM "public"."invoice" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."state", now."version", now."is_active", now."updated_at")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."state", NEW."version", NEW."is_active", NEW."updated_at")::record
        ) END
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."invoice_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_old_key", "pgh_obj_id", "id", "state", "version", "is_active", "updated_at")
    SELECT 'snapshot', 'U', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), CASE WHEN OLD.id IS DISTINCT FROM NEW.id THEN jsonb_build_array(OLD."id") END, NEW."id", NEW."id", NEW."state", NEW."version", NEW."is_active", NEW."updated_at"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.state IS DISTINCT FROM NEW.state OR OLD.version IS DISTINCT FROM NEW.version OR OLD.is_active IS DISTINCT FROM NEW.is_active OR OLD.updated_at IS DISTINCT FROM NEW.updated_at) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS NULL THEN true ELSE false END;
  ELSIF TG_OP = 'DELETE' THEN
    IF pgh_nested OR current_setting('pghistory.deleted_rows_' || TG_RELID, true) = pg_stat_get_xact_tuples_deleted(TG_RELID)::text THEN
      SELECT concat_ws(', ', OLD."id") INTO pgh_found
    FROM old_rows AS OLD
        WHERE EXISTS (
          SELECT FROM "public"."invoice" AS again JOIN "public"."invoice_event" AS event ON event."pgh_obj_id" OPERATOR(pg_catalog.=) again."id"
          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id"
            AND (again.tableoid = TG_RELID OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))
            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint
            AND event.pgh_op IN ('I', 'U')
            AND event.cmin::text::bigint > again.cmin::text::bigint
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Let the statement read its WITH to the end, use two statements, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."invoice_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "state", "version", "is_active", "updated_at")
    SELECT 'delete', 'D', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."state", OLD."version", OLD."is_active", OLD."updated_at"
    FROM old_rows AS OLD;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF TG_RELID <> '"public"."invoice"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."invoice";
      RETURN NULL;
    END IF;
    INSERT INTO "public"."invoice_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "state", "version", "is_active", "updated_at")
    SELECT 'delete', 'T', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."state", OLD."version", OLD."is_active", OLD."updated_at"
    FROM (SELECT * FROM "public"."invoice" AS every
      WHERE every.tableoid = '"public"."invoice"'::regclass
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
$$;
COMMENT ON FUNCTION public.invoice_event_record() IS 'sa_history:769b66c4341e62e6';
CREATE FUNCTION public.invoice_fsm_state() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
  RAISE EXCEPTION '% of %.% is refused: % may not begin as %', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, 'state', COALESCE(NEW."state"::pg_catalog.text, 'NULL') USING
    ERRCODE = 'SH005',
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME, COLUMN = 'state',
    HINT = 'It begins as draft. Where it is meant, make the change inside a history.ignore(...) of "fsm_state".';
  ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
  RAISE EXCEPTION '% of %.% is refused: % may not go from % to %', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, 'state', COALESCE(OLD."state"::pg_catalog.text, 'NULL'), COALESCE(NEW."state"::pg_catalog.text, 'NULL') USING
    ERRCODE = 'SH005',
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME, COLUMN = 'state',
    HINT = 'It goes from draft to sent. Where it is meant, make the change inside a history.ignore(...) of "fsm_state".';
  END IF;
END
$$;
COMMENT ON FUNCTION public.invoice_fsm_state() IS 'sa_history:e66d301b9617699e';
CREATE FUNCTION public.invoice_protect_truncate() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  RAISE EXCEPTION '% of %.% is refused: the table is protected', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING
    ERRCODE = 'SH003',
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
    HINT = 'Leave it as it is. Where it is meant, make the change inside a history.ignore(...) of "protect_truncate".';
END
$$;
COMMENT ON FUNCTION public.invoice_protect_truncate() IS 'sa_history:8e0c308fbe76646b';
CREATE FUNCTION public.invoice_soft_delete() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  IF (OLD.is_active OPERATOR(pg_catalog.=) false) IS NOT TRUE THEN
    UPDATE "public"."invoice" SET "is_active" = false
    WHERE "id" OPERATOR(pg_catalog.=) OLD."id";
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION public.invoice_soft_delete() IS 'sa_history:82dca6a91c2662ba';
CREATE FUNCTION public.invoice_touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  NEW."updated_at" := CURRENT_TIMESTAMP;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION public.invoice_touch_updated_at() IS 'sa_history:76de22548eb94bed';
CREATE FUNCTION public.invoice_versioned() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  IF pg_catalog.record_image_ne(row(OLD.version), row(NEW.version)) THEN
    RAISE EXCEPTION '% of %.% is refused: % may only be read', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, 'version' USING
      ERRCODE = 'SH004',
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME, COLUMN = 'version',
      HINT = 'It counts the changes of the row; leave it out.';
  END IF;
  NEW."version" := COALESCE(OLD."version", 0) OPERATOR(pg_catalog.+) 1;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION public.invoice_versioned() IS 'sa_history:a0a12237499a5c92';
CREATE FUNCTION public.line_event_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean := false;
BEGIN
  IF NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?| ARRAY['line:events', 'line:*', '*:events'] THEN
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.nested_depth_' || TG_RELID, true) <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' || TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID, pg_trigger_depth()::text, true);
    END IF;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."order", NEW."sku") INTO pgh_found
        WHERE NOT EXISTS (
          SELECT FROM "public"."line" AS now WHERE now."order" OPERATOR(pg_catalog.=) NEW."order" AND now."sku" OPERATOR(pg_catalog.=) NEW."sku"
            AND ROW(now."order", now."sku", now."quantity")::record OPERATOR(pg_catalog.*=) ROW(NEW."order", NEW."sku", NEW."quantity")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = concat('Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give it a name that sorts after ', TG_NAME, '.');
      END IF;
    END IF;
    INSERT INTO "public"."line_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_context", "order", "sku", "quantity")
    VALUES ('snapshot', 'I', pg_current_xact_id()::text::bigint, NULLIF(current_setting('pghistory.context_id', true), '')::uuid, NULLIF(current_setting('pghistory.context_metadata', true), '')::jsonb, NEW."order", NEW."sku", NEW."quantity");
  ELSIF TG_OP = 'UPDATE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."order", NEW."sku") INTO pgh_found
        WHERE NOT EXISTS (
          SELECT FROM "public"."line" AS now WHERE now."order" OPERATOR(pg_catalog.=) NEW."order" AND now."sku" OPERATOR(pg_catalog.=) NEW."sku"
            AND ROW(now."order", now."sku", now."quantity")::record OPERATOR(pg_catalog.*=) ROW(NEW."order", NEW."sku", NEW."quantity")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = concat('Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give it a name that sorts after ', TG_NAME, '.');
      END IF;
    END IF;
    INSERT INTO "public"."line_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_context", "pgh_old_key", "order", "sku", "quantity")
    VALUES ('snapshot', 'U', pg_current_xact_id()::text::bigint, NULLIF(current_setting('pghistory.context_id', true), '')::uuid, NULLIF(current_setting('pghistory.context_metadata', true), '')::jsonb, CASE WHEN OLD."order" IS DISTINCT FROM NEW."order" OR OLD.sku IS DISTINCT FROM NEW.sku THEN jsonb_build_array(OLD."order", OLD."sku") END, NEW."order", NEW."sku", NEW."quantity");
  ELSIF TG_OP = 'DELETE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', OLD."order", OLD."sku") INTO pgh_found
        WHERE EXISTS (
          SELECT FROM "public"."line" AS again JOIN "public"."line_event" AS event ON event."order" OPERATOR(pg_catalog.=) again."order" AND event."sku" OPERATOR(pg_catalog.=) again."sku"
          WHERE again."order" OPERATOR(pg_catalog.=) OLD."order" AND again."sku" OPERATOR(pg_catalog.=) OLD."sku"
            AND (again.tableoid = TG_RELID OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))
            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint
            AND event.pgh_op IN ('I', 'U')
            AND event.cmin::text::bigint > again.cmin::text::bigint
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = concat('Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give it a name that sorts after ', TG_NAME, '.');
      END IF;
    END IF;
    INSERT INTO "public"."line_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_context", "order", "sku", "quantity")
    VALUES ('delete', 'D', pg_current_xact_id()::text::bigint, NULLIF(current_setting('pghistory.context_id', true), '')::uuid, NULLIF(current_setting('pghistory.context_metadata', true), '')::jsonb, OLD."order", OLD."sku", OLD."quantity");
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF TG_RELID <> '"public"."line"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."line";
      RETURN NULL;
    END IF;
    INSERT INTO "public"."line_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_context", "order", "sku", "quantity")
    SELECT 'delete', 'T', (SELECT pg_current_xact_id()::text::bigint), (SELECT NULLIF(current_setting('pghistory.context_id', true), '')::uuid), (SELECT NULLIF(current_setting('pghistory.context_metadata', true), '')::jsonb), OLD."order", OLD."sku", OLD."quantity"
    FROM (SELECT * FROM "public"."line" AS every
      WHERE every.tableoid = '"public"."line"'::regclass
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
$$;
COMMENT ON FUNCTION public.line_event_record() IS 'sa_history:722aebe85eb21926';
CREATE FUNCTION public.pghistory_context_append_only() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
-- sa_history: version 2
BEGIN
  RAISE EXCEPTION '% of %.% is refused: its events are append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING
    ERRCODE = 'SH001',
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
    HINT = 'Events tell what happened; make a new change instead.';
END
$$;
COMMENT ON FUNCTION public.pghistory_context_append_only() IS 'sa_history:a6403fcc0631113b';
CREATE FUNCTION public.pghistory_context_attach() RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $_$
-- sa_history: version 2
DECLARE
  context_id uuid;
  context_metadata jsonb;
  stored_id uuid;
  is_same boolean;
  is_own boolean;
BEGIN
  IF substr(current_setting('pghistory.context_stored', true), 37) = current_setting('pghistory.context_id', true) || COALESCE(current_setting('pghistory.context_metadata', true), '') || $history$"public"."pghistory_context"$history$ THEN
    RETURN left(current_setting('pghistory.context_stored', true), 36);
  ELSIF current_setting('pghistory.context_stored', true) <> '' THEN
    stored_id := NULLIF(current_setting('pghistory.context_copies', true), '')::jsonb ->> (current_setting('pghistory.context_id', true) || $history$"public"."pghistory_context"$history$);
  END IF;
  context_id := NULLIF(current_setting('pghistory.context_id', true), '');
  IF context_id IS NULL THEN
    RETURN NULL;
  END IF;
  context_metadata := COALESCE(NULLIF(current_setting('pghistory.context_metadata', true), ''), '{}');
  SELECT context.id,
      context.metadata::text = context_metadata::text,
      CASE WHEN context.created_at = now() THEN pg_xact_status((
        pg_current_xact_id()::text::bigint - 2147483648
        + ((context.xmin::text::bigint - pg_current_xact_id()::text::bigint + 2147483648) & 4294967295)
      )::text::xid8) = 'in progress' END
    INTO stored_id, is_same, is_own
    FROM "public"."pghistory_context" AS context
    WHERE context.id = COALESCE(stored_id, context_id);
  IF NOT FOUND AND pg_try_advisory_xact_lock(hashtextextended(context_id::text, 0)) THEN
    INSERT INTO "public"."pghistory_context"
      (id, created_at, updated_at, metadata, parent_id)
    VALUES (context_id, now(), now(), context_metadata, NULLIF(current_setting('pghistory.context_parent_id', true), '')::uuid)
    ON CONFLICT (id) DO NOTHING;
  ELSIF NOT is_same THEN
    UPDATE "public"."pghistory_context" AS context SET metadata = context_metadata
    WHERE context.id = stored_id AND is_own;
  END IF;
  IF NOT FOUND THEN
    stored_id := (lpad(to_hex((EXTRACT(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
      || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid;
    INSERT INTO "public"."pghistory_context"
      (id, created_at, updated_at, metadata, parent_id)
    VALUES (stored_id, now(), now(), context_metadata, context_id);
    PERFORM set_config('pghistory.context_copies', (COALESCE(NULLIF(current_setting('pghistory.context_copies', true), '')::jsonb, '{}')
      || jsonb_build_object(current_setting('pghistory.context_id', true) || $history$"public"."pghistory_context"$history$, stored_id))::text, true);
  END IF;
  RETURN left(set_config('pghistory.context_stored', COALESCE(stored_id, context_id)::text || current_setting('pghistory.context_id', true) || COALESCE(current_setting('pghistory.context_metadata', true), '') || $history$"public"."pghistory_context"$history$, true), 36);
END
$_$;
COMMENT ON FUNCTION public.pghistory_context_attach() IS 'sa_history:f669affbfef35fd6';
CREATE FUNCTION public.pghistory_context_value(key text, required boolean, as_json boolean, in_schema name, in_table name) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
-- sa_history: version 2
DECLARE
  metadata jsonb := NULLIF(current_setting('pghistory.context_metadata', true), '');
  value text := CASE WHEN as_json THEN NULLIF(metadata -> key, 'null')::text ELSE metadata ->> key END;
BEGIN
  IF value IS NULL AND required THEN
    RAISE EXCEPTION 'a change of %.% needs a context with the key "%"',
      in_schema, in_table, key USING ERRCODE = 'SH002',
      SCHEMA = in_schema, TABLE = in_table, COLUMN = key,
      HINT = 'Make the change inside a history.context(...) that has this key.';
  END IF;
  RETURN value;
END
$$;
COMMENT ON FUNCTION public.pghistory_context_value(key text, required boolean, as_json boolean, in_schema name, in_table name) IS 'sa_history:92dc7d4f411a951c';
CREATE FUNCTION public.reading_event_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
  pgh_deleted text;
  pgh_found text;
  pgh_depth integer;
  pgh_nested boolean := false;
BEGIN
  IF NULLIF(current_setting('pghistory.ignore', true), '')::jsonb ?| ARRAY['reading:events', 'reading:*', '*:events'] THEN
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 OR current_setting('pghistory.nested_depth_' || TG_RELID, true) <> '' THEN
    pgh_depth := COALESCE(NULLIF(current_setting('pghistory.nested_depth_' || TG_RELID, true), ''), '0');
    IF pgh_depth > pg_trigger_depth() THEN
      pgh_nested := true;
    ELSIF pgh_depth < pg_trigger_depth() THEN
      pgh_found := set_config('pghistory.nested_depth_' || TG_RELID, pg_trigger_depth()::text, true);
    END IF;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF pg_stat_get_xact_tuples_deleted(TG_RELID) > 0 THEN
      pgh_deleted := set_config('pghistory.deleted_rows_' || TG_RELID, pg_stat_get_xact_tuples_deleted(TG_RELID)::text, true);
    END IF;
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM new_rows AS NEW
        WHERE NOT EXISTS (
          SELECT FROM "public"."reading" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."name", now."value")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."name", NEW."value")::record
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."reading_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "name", "value")
    SELECT 'snapshot', 'I', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), NEW."id", NEW."id", NEW."name", NEW."value"
    FROM new_rows AS NEW;
  ELSIF TG_OP = 'UPDATE' THEN
    IF pgh_nested THEN
      SELECT concat_ws(', ', NEW."id") INTO pgh_found
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
        WHERE CASE WHEN OLD.id IS DISTINCT FROM NEW.id OR OLD.name IS DISTINCT FROM NEW.name OR OLD.value IS DISTINCT FROM NEW.value THEN NOT EXISTS (
          SELECT FROM "public"."reading" AS now WHERE now."id" OPERATOR(pg_catalog.=) NEW."id"
            AND ROW(now."id", now."id", now."name", now."value")::record OPERATOR(pg_catalog.*=) ROW(NEW."id", NEW."id", NEW."name", NEW."value")::record
        ) END
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) was written again, and that is recorded before this change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY DEFERRED, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."reading_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_old_key", "pgh_obj_id", "id", "name", "value")
    SELECT 'snapshot', 'U', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), CASE WHEN OLD.id IS DISTINCT FROM NEW.id THEN jsonb_build_array(OLD."id") END, NEW."id", NEW."id", NEW."name", NEW."value"
    FROM (SELECT row_number() OVER () AS pgh_row, * FROM new_rows) AS NEW
    FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS OLD ON NEW.pgh_row = OLD.pgh_row
    WHERE CASE WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.name IS DISTINCT FROM NEW.name OR OLD.value IS DISTINCT FROM NEW.value) OR NEW.pgh_row IS NULL OR OLD.pgh_row IS NULL THEN true ELSE false END;
  ELSIF TG_OP = 'DELETE' THEN
    IF pgh_nested OR current_setting('pghistory.deleted_rows_' || TG_RELID, true) = pg_stat_get_xact_tuples_deleted(TG_RELID)::text THEN
      SELECT concat_ws(', ', OLD."id") INTO pgh_found
    FROM old_rows AS OLD
        WHERE EXISTS (
          SELECT FROM "public"."reading" AS again JOIN "public"."reading_event" AS event ON event."pgh_obj_id" OPERATOR(pg_catalog.=) again."id"
          WHERE again."id" OPERATOR(pg_catalog.=) OLD."id"
            AND (again.tableoid = TG_RELID OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))
            AND event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint
            AND event.pgh_op IN ('I', 'U')
            AND event.cmin::text::bigint > again.cmin::text::bigint
        )
        LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION '% of %.% is refused: the row (%) is there again, and that is recorded before its deletion', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, pgh_found USING
          ERRCODE = 'SH006',
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
          HINT = 'Let the statement read its WITH to the end, use two statements, or give track(level="row").';
      END IF;
    END IF;
    INSERT INTO "public"."reading_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "name", "value")
    SELECT 'delete', 'D', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."name", OLD."value"
    FROM old_rows AS OLD;
  ELSIF TG_OP = 'TRUNCATE' THEN
    IF TG_RELID <> '"public"."reading"'::regclass THEN
      RETURN NULL;
    ELSIF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger') THEN
      DELETE FROM "public"."reading";
      RETURN NULL;
    END IF;
    INSERT INTO "public"."reading_event" ("pgh_label", "pgh_op", "pgh_xact_id", "pgh_context_id", "pgh_obj_id", "id", "name", "value")
    SELECT 'delete', 'T', (SELECT pg_current_xact_id()::text::bigint), (SELECT "public"."pghistory_context_attach"()), OLD."id", OLD."id", OLD."name", OLD."value"
    FROM (SELECT * FROM "public"."reading" AS every
      WHERE every.tableoid = '"public"."reading"'::regclass
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
$$;
COMMENT ON FUNCTION public.reading_event_record() IS 'sa_history:412fb4a377471652';
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.account (
    id integer NOT NULL,
    balance numeric(10,2) NOT NULL,
    doc jsonb NOT NULL
);
CREATE SEQUENCE public.pghistory_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
COMMENT ON SEQUENCE public.pghistory_id_seq IS 'sa_history:1db6ab0592fb987a';
CREATE TABLE public.account_event (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer NOT NULL,
    pgh_op character(1) NOT NULL,
    pgh_label text NOT NULL,
    pgh_old_key jsonb,
    "user" integer,
    id integer NOT NULL,
    balance numeric(10,2),
    doc jsonb
);
COMMENT ON TABLE public.account_event IS 'Events of account';
CREATE SEQUENCE public.account_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.account_id_seq OWNED BY public.account.id;
CREATE TABLE public.animal (
    id integer NOT NULL,
    kind character varying NOT NULL,
    name character varying NOT NULL
);
CREATE TABLE public.animal_event (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer NOT NULL,
    pgh_op character(1) NOT NULL,
    pgh_label text NOT NULL,
    pgh_old_key jsonb,
    id integer NOT NULL,
    kind character varying,
    name character varying
);
COMMENT ON TABLE public.animal_event IS 'Events of animal';
CREATE SEQUENCE public.animal_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.animal_id_seq OWNED BY public.animal.id;
CREATE TABLE public.dog (
    id integer NOT NULL,
    breed character varying NOT NULL
);
CREATE TABLE public.dog_event (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer NOT NULL,
    pgh_op character(1) NOT NULL,
    pgh_label text NOT NULL,
    pgh_old_key jsonb,
    id integer NOT NULL,
    breed character varying
);
COMMENT ON TABLE public.dog_event IS 'Events of dog';
CREATE TABLE public.invoice (
    id integer NOT NULL,
    state character varying NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.invoice_event (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer NOT NULL,
    pgh_op character(1) NOT NULL,
    pgh_label text NOT NULL,
    pgh_old_key jsonb,
    id integer NOT NULL,
    state character varying,
    version integer,
    is_active boolean,
    updated_at timestamp with time zone
);
COMMENT ON TABLE public.invoice_event IS 'Events of invoice';
CREATE SEQUENCE public.invoice_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.invoice_id_seq OWNED BY public.invoice.id;
CREATE TABLE public.line (
    "order" integer NOT NULL,
    sku character varying NOT NULL,
    quantity integer NOT NULL
);
CREATE TABLE public.line_event (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    pgh_context_id uuid,
    pgh_op character(1) NOT NULL,
    pgh_label text NOT NULL,
    pgh_old_key jsonb,
    pgh_context jsonb,
    "order" integer NOT NULL,
    sku character varying NOT NULL,
    quantity integer
);
COMMENT ON TABLE public.line_event IS 'Events of line';
CREATE TABLE public.pghistory_archive (
    table_name text NOT NULL,
    path text NOT NULL,
    lower_bound text,
    upper_bound text NOT NULL,
    folder text NOT NULL,
    rows bigint NOT NULL,
    first_id text,
    last_id text,
    since timestamp with time zone,
    until timestamp with time zone,
    sha256 text NOT NULL,
    archived_at timestamp with time zone NOT NULL,
    dropped_at timestamp with time zone
);
COMMENT ON TABLE public.pghistory_archive IS 'The partitions of event and context tables that are in an archive';
CREATE TABLE public.pghistory_context (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    metadata jsonb NOT NULL,
    parent_id uuid
)
PARTITION BY RANGE (id);
COMMENT ON TABLE public.pghistory_context IS 'Who made changes, and why: one row per context that made one';
CREATE TABLE public.pghistory_context_p1 (
    id uuid CONSTRAINT pghistory_context_id_not_null NOT NULL,
    created_at timestamp with time zone DEFAULT now() CONSTRAINT pghistory_context_created_at_not_null NOT NULL,
    updated_at timestamp with time zone DEFAULT now() CONSTRAINT pghistory_context_updated_at_not_null NOT NULL,
    metadata jsonb CONSTRAINT pghistory_context_metadata_not_null NOT NULL,
    parent_id uuid
);
COMMENT ON TABLE public.pghistory_context_p1 IS 'Contexts of pghistory_context';
CREATE TABLE public.pghistory_context_p20261201 (
    id uuid CONSTRAINT pghistory_context_id_not_null NOT NULL,
    created_at timestamp with time zone DEFAULT now() CONSTRAINT pghistory_context_created_at_not_null NOT NULL,
    updated_at timestamp with time zone DEFAULT now() CONSTRAINT pghistory_context_updated_at_not_null NOT NULL,
    metadata jsonb CONSTRAINT pghistory_context_metadata_not_null NOT NULL,
    parent_id uuid
);
COMMENT ON TABLE public.pghistory_context_p20261201 IS 'Contexts of pghistory_context';
CREATE TABLE public.pghistory_context_p20270101 (
    id uuid CONSTRAINT pghistory_context_id_not_null NOT NULL,
    created_at timestamp with time zone DEFAULT now() CONSTRAINT pghistory_context_created_at_not_null NOT NULL,
    updated_at timestamp with time zone DEFAULT now() CONSTRAINT pghistory_context_updated_at_not_null NOT NULL,
    metadata jsonb CONSTRAINT pghistory_context_metadata_not_null NOT NULL,
    parent_id uuid
);
COMMENT ON TABLE public.pghistory_context_p20270101 IS 'Contexts of pghistory_context';
CREATE TABLE public.pghistory_erased (
    table_name text NOT NULL,
    id text NOT NULL,
    erasure_id bigint NOT NULL,
    columns text[] NOT NULL,
    commitment bytea
);
COMMENT ON TABLE public.pghistory_erased IS 'The events and contexts with erased values';
CREATE TABLE public.pghistory_erasure (
    id bigint NOT NULL,
    table_name text NOT NULL,
    keys text[] NOT NULL,
    first_id bigint,
    last_id bigint,
    events bigint NOT NULL,
    contexts bigint NOT NULL,
    reason text,
    role text DEFAULT CURRENT_USER NOT NULL,
    erased_by text,
    erased_at timestamp with time zone DEFAULT now() NOT NULL
);
COMMENT ON TABLE public.pghistory_erasure IS 'What was erased from history, by whom and why';
CREATE TABLE public.pghistory_salt (
    table_name text NOT NULL,
    key text NOT NULL,
    salt bytea NOT NULL
);
COMMENT ON TABLE public.pghistory_salt IS 'The salts of objects that are not erased';
CREATE TABLE public.pghistory_seal (
    id bigint NOT NULL,
    table_name text NOT NULL,
    columns text[] NOT NULL,
    erasable text[] NOT NULL,
    context_keys text[] NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    events bigint NOT NULL,
    digest bytea NOT NULL,
    root bytea NOT NULL,
    sealed_at timestamp with time zone NOT NULL
);
COMMENT ON TABLE public.pghistory_seal IS 'Seals of events, each chained to the one before it';
CREATE TABLE public.pghistory_seal_range (
    seal_id bigint NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    events integer NOT NULL,
    digest bytea NOT NULL,
    marks bytea NOT NULL
);
COMMENT ON TABLE public.pghistory_seal_range IS 'The ranges of ids that seals are made of';
CREATE TABLE public.reading (
    id integer NOT NULL,
    name character varying,
    value integer NOT NULL
);
CREATE TABLE public.reading_event (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer NOT NULL,
    pgh_op character(1) NOT NULL,
    pgh_label text NOT NULL,
    pgh_old_key jsonb,
    pgh_erased text[],
    id integer NOT NULL,
    name character varying,
    value integer
)
PARTITION BY RANGE (pgh_id);
COMMENT ON TABLE public.reading_event IS 'Events of reading';
CREATE TABLE public.reading_event_p1 (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) CONSTRAINT reading_event_pgh_id_not_null NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() CONSTRAINT reading_event_pgh_created_at_not_null NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint CONSTRAINT reading_event_pgh_xact_id_not_null NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer CONSTRAINT reading_event_pgh_obj_id_not_null NOT NULL,
    pgh_op character(1) CONSTRAINT reading_event_pgh_op_not_null NOT NULL,
    pgh_label text CONSTRAINT reading_event_pgh_label_not_null NOT NULL,
    pgh_old_key jsonb,
    pgh_erased text[],
    id integer CONSTRAINT reading_event_id_not_null NOT NULL,
    name character varying,
    value integer,
    CONSTRAINT pgh_time_check CHECK (((pgh_created_at >= '2026-11-29 08:30:20.288238+00'::timestamp with time zone) AND (pgh_created_at <= '2026-11-29 08:30:20.33595+00'::timestamp with time zone)))
);
COMMENT ON TABLE public.reading_event_p1 IS 'Events of reading';
CREATE TABLE public.reading_event_p26 (
    pgh_id bigint DEFAULT nextval(COALESCE('public.pghistory_id_seq'::regclass)) CONSTRAINT reading_event_pgh_id_not_null NOT NULL,
    pgh_created_at timestamp with time zone DEFAULT now() CONSTRAINT reading_event_pgh_created_at_not_null NOT NULL,
    pgh_xact_id bigint DEFAULT ((pg_current_xact_id())::text)::bigint CONSTRAINT reading_event_pgh_xact_id_not_null NOT NULL,
    pgh_context_id uuid,
    pgh_obj_id integer CONSTRAINT reading_event_pgh_obj_id_not_null NOT NULL,
    pgh_op character(1) CONSTRAINT reading_event_pgh_op_not_null NOT NULL,
    pgh_label text CONSTRAINT reading_event_pgh_label_not_null NOT NULL,
    pgh_old_key jsonb,
    pgh_erased text[],
    id integer CONSTRAINT reading_event_id_not_null NOT NULL,
    name character varying,
    value integer
);
COMMENT ON TABLE public.reading_event_p26 IS 'Events of reading';
CREATE SEQUENCE public.reading_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reading_id_seq OWNED BY public.reading.id;
ALTER TABLE ONLY public.pghistory_context ATTACH PARTITION public.pghistory_context_p1 FOR VALUES FROM (MINVALUE) TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.pghistory_context ATTACH PARTITION public.pghistory_context_p20261201 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.pghistory_context ATTACH PARTITION public.pghistory_context_p20270101 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO (MAXVALUE);
ALTER TABLE ONLY public.reading_event ATTACH PARTITION public.reading_event_p1 FOR VALUES FROM ('1') TO ('26');
ALTER TABLE ONLY public.reading_event ATTACH PARTITION public.reading_event_p26 FOR VALUES FROM ('26') TO (MAXVALUE);
ALTER TABLE ONLY public.account ALTER COLUMN id SET DEFAULT nextval('public.account_id_seq'::regclass);
ALTER TABLE ONLY public.animal ALTER COLUMN id SET DEFAULT nextval('public.animal_id_seq'::regclass);
ALTER TABLE ONLY public.invoice ALTER COLUMN id SET DEFAULT nextval('public.invoice_id_seq'::regclass);
ALTER TABLE ONLY public.reading ALTER COLUMN id SET DEFAULT nextval('public.reading_id_seq'::regclass);
INSERT INTO public.account VALUES (1, -3.00, '{"a": [1, 2.5, null]}');
INSERT INTO public.account_event VALUES (1, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 1, 'I', 'snapshot', NULL, 1, 1, 5.00, '{"a": [1, 2.5, null]}');
INSERT INTO public.account_event VALUES (13, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 1, 'U', 'snapshot', NULL, 2, 1, -3.00, '{"a": [1, 2.5, null]}');
INSERT INTO public.account_event VALUES (14, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 1, 'U', 'overdrawn', NULL, 2, 1, -3.00, '{"a": [1, 2.5, null]}');
INSERT INTO public.animal VALUES (1, 'dog', 'Rex');
INSERT INTO public.animal_event VALUES (2, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 1, 'I', 'snapshot', NULL, 1, 'dog', 'Rex');
INSERT INTO public.dog VALUES (1, 'poodle');
INSERT INTO public.dog_event VALUES (3, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 1, 'I', 'snapshot', NULL, 1, 'lab');
INSERT INTO public.dog_event VALUES (15, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 1, 'U', 'snapshot', NULL, 1, 'poodle');
INSERT INTO public.invoice VALUES (1, 'sent', 2, true, '2026-11-29 08:30:20.33595+00');
INSERT INTO public.invoice_event VALUES (4, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 1, 'I', 'snapshot', NULL, 1, 'draft', 1, true, '2026-11-29 08:30:20.288238+00');
INSERT INTO public.invoice_event VALUES (17, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 1, 'U', 'snapshot', NULL, 1, 'sent', 2, true, '2026-11-29 08:30:20.33595+00');
INSERT INTO public.line_event VALUES (5, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 'I', 'snapshot', NULL, '{"why": "é''\\", "user": 1}', 1, 'a', 2);
INSERT INTO public.line_event VALUES (16, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 'U', 'snapshot', NULL, '{"url": "/a", "user": 2}', 1, 'a', 3);
INSERT INTO public.line_event VALUES (25, '2026-11-29 08:30:20.376166+00', 755, NULL, 'D', 'delete', NULL, NULL, 1, 'a', 3);
INSERT INTO public.pghistory_archive VALUES ('public.reading_event', 'pgh_part=1/events.parquet', '1', '26', '/srv/archive', 14, '6', '24', '2026-11-29 08:30:20.288238+00', '2026-11-29 08:30:20.33595+00', 'c759d98f23abaf9bc6edb9a1823684843c14e1ce4ad9d7738ccd6fe311aee30b', '2026-11-29 08:30:22.648218+00', NULL);
INSERT INTO public.pghistory_context_p1 VALUES ('01a2266d-3276-7bf3-ab92-df7581573a82', '2026-11-29 08:30:20.288238+00', '2026-11-29 08:30:20.288238+00', '{"why": "é''\\", "user": 1}', NULL);
INSERT INTO public.pghistory_context_p1 VALUES ('01a2266d-32ad-708f-aaf2-d951f8eae60d', '2026-11-29 08:30:20.33595+00', '2026-11-29 08:30:20.33595+00', '{"url": "/a", "user": 2}', '01a2266d-32ad-78ef-a1c8-baf8d8727a44');
INSERT INTO public.pghistory_erased VALUES ('reading_event', '8', 1, '{name}', '\x9f3f594e90ede7cf169068c3bb2e9a130f9be8b98597fafaf7fe7f77d03485af');
INSERT INTO public.pghistory_erased VALUES ('reading_event', '20', 1, '{name}', '\x9f3f594e90ede7cf169068c3bb2e9a130f9be8b98597fafaf7fe7f77d03485af');
INSERT INTO public.pghistory_erasure VALUES (1, 'reading', '{3}', NULL, NULL, 2, 0, 'asked', 'postgres', NULL, '2026-11-29 08:30:20.797551+00');
INSERT INTO public.pghistory_salt VALUES ('reading_event', '1', '\xea3594ffe69745b1a78e16d4ba8aaf7609ecba8401584ae6bd6521b463ebed87');
INSERT INTO public.pghistory_salt VALUES ('reading_event', '2', '\x5a701ccc19e14f5e8ae7298cf6d378b38719b8079a8a44a5b9a7fc4cc809f64b');
INSERT INTO public.pghistory_salt VALUES ('reading_event', '4', '\x007730477c6e4699a91900e4309825ff56e950e0c94b4e9990dcd59f1be337ac');
INSERT INTO public.pghistory_salt VALUES ('reading_event', '5', '\xbfe37acb26b645f781a2fa223efa9ed4eb6fee6958ef4bfca431b6d4a8643f6c');
INSERT INTO public.pghistory_salt VALUES ('reading_event', '6', '\xd38cf0ff035a4b4a8bf73934e75adb5c7635a9a00a1d4f88a886495ce333e316');
INSERT INTO public.pghistory_salt VALUES ('reading_event', '7', '\xdf4e918e6eb440e3a6fb59bf003d5d4f9d4301806b92475497a33f2ee45f22c5');
INSERT INTO public.pghistory_seal VALUES (1, 'reading_event', '{pgh_created_at,pgh_xact_id,pgh_context_id,pgh_obj_id,pgh_op,pgh_label,pgh_old_key,id,name,value}', '{name}', '{}', 1, 25, 14, '\x6c1a3524afab474e68be63f6e1ae9cd8794e8db3a425858659afd79714582faf', '\xc815f858880641503364e0a42017f9a12544540f6191d6d5ce7bc1031331001a', '2026-11-29 08:30:20.484733+00');
INSERT INTO public.pghistory_seal VALUES (2, 'invoice_event', '{pgh_created_at,pgh_xact_id,pgh_context_id,pgh_obj_id,pgh_op,pgh_label,pgh_old_key,id,state,version,is_active,updated_at}', '{}', '{}', 1, 25, 2, '\x70738db80713e9ceb074bd40ee92cbb8c406ab396f1369fe5c2f8d98b7ba3a22', '\xa49320f61474a17ed095fdc539244ac7b2f17a2f3bb42d7a1a622db6001a89c0', '2026-11-29 08:30:20.558523+00');
INSERT INTO public.pghistory_seal VALUES (3, 'pghistory_erasure', '{table_name,keys,first_id,last_id,events,contexts,reason,role,erased_by,erased_at}', '{}', '{}', 1, 1, 1, '\xe8ed07515b7d992777e194f6db166b9cc0159994c42ccfdc115d250324bb26f9', '\xa86bc7d19b848f011daf9f8a26e2dc94f2bcf07ce3fe0d6e69823a2b789e96dd', '2026-11-29 08:30:21.659158+00');
INSERT INTO public.pghistory_seal_range VALUES (1, 6, 24, 14, '\x7dc4899ccba94d60bf8a807ebacb85c5a24a00f6e5c313b33e0803eea9959d14', '\xc404112612c0ea387a66a5ee5d3f461e6214446b1c31ee1e3e1ba230aff469e2652a8ac7e4cc56522dcbcf2196dddf74700282875d71e2a200000006a99d00000007a99d00000008a99d00000009a99d0000000aa99d0000000ba99d0000000ca99d000000125cc9000000135cc9000000145cc9000000155cc9000000165cc9000000175cc9000000185cc9');
INSERT INTO public.pghistory_seal_range VALUES (2, 4, 17, 2, '\x7bb33c33a39d475e7e3c2e4925ec39a2cc28deba8af7891c50874f8eb61e6ce9', '\xa61712be0931096d00000004a99d000000115cc9');
INSERT INTO public.pghistory_seal_range VALUES (3, 1, 1, 1, '\x0049e2f812bb22cd94eba50c65782934082e15c55407b23eb3151e1e5f724bff', '\x1bf32286000000010000');
INSERT INTO public.reading VALUES (1, 'r1', 101);
INSERT INTO public.reading VALUES (2, 'r2', 102);
INSERT INTO public.reading VALUES (3, 'r3', 103);
INSERT INTO public.reading VALUES (4, 'r4', 104);
INSERT INTO public.reading VALUES (5, 'r5', 105);
INSERT INTO public.reading VALUES (6, 'r6', 106);
INSERT INTO public.reading VALUES (7, 'r7', 107);
INSERT INTO public.reading_event_p1 VALUES (6, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 1, 'I', 'snapshot', NULL, NULL, 1, 'r1', 1);
INSERT INTO public.reading_event_p1 VALUES (7, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 2, 'I', 'snapshot', NULL, NULL, 2, 'r2', 2);
INSERT INTO public.reading_event_p1 VALUES (9, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 4, 'I', 'snapshot', NULL, NULL, 4, 'r4', 4);
INSERT INTO public.reading_event_p1 VALUES (10, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 5, 'I', 'snapshot', NULL, NULL, 5, 'r5', 5);
INSERT INTO public.reading_event_p1 VALUES (11, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 6, 'I', 'snapshot', NULL, NULL, 6, 'r6', 6);
INSERT INTO public.reading_event_p1 VALUES (12, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 7, 'I', 'snapshot', NULL, NULL, 7, 'r7', 7);
INSERT INTO public.reading_event_p1 VALUES (18, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 1, 'U', 'snapshot', NULL, NULL, 1, 'r1', 101);
INSERT INTO public.reading_event_p1 VALUES (19, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 2, 'U', 'snapshot', NULL, NULL, 2, 'r2', 102);
INSERT INTO public.reading_event_p1 VALUES (21, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 4, 'U', 'snapshot', NULL, NULL, 4, 'r4', 104);
INSERT INTO public.reading_event_p1 VALUES (22, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 5, 'U', 'snapshot', NULL, NULL, 5, 'r5', 105);
INSERT INTO public.reading_event_p1 VALUES (23, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 6, 'U', 'snapshot', NULL, NULL, 6, 'r6', 106);
INSERT INTO public.reading_event_p1 VALUES (24, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 7, 'U', 'snapshot', NULL, NULL, 7, 'r7', 107);
INSERT INTO public.reading_event_p1 VALUES (8, '2026-11-29 08:30:20.288238+00', 753, '01a2266d-3276-7bf3-ab92-df7581573a82', 3, 'I', 'snapshot', NULL, '{name}', 3, NULL, 3);
INSERT INTO public.reading_event_p1 VALUES (20, '2026-11-29 08:30:20.33595+00', 754, '01a2266d-32ad-708f-aaf2-d951f8eae60d', 3, 'U', 'snapshot', NULL, '{name}', 3, NULL, 103);
SELECT pg_catalog.setval('public.account_id_seq', 1, false);
SELECT pg_catalog.setval('public.animal_id_seq', 1, false);
SELECT pg_catalog.setval('public.invoice_id_seq', 1, false);
SELECT pg_catalog.setval('public.pghistory_id_seq', 25, true);
SELECT pg_catalog.setval('public.reading_id_seq', 1, false);
ALTER TABLE ONLY public.account_event
    ADD CONSTRAINT account_event_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.animal_event
    ADD CONSTRAINT animal_event_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.animal
    ADD CONSTRAINT animal_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.dog_event
    ADD CONSTRAINT dog_event_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.dog
    ADD CONSTRAINT dog_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.invoice_event
    ADD CONSTRAINT invoice_event_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.invoice
    ADD CONSTRAINT invoice_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.line_event
    ADD CONSTRAINT line_event_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.line
    ADD CONSTRAINT line_pkey PRIMARY KEY ("order", sku);
ALTER TABLE ONLY public.pghistory_archive
    ADD CONSTRAINT pghistory_archive_pkey PRIMARY KEY (table_name, path);
ALTER TABLE ONLY public.pghistory_context
    ADD CONSTRAINT pghistory_context_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pghistory_context_p1
    ADD CONSTRAINT pghistory_context_p1_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pghistory_context_p20261201
    ADD CONSTRAINT pghistory_context_p20261201_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pghistory_context_p20270101
    ADD CONSTRAINT pghistory_context_p20270101_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pghistory_erased
    ADD CONSTRAINT pghistory_erased_pkey PRIMARY KEY (table_name, id);
ALTER TABLE ONLY public.pghistory_erasure
    ADD CONSTRAINT pghistory_erasure_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pghistory_salt
    ADD CONSTRAINT pghistory_salt_pkey PRIMARY KEY (table_name, key);
ALTER TABLE ONLY public.pghistory_seal
    ADD CONSTRAINT pghistory_seal_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pghistory_seal_range
    ADD CONSTRAINT pghistory_seal_range_pkey PRIMARY KEY (seal_id, first_id);
ALTER TABLE ONLY public.reading_event
    ADD CONSTRAINT reading_event_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.reading_event_p1
    ADD CONSTRAINT reading_event_p1_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.reading_event_p26
    ADD CONSTRAINT reading_event_p26_pkey PRIMARY KEY (pgh_id);
ALTER TABLE ONLY public.reading
    ADD CONSTRAINT reading_pkey PRIMARY KEY (id);
CREATE INDEX ix_account_event_pgh_context_id ON public.account_event USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX ix_account_event_pgh_obj_id ON public.account_event USING btree (pgh_obj_id, pgh_id);
CREATE INDEX ix_account_event_pgh_old_key ON public.account_event USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX ix_account_event_pgh_xact_id ON public.account_event USING btree (pgh_xact_id, pgh_id);
CREATE INDEX ix_animal_event_pgh_context_id ON public.animal_event USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX ix_animal_event_pgh_obj_id ON public.animal_event USING btree (pgh_obj_id, pgh_id);
CREATE INDEX ix_animal_event_pgh_old_key ON public.animal_event USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX ix_animal_event_pgh_xact_id ON public.animal_event USING btree (pgh_xact_id, pgh_id);
CREATE INDEX ix_dog_event_pgh_context_id ON public.dog_event USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX ix_dog_event_pgh_obj_id ON public.dog_event USING btree (pgh_obj_id, pgh_id);
CREATE INDEX ix_dog_event_pgh_old_key ON public.dog_event USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX ix_dog_event_pgh_xact_id ON public.dog_event USING btree (pgh_xact_id, pgh_id);
CREATE INDEX ix_invoice_event_pgh_context_id ON public.invoice_event USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX ix_invoice_event_pgh_obj_id ON public.invoice_event USING btree (pgh_obj_id, pgh_id);
CREATE INDEX ix_invoice_event_pgh_old_key ON public.invoice_event USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX ix_invoice_event_pgh_xact_id ON public.invoice_event USING btree (pgh_xact_id, pgh_id);
CREATE INDEX ix_line_event_order ON public.line_event USING btree ("order", sku, pgh_id);
CREATE INDEX ix_line_event_pgh_context_id ON public.line_event USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX ix_line_event_pgh_old_key ON public.line_event USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX ix_line_event_pgh_xact_id ON public.line_event USING btree (pgh_xact_id, pgh_id);
CREATE INDEX ix_pghistory_context_parent_id ON ONLY public.pghistory_context USING btree (parent_id) WHERE (parent_id IS NOT NULL);
CREATE INDEX ix_pghistory_context_user ON ONLY public.pghistory_context USING btree (((metadata ->> 'user'::text)));
CREATE INDEX ix_reading_event_pgh_context_id ON ONLY public.reading_event USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX ix_reading_event_pgh_obj_id ON ONLY public.reading_event USING btree (pgh_obj_id, pgh_id);
CREATE INDEX ix_reading_event_pgh_old_key ON ONLY public.reading_event USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX ix_reading_event_pgh_xact_id ON ONLY public.reading_event USING btree (pgh_xact_id, pgh_id);
CREATE INDEX pghistory_context_p1_expr_idx ON public.pghistory_context_p1 USING btree (((metadata ->> 'user'::text)));
CREATE INDEX pghistory_context_p1_parent_id_idx ON public.pghistory_context_p1 USING btree (parent_id) WHERE (parent_id IS NOT NULL);
CREATE INDEX pghistory_context_p20261201_expr_idx ON public.pghistory_context_p20261201 USING btree (((metadata ->> 'user'::text)));
CREATE INDEX pghistory_context_p20261201_parent_id_idx ON public.pghistory_context_p20261201 USING btree (parent_id) WHERE (parent_id IS NOT NULL);
CREATE INDEX pghistory_context_p20270101_expr_idx ON public.pghistory_context_p20270101 USING btree (((metadata ->> 'user'::text)));
CREATE INDEX pghistory_context_p20270101_parent_id_idx ON public.pghistory_context_p20270101 USING btree (parent_id) WHERE (parent_id IS NOT NULL);
CREATE INDEX reading_event_p1_pgh_context_id_idx ON public.reading_event_p1 USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX reading_event_p1_pgh_obj_id_pgh_id_idx ON public.reading_event_p1 USING btree (pgh_obj_id, pgh_id);
CREATE INDEX reading_event_p1_pgh_old_key_idx ON public.reading_event_p1 USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX reading_event_p1_pgh_xact_id_pgh_id_idx ON public.reading_event_p1 USING btree (pgh_xact_id, pgh_id);
CREATE INDEX reading_event_p26_pgh_context_id_idx ON public.reading_event_p26 USING btree (pgh_context_id) WHERE (pgh_context_id IS NOT NULL);
CREATE INDEX reading_event_p26_pgh_obj_id_pgh_id_idx ON public.reading_event_p26 USING btree (pgh_obj_id, pgh_id);
CREATE INDEX reading_event_p26_pgh_old_key_idx ON public.reading_event_p26 USING btree (pgh_old_key) WHERE (pgh_old_key IS NOT NULL);
CREATE INDEX reading_event_p26_pgh_xact_id_pgh_id_idx ON public.reading_event_p26 USING btree (pgh_xact_id, pgh_id);
ALTER INDEX public.ix_pghistory_context_user ATTACH PARTITION public.pghistory_context_p1_expr_idx;
ALTER INDEX public.ix_pghistory_context_parent_id ATTACH PARTITION public.pghistory_context_p1_parent_id_idx;
ALTER INDEX public.pghistory_context_pkey ATTACH PARTITION public.pghistory_context_p1_pkey;
ALTER INDEX public.ix_pghistory_context_user ATTACH PARTITION public.pghistory_context_p20261201_expr_idx;
ALTER INDEX public.ix_pghistory_context_parent_id ATTACH PARTITION public.pghistory_context_p20261201_parent_id_idx;
ALTER INDEX public.pghistory_context_pkey ATTACH PARTITION public.pghistory_context_p20261201_pkey;
ALTER INDEX public.ix_pghistory_context_user ATTACH PARTITION public.pghistory_context_p20270101_expr_idx;
ALTER INDEX public.ix_pghistory_context_parent_id ATTACH PARTITION public.pghistory_context_p20270101_parent_id_idx;
ALTER INDEX public.pghistory_context_pkey ATTACH PARTITION public.pghistory_context_p20270101_pkey;
ALTER INDEX public.ix_reading_event_pgh_context_id ATTACH PARTITION public.reading_event_p1_pgh_context_id_idx;
ALTER INDEX public.ix_reading_event_pgh_obj_id ATTACH PARTITION public.reading_event_p1_pgh_obj_id_pgh_id_idx;
ALTER INDEX public.ix_reading_event_pgh_old_key ATTACH PARTITION public.reading_event_p1_pgh_old_key_idx;
ALTER INDEX public.ix_reading_event_pgh_xact_id ATTACH PARTITION public.reading_event_p1_pgh_xact_id_pgh_id_idx;
ALTER INDEX public.reading_event_pkey ATTACH PARTITION public.reading_event_p1_pkey;
ALTER INDEX public.ix_reading_event_pgh_context_id ATTACH PARTITION public.reading_event_p26_pgh_context_id_idx;
ALTER INDEX public.ix_reading_event_pgh_obj_id ATTACH PARTITION public.reading_event_p26_pgh_obj_id_pgh_id_idx;
ALTER INDEX public.ix_reading_event_pgh_old_key ATTACH PARTITION public.reading_event_p26_pgh_old_key_idx;
ALTER INDEX public.ix_reading_event_pgh_xact_id ATTACH PARTITION public.reading_event_p26_pgh_xact_id_pgh_id_idx;
ALTER INDEX public.reading_event_pkey ATTACH PARTITION public.reading_event_p26_pkey;
CREATE TRIGGER account_event_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.account_event FOR EACH STATEMENT EXECUTE FUNCTION public.pghistory_context_append_only();
COMMENT ON TRIGGER account_event_append_only ON public.account_event IS 'sa_history:127afcd3d6cd41fc';
CREATE TRIGGER account_event_delete AFTER DELETE ON public.account REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.account_event_record();
COMMENT ON TRIGGER account_event_delete ON public.account IS 'sa_history:045a5c0cfd97f8db';
CREATE TRIGGER account_event_insert AFTER INSERT ON public.account REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.account_event_record();
COMMENT ON TRIGGER account_event_insert ON public.account IS 'sa_history:a9c567573730fcc0';
CREATE TRIGGER account_event_truncate BEFORE TRUNCATE ON public.account FOR EACH STATEMENT EXECUTE FUNCTION public.account_event_record();
COMMENT ON TRIGGER account_event_truncate ON public.account IS 'sa_history:5813a481f50aea75';
CREATE TRIGGER account_event_update AFTER UPDATE ON public.account REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.account_event_record();
COMMENT ON TRIGGER account_event_update ON public.account IS 'sa_history:374b8b1285bfa091';
CREATE TRIGGER animal_event_delete AFTER DELETE ON public.animal REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.animal_event_record();
COMMENT ON TRIGGER animal_event_delete ON public.animal IS 'sa_history:c3cc0fcb2df51cf8';
CREATE TRIGGER animal_event_insert AFTER INSERT ON public.animal REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.animal_event_record();
COMMENT ON TRIGGER animal_event_insert ON public.animal IS 'sa_history:bb524258d75f5faa';
CREATE TRIGGER animal_event_truncate BEFORE TRUNCATE ON public.animal FOR EACH STATEMENT EXECUTE FUNCTION public.animal_event_record();
COMMENT ON TRIGGER animal_event_truncate ON public.animal IS 'sa_history:660c184ab32ac759';
CREATE TRIGGER animal_event_update AFTER UPDATE ON public.animal REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.animal_event_record();
COMMENT ON TRIGGER animal_event_update ON public.animal IS 'sa_history:d5ec6d61b3eac015';
CREATE TRIGGER dog_event_delete AFTER DELETE ON public.dog REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.dog_event_record();
COMMENT ON TRIGGER dog_event_delete ON public.dog IS 'sa_history:020648eda8d58630';
CREATE TRIGGER dog_event_insert AFTER INSERT ON public.dog REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.dog_event_record();
COMMENT ON TRIGGER dog_event_insert ON public.dog IS 'sa_history:aeb338b67b5e037d';
CREATE TRIGGER dog_event_truncate BEFORE TRUNCATE ON public.dog FOR EACH STATEMENT EXECUTE FUNCTION public.dog_event_record();
COMMENT ON TRIGGER dog_event_truncate ON public.dog IS 'sa_history:9dab078d685fe4c0';
CREATE TRIGGER dog_event_update AFTER UPDATE ON public.dog REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.dog_event_record();
COMMENT ON TRIGGER dog_event_update ON public.dog IS 'sa_history:73a242efc18c81d5';
CREATE TRIGGER invoice_event_delete AFTER DELETE ON public.invoice REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.invoice_event_record();
COMMENT ON TRIGGER invoice_event_delete ON public.invoice IS 'sa_history:bbf40351f9f7d035';
CREATE TRIGGER invoice_event_insert AFTER INSERT ON public.invoice REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.invoice_event_record();
COMMENT ON TRIGGER invoice_event_insert ON public.invoice IS 'sa_history:7d9170f8e4d7d9d0';
CREATE TRIGGER invoice_event_truncate BEFORE TRUNCATE ON public.invoice FOR EACH STATEMENT EXECUTE FUNCTION public.invoice_event_record();
COMMENT ON TRIGGER invoice_event_truncate ON public.invoice IS 'sa_history:5c4f8c1f263aedaf';
CREATE TRIGGER invoice_event_update AFTER UPDATE ON public.invoice REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.invoice_event_record();
COMMENT ON TRIGGER invoice_event_update ON public.invoice IS 'sa_history:e26f541cb5244e4a';
CREATE TRIGGER invoice_fsm_state_insert BEFORE INSERT ON public.invoice FOR EACH ROW WHEN (((((NULLIF(current_setting('pghistory.ignore'::text, true), ''::text))::jsonb ?| ARRAY['invoice:fsm_state'::text, 'invoice:*'::text, '*:fsm_state'::text]) IS NOT TRUE) AND ((new.state)::text IS DISTINCT FROM 'draft'::text))) EXECUTE FUNCTION public.invoice_fsm_state();
COMMENT ON TRIGGER invoice_fsm_state_insert ON public.invoice IS 'sa_history:1f812c04a16debef';
CREATE TRIGGER invoice_fsm_state_update BEFORE UPDATE ON public.invoice FOR EACH ROW WHEN (((((NULLIF(current_setting('pghistory.ignore'::text, true), ''::text))::jsonb ?| ARRAY['invoice:fsm_state'::text, 'invoice:*'::text, '*:fsm_state'::text]) IS NOT TRUE) AND (((old.state)::text IS DISTINCT FROM (new.state)::text) AND (NOT ((NOT ((old.state)::text IS DISTINCT FROM 'draft'::text)) AND (NOT ((new.state)::text IS DISTINCT FROM 'sent'::text))))))) EXECUTE FUNCTION public.invoice_fsm_state();
COMMENT ON TRIGGER invoice_fsm_state_update ON public.invoice IS 'sa_history:a1aeb5e6e1dd320b';
CREATE TRIGGER invoice_protect_truncate BEFORE TRUNCATE ON public.invoice FOR EACH STATEMENT WHEN ((((NULLIF(current_setting('pghistory.ignore'::text, true), ''::text))::jsonb ?| ARRAY['invoice:protect_truncate'::text, 'invoice:*'::text, '*:protect_truncate'::text]) IS NOT TRUE)) EXECUTE FUNCTION public.invoice_protect_truncate();
COMMENT ON TRIGGER invoice_protect_truncate ON public.invoice IS 'sa_history:d905cf0b13f450df';
CREATE TRIGGER invoice_soft_delete BEFORE DELETE ON public.invoice FOR EACH ROW WHEN ((((NULLIF(current_setting('pghistory.ignore'::text, true), ''::text))::jsonb ?| ARRAY['invoice:soft_delete'::text, 'invoice:*'::text, '*:soft_delete'::text]) IS NOT TRUE)) EXECUTE FUNCTION public.invoice_soft_delete();
COMMENT ON TRIGGER invoice_soft_delete ON public.invoice IS 'sa_history:7b93ff727a4c2bc3';
CREATE TRIGGER invoice_touch_updated_at BEFORE UPDATE ON public.invoice FOR EACH ROW WHEN (((((NULLIF(current_setting('pghistory.ignore'::text, true), ''::text))::jsonb ?| ARRAY['invoice:touch_updated_at'::text, 'invoice:*'::text, '*:touch_updated_at'::text]) IS NOT TRUE) AND ((old.id IS DISTINCT FROM new.id) OR ((old.state)::text IS DISTINCT FROM (new.state)::text) OR (old.version IS DISTINCT FROM new.version) OR (old.is_active IS DISTINCT FROM new.is_active) OR (old.updated_at IS DISTINCT FROM new.updated_at)))) EXECUTE FUNCTION public.invoice_touch_updated_at();
COMMENT ON TRIGGER invoice_touch_updated_at ON public.invoice IS 'sa_history:be44258729810170';
CREATE TRIGGER invoice_versioned BEFORE UPDATE ON public.invoice FOR EACH ROW WHEN (((((NULLIF(current_setting('pghistory.ignore'::text, true), ''::text))::jsonb ?| ARRAY['invoice:versioned'::text, 'invoice:*'::text, '*:versioned'::text]) IS NOT TRUE) AND ((old.id IS DISTINCT FROM new.id) OR ((old.state)::text IS DISTINCT FROM (new.state)::text) OR (old.version IS DISTINCT FROM new.version) OR (old.is_active IS DISTINCT FROM new.is_active) OR (old.updated_at IS DISTINCT FROM new.updated_at)))) EXECUTE FUNCTION public.invoice_versioned();
COMMENT ON TRIGGER invoice_versioned ON public.invoice IS 'sa_history:734909878efda26b';
CREATE TRIGGER line_event_insert_delete AFTER INSERT OR DELETE ON public.line FOR EACH ROW EXECUTE FUNCTION public.line_event_record();
COMMENT ON TRIGGER line_event_insert_delete ON public.line IS 'sa_history:6ddfeff9e3dafb79';
CREATE TRIGGER line_event_truncate BEFORE TRUNCATE ON public.line FOR EACH STATEMENT EXECUTE FUNCTION public.line_event_record();
COMMENT ON TRIGGER line_event_truncate ON public.line IS 'sa_history:817371568fde4c8f';
CREATE TRIGGER line_event_update AFTER UPDATE ON public.line FOR EACH ROW WHEN (((old."order" IS DISTINCT FROM new."order") OR ((old.sku)::text IS DISTINCT FROM (new.sku)::text) OR (old.quantity IS DISTINCT FROM new.quantity))) EXECUTE FUNCTION public.line_event_record();
COMMENT ON TRIGGER line_event_update ON public.line IS 'sa_history:6a2c1f82a786caca';
CREATE TRIGGER reading_event_delete AFTER DELETE ON public.reading REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.reading_event_record();
COMMENT ON TRIGGER reading_event_delete ON public.reading IS 'sa_history:236ce71d84c74e8a';
CREATE TRIGGER reading_event_insert AFTER INSERT ON public.reading REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.reading_event_record();
COMMENT ON TRIGGER reading_event_insert ON public.reading IS 'sa_history:f5f05cc5376b38d6';
CREATE TRIGGER reading_event_truncate BEFORE TRUNCATE ON public.reading FOR EACH STATEMENT EXECUTE FUNCTION public.reading_event_record();
COMMENT ON TRIGGER reading_event_truncate ON public.reading IS 'sa_history:a5553180a7b9c322';
CREATE TRIGGER reading_event_update AFTER UPDATE ON public.reading REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.reading_event_record();
COMMENT ON TRIGGER reading_event_update ON public.reading IS 'sa_history:dc84e24ef5c15190';
ALTER TABLE ONLY public.dog
    ADD CONSTRAINT dog_id_fkey FOREIGN KEY (id) REFERENCES public.animal(id);
ALTER TABLE ONLY public.pghistory_erased
    ADD CONSTRAINT pghistory_erased_erasure_id_fkey FOREIGN KEY (erasure_id) REFERENCES public.pghistory_erasure(id);
ALTER TABLE ONLY public.pghistory_seal_range
    ADD CONSTRAINT pghistory_seal_range_seal_id_fkey FOREIGN KEY (seal_id) REFERENCES public.pghistory_seal(id);
