"""Queries that read what is installed; they write nothing.

What is marked as ours is told by the parameter ``mark``, a pattern of the comment on
it; where to look, by ``schemas``. They lock nothing, unless ``definitions`` is true:
the functions of PostgreSQL that give a definition back lock the table like a SELECT,
and so wait for who changes it.
"""

from __future__ import annotations

FUNCTIONS = """
SELECT n.nspname AS schema, p.proname AS name, p.prosrc AS source,
  p.prosecdef AS definer, p.proconfig AS settings,
  pg_get_function_identity_arguments(p.oid) AS arguments,
  pg_get_functiondef(p.oid) AS definition, d.description AS mark
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_description AS d
  ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_proc'::regclass
WHERE n.nspname = ANY (:schemas) AND d.description LIKE :mark
ORDER BY p.oid
"""

TRIGGERS = """
SELECT n.nspname AS schema, c.relname AS relation, t.tgname AS name,
  fn.nspname AS function_schema, f.proname AS function,
  t.tgtype AS type, t.tgenabled AS enabled, t.tgqual IS NOT NULL AS has_condition,
  t.tgdeferrable AS deferrable, t.tginitdeferred AS deferred,
  t.tgoldtable AS old_rows, t.tgnewtable AS new_rows,
  ARRAY(
    SELECT a.attname::text
    FROM unnest(t.tgattr) AS number
    JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = t.tgrelid AND a.attnum = number
  ) AS columns,
  ARRAY(
    SELECT DISTINCT a.attname::text
    FROM pg_catalog.pg_depend AS dep
    JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = dep.refobjid AND a.attnum = dep.refobjsubid
    WHERE dep.classid = 'pg_catalog.pg_trigger'::regclass AND dep.objid = t.oid
      AND dep.refclassid = 'pg_catalog.pg_class'::regclass AND dep.refobjsubid > 0
  ) AS depends_on,
  EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attname = 'pgh_label' AND NOT a.attisdropped
  ) AS is_on_events,
  CASE WHEN :definitions THEN pg_get_triggerdef(t.oid) END AS definition,
  d.description AS mark
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc AS f ON f.oid = t.tgfoid
JOIN pg_catalog.pg_namespace AS fn ON fn.oid = f.pronamespace
LEFT JOIN pg_catalog.pg_description AS d
  ON d.objoid = t.oid AND d.classoid = 'pg_catalog.pg_trigger'::regclass
  AND d.description LIKE :mark
LEFT JOIN pg_catalog.pg_description AS fd
  ON fd.objoid = f.oid AND fd.classoid = 'pg_catalog.pg_proc'::regclass
  AND fd.description LIKE :mark
WHERE n.nspname = ANY (:schemas) AND NOT t.tgisinternal AND t.tgparentid = 0
  AND (d.description IS NOT NULL OR fd.description IS NOT NULL)
ORDER BY t.oid
"""
"""Triggers that are marked, or call a function that is.

A trigger that PostgreSQL has cloned to a partition is left out: it goes with the one on
the parent.
"""

RELATIONS = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind AS kind,
  CASE WHEN c.relkind = 'v' AND :definitions THEN pg_get_viewdef(c.oid) END
    AS definition,
  ARRAY(
    SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
  ) AS columns,
  ARRAY(
    SELECT ARRAY[un.nspname, u.relname]::text[]
    FROM pg_catalog.pg_depend AS dep
    JOIN pg_catalog.pg_attrdef AS def ON def.oid = dep.objid
    JOIN pg_catalog.pg_class AS u ON u.oid = def.adrelid
    JOIN pg_catalog.pg_namespace AS un ON un.oid = u.relnamespace
    WHERE dep.refclassid = 'pg_catalog.pg_class'::regclass AND dep.refobjid = c.oid
      AND dep.classid = 'pg_catalog.pg_attrdef'::regclass
  ) AS used_by,
  d.description AS mark
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_description AS d
  ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::regclass
  AND d.objsubid = 0
WHERE n.nspname = ANY (:schemas) AND d.description LIKE :mark
  AND c.relkind IN ('v', 'S')
ORDER BY c.oid
"""
"""Views and sequences; a view comes after those that it reads."""

PARTITIONS = """
WITH RECURSIVE parts (root, part) AS (
  SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits AS i
  UNION ALL
  SELECT parts.root, i.inhrelid
  FROM parts JOIN pg_catalog.pg_inherits AS i ON i.inhparent = parts.part
)
SELECT n.nspname AS schema, c.relname AS name,
  leaf_schema.nspname AS leaf_schema, leaf.relname AS leaf,
  ARRAY(
    SELECT t.tgname::text
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_description AS fd
      ON fd.objoid = t.tgfoid AND fd.classoid = 'pg_catalog.pg_proc'::regclass
      AND fd.description LIKE :mark
    WHERE t.tgrelid = leaf.oid AND t.tgparentid <> 0 AND t.tgenabled = 'D'
    ORDER BY t.tgname
  ) AS disabled
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN parts ON parts.root = c.oid
JOIN pg_catalog.pg_class AS leaf ON leaf.oid = parts.part
JOIN pg_catalog.pg_namespace AS leaf_schema ON leaf_schema.oid = leaf.relnamespace
WHERE n.nspname = ANY (:schemas) AND c.relkind = 'p' AND NOT c.relispartition
  AND leaf.relkind <> 'p'
ORDER BY n.nspname, c.relname, leaf_schema.nspname, leaf.relname
"""
"""The partitions that hold rows, with the triggers of ours that are disabled there.

Not by ``pg_partition_tree``, which locks them.
"""

COLUMNS = """
SELECT n.nspname AS schema, c.relname AS name,
  ARRAY(
    SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  ) AS columns
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (:schemas) AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
"""
"""The tables and views, with the names of their columns."""

SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace
WHERE nspname <> 'information_schema' AND NOT nspname LIKE 'pg\\_%'
ORDER BY nspname
"""
"""Where objects of ours may be."""

ROLE = """
SELECT r.rolsuper AS is_superuser,
  ARRAY(
    SELECT format('%s.%s', n.nspname, c.relname)
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE format('%s.%s', n.nspname, c.relname) = ANY (:tables)
      AND pg_has_role(r.oid, c.relowner, 'MEMBER')
    ORDER BY 1
  ) AS owns
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = :role
"""
"""Whether a role can do anything, and which of some tables are its own."""
