"""Queries that read what a table has besides its rows, to give it to another table.

Each takes the parameter ``oid``, that of the table. Definitions come as PostgreSQL
writes them, with all names qualified if the ``search_path`` is empty.
"""

from __future__ import annotations

TABLE = """
SELECT c.oid, c.relkind::text AS kind, c.relpersistence::text AS persistence,
  c.relispartition AS is_partition, r.rolname AS owner,
  c.relrowsecurity AS has_policies,
  obj_description(c.oid, 'pg_class') AS comment, t.spcname AS tablespace
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
LEFT JOIN pg_catalog.pg_tablespace AS t ON t.oid = c.reltablespace
WHERE n.nspname = :schema AND c.relname = :name
"""
"""The table of a name, given by ``schema`` and ``name``."""

COPIED_COLUMNS = """
SELECT a.attname::text
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name AND a.attnum > 0
  AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
ORDER BY a.attnum
"""
"""The columns of a table, given by ``schema`` and ``name``, that can be given a value.

What copies rows names them: two partitions may have them in different orders, and the
database computes those that are left out.
"""

DEPENDENT = """
SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_class AS c ON c.oid = CAST(:oid AS oid)
LEFT JOIN pg_catalog.pg_class AS r
  ON d.classid = 'pg_catalog.pg_class'::regclass AND r.oid = d.objid
LEFT JOIN pg_catalog.pg_rewrite AS w
  ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_catalog.pg_class AS v ON v.oid = w.ev_class
LEFT JOIN pg_catalog.pg_type AS y ON y.oid = c.reltype
WHERE d.deptype IN ('n', 'a')
  AND (
    (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid)
    OR (
      d.refclassid = 'pg_catalog.pg_type'::regclass
      AND d.refobjid IN (y.oid, y.typarray)
    )
  )
  AND d.classid NOT IN (
    'pg_catalog.pg_attrdef'::regclass, 'pg_catalog.pg_constraint'::regclass,
    'pg_catalog.pg_trigger'::regclass, 'pg_catalog.pg_statistic_ext'::regclass
  )
  AND (r.oid IS NULL OR NOT (r.relkind IN ('i', 'I', 'S') OR r.relispartition))
  AND (v.oid IS NULL OR v.relkind <> 'v')
ORDER BY 1
"""
"""What depends on a table and cannot be given to another one, in words.

Indexes, constraints, triggers, views and owned sequences can.
"""

VERSION = """
SELECT concat_ws(
  ' ', c.relacl,
  ARRAY(
    SELECT concat_ws(' ', a.attnum, a.attacl)
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL
    ORDER BY a.attnum
  ),
  ARRAY(
    SELECT concat_ws(
      ' ', d.classid, d.objid, d.objsubid, d.refobjsubid, d.deptype,
      r.xmin, w.xmin, v.xmin
    )
    FROM pg_catalog.pg_depend AS d
    LEFT JOIN pg_catalog.pg_class AS r
      ON d.classid = 'pg_catalog.pg_class'::regclass AND r.oid = d.objid
    LEFT JOIN pg_catalog.pg_rewrite AS w
      ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = d.objid
    LEFT JOIN pg_catalog.pg_class AS v ON v.oid = w.ev_class
    LEFT JOIN pg_catalog.pg_type AS y ON y.oid = c.reltype
    WHERE (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid)
      OR (
        d.refclassid = 'pg_catalog.pg_type'::regclass
        AND d.refobjid IN (y.oid, y.typarray)
      )
    ORDER BY 1
  )
)
FROM pg_catalog.pg_class AS c
WHERE c.oid = :oid
"""
"""What others can change of a table that is locked against DDL, as a text.

They grant privileges, and make or replace views and functions, without its lock.
"""

UNIQUE_WITHOUT = """
SELECT c.relname
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = :key
WHERE i.indrelid = :oid AND (i.indisunique OR i.indisexclusion)
  AND NOT a.attnum = ANY (i.indkey)
ORDER BY 1
"""
"""The unique indexes of a table that do not have the column ``key``."""

GRANTS = """
SELECT r.rolname AS grantee, x.privilege_type AS privilege, g.column_name,
  x.is_grantable
FROM (
  SELECT c.relowner, c.relacl AS acl, NULL AS column_name
  FROM pg_catalog.pg_class AS c
  WHERE c.oid = :oid
  UNION ALL
  SELECT c.relowner, a.attacl, a.attname::text
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
  WHERE c.oid = :oid AND NOT a.attisdropped
) AS g
CROSS JOIN LATERAL aclexplode(g.acl) AS x
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
WHERE x.grantee <> g.relowner
ORDER BY 1, 3, 2
"""
"""Who but the owner has which privilege; the grantee is NULL for PUBLIC."""

INDEXES = """
SELECT c.relname AS name, k.conname AS constraint_name,
  pg_get_constraintdef(k.oid) AS constraint_definition,
  pg_get_indexdef(i.indexrelid) AS definition,
  obj_description(i.indexrelid, 'pg_class') AS comment,
  ARRAY(
    SELECT pg_get_indexdef(i.indexrelid, number, true)
    FROM generate_series(1, i.indnatts) AS number
  ) AS parts,
  concat_ws(
    ' ', i.indisunique, i.indclass, i.indoption, i.indnkeyatts,
    pg_get_expr(i.indpred, i.indrelid)
  ) AS further
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint AS k
  ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
  AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = :oid
ORDER BY c.oid
"""

FOREIGN_KEYS = """
SELECT n.nspname AS schema, c.relname AS name, k.conname AS constraint_name,
  pg_get_constraintdef(k.oid) AS definition, k.convalidated AS is_validated,
  ARRAY(
    SELECT a.attname::text
    FROM unnest(k.conkey) WITH ORDINALITY AS part (number, place)
    JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = k.conrelid AND a.attnum = part.number
    ORDER BY part.place
  ) AS columns,
  ARRAY(
    SELECT a.attname::text
    FROM unnest(k.confkey) WITH ORDINALITY AS part (number, place)
    JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = k.confrelid AND a.attnum = part.number
    ORDER BY part.place
  ) AS referred
FROM pg_catalog.pg_constraint AS k
JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE k.confrelid = :oid AND k.contype = 'f' AND k.conparentid = 0
ORDER BY k.oid
"""
"""The foreign keys of tables that refer to the table."""

OWN_FOREIGN_KEYS = """
SELECT k.conname AS constraint_name, pg_get_constraintdef(k.oid) AS definition
FROM pg_catalog.pg_constraint AS k
WHERE k.conrelid = :oid AND k.contype = 'f' AND k.conparentid = 0
ORDER BY k.oid
"""

TRIGGERS = """
SELECT t.tgname AS name, pg_get_triggerdef(t.oid) AS definition,
  t.tgenabled::text AS enabled, t.tgtype::integer & 1 = 1 AS is_for_rows,
  obj_description(t.oid, 'pg_trigger') AS comment
FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = :oid AND NOT t.tgisinternal
ORDER BY t.oid
"""

ENABLED_TRIGGERS = """
SELECT t.tgname::text AS name, t.tgenabled::text AS enabled
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name
  AND NOT t.tgisinternal AND t.tgenabled <> 'D'
ORDER BY t.oid
"""
"""The triggers of a table, given by ``schema`` and ``name``, that are not disabled."""

VIEWS = """
SELECT DISTINCT v.oid, n.nspname AS schema, v.relname AS name,
  pg_get_viewdef(v.oid) AS definition, v.reloptions AS options
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_rewrite AS w ON w.oid = d.objid
JOIN pg_catalog.pg_class AS v ON v.oid = w.ev_class
JOIN pg_catalog.pg_namespace AS n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass
  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = :oid
  AND v.relkind = 'v'
ORDER BY v.oid
"""
"""The views that read the table."""

SEQUENCES = """
SELECT n.nspname AS schema, s.relname AS name, a.attname AS column_name
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_namespace AS n ON n.oid = s.relnamespace
JOIN pg_catalog.pg_attribute AS a
  ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'a'
  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = :oid
ORDER BY s.oid
"""
"""The sequences that columns of the table own."""

STATISTICS = """
SELECT a.attname AS name, a.attstattarget AS target
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attstattarget >= 0
ORDER BY a.attnum
"""
"""The columns whose statistics are not collected with the default target."""

CHECK = """
SELECT k.convalidated
FROM pg_catalog.pg_constraint AS k
WHERE k.conrelid = :oid AND k.contype = 'c' AND k.conname = :name
"""
"""Whether a constraint of the table is validated; no row if it does not have it."""
