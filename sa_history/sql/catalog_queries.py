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
  AND (CAST(:relations AS text[]) IS NULL OR c.relname = ANY (:relations))
  AND (d.description IS NOT NULL OR fd.description IS NOT NULL)
ORDER BY t.oid
"""
"""Triggers that are marked, or call a function that is, of all relations or some.

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
  leaf.relkind = 'f' AS is_foreign,
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

RANGE_PARTITIONS = """
SELECT n.nspname AS schema, c.relname AS name,
  pn.nspname AS partition_schema, p.relname AS partition, p.relkind::text AS kind,
  pg_get_expr(p.relpartbound, 0) AS bounds, i.inhdetachpending AS is_detaching,
  k.convalidated AS is_validated,
  (
    regexp_match(k.definition, '>= ''([^'']+)''::timestamp with')
  )[1]::timestamptz AS since,
  (
    regexp_match(k.definition, '<= ''([^'']+)''::timestamp with')
  )[1]::timestamptz AS until,
  CASE WHEN p.relowner <> c.relowner THEN pg_get_userbyid(c.relowner)::text END
    AS owner,
  ARRAY(
    SELECT DISTINCT r.rolname::text
    FROM aclexplode(p.relacl) AS x
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
    WHERE x.grantee NOT IN (p.relowner, c.relowner)
    ORDER BY 1
  ) AS grantees,
  obj_description(p.oid, 'pg_class') AS comment
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits AS i ON i.inhparent = c.oid
LEFT JOIN pg_catalog.pg_class AS p ON p.oid = i.inhrelid
LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
LEFT JOIN LATERAL (
  SELECT own.convalidated, pg_get_constraintdef(own.oid) AS definition
  FROM pg_catalog.pg_constraint AS own
  WHERE own.conrelid = p.oid AND own.contype = 'c' AND own.conname = :time_check
  OFFSET 0
) AS k ON true
WHERE n.nspname = ANY (:schemas) AND c.relkind = 'p' AND NOT c.relispartition
  AND (CAST(:tables AS text[]) IS NULL OR c.relname = ANY (:tables))
ORDER BY n.nspname, c.relname, p.relname
"""
"""The partitions of all tables or of some, with their bounds as text.

A table without partitions has one row. Bounds are constants; with the OID of the table,
``pg_get_expr`` would lock it. The times of a closed partition are those of its
constraint, which PostgreSQL writes and reads by the same settings; by ``OFFSET 0`` it
writes each once.
"""

TABLES_BY_COMMENT = """
SELECT n.nspname AS schema, c.relname AS name, d.description AS comment
FROM pg_catalog.pg_description AS d
JOIN pg_catalog.pg_class AS c ON c.oid = d.objoid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
  AND d.description = ANY (:comments)
  AND c.relkind = 'r' AND NOT c.relispartition AND n.nspname = ANY (:schemas)
ORDER BY n.nspname, c.relname
"""
"""The tables, but for partitions, with one of some comments."""

DETACHED_PARTITIONS = """
SELECT w.number, n.nspname AS schema, c.relname AS name, d.description AS comment,
  has_table_privilege(c.oid, 'SELECT') AS is_readable, a.names AS columns
FROM unnest(
  CAST(:comments AS text[]), CAST(:schemas AS text[]), CAST(:tables AS text[]),
  CAST(:begins AS text[]), CAST(:ends AS text[]), CAST(:columns AS text[])
) WITH ORDINALITY AS w (comment, schema, name, begins, ends, columns, number)
JOIN pg_catalog.pg_class AS c ON c.relkind = 'r' AND NOT c.relispartition
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_description AS d ON d.objoid = c.oid AND d.objsubid = 0
  AND d.classoid = 'pg_catalog.pg_class'::regclass
CROSS JOIN LATERAL (
  SELECT array_agg(a.attname::text) AS names FROM pg_catalog.pg_attribute AS a
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
) AS a
WHERE n.nspname !~ '^pg_'
  AND (d.description IN (w.comment, :removed || w.comment) OR (
    n.nspname = w.schema AND starts_with(c.relname::text, w.begins)
    AND right(c.relname::text, length(w.ends)) = w.ends
  ))
  AND (n.nspname = w.schema OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_class AS o
    WHERE o.relnamespace = n.oid AND o.relname = w.name
  ))
  AND a.names @> string_to_array(w.columns, ',')
ORDER BY w.number, n.nspname, c.relname
"""
"""The tables that were partitions of others: by their comments, or by their names.

One in a schema that has a table of the other's name is taken for a partition of that.
"""

SIZES = """
SELECT n.nspname AS schema, c.relname AS name, c.reltuples::bigint AS rows,
  pg_total_relation_size(c.oid) AS bytes
FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])) AS wanted (schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.name
"""
"""How large relations are; -1 rows if there are no statistics."""

READABLE = """
SELECT n.nspname AS schema, c.relname AS name
FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])) AS wanted (schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.name
WHERE has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
"""
"""Which of some tables and sequences the user may read."""

CHILDREN = """
SELECT n.nspname AS schema, c.relname AS name, c.relispartition AS is_partition,
  pn.nspname AS parent_schema, p.relname AS parent
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
WHERE n.nspname = ANY (:schemas)
ORDER BY n.nspname, c.relname, pn.nspname, p.relname
"""
"""The tables that are partitions, or inherit from others."""

FOREIGN_KEYS = """
SELECT n.nspname AS schema, c.relname AS name,
  pn.nspname AS parent_schema, p.relname AS parent,
  k.confdeltype = 'c' AS deletes,
  k.confdeltype IN ('n', 'd') OR k.confupdtype IN ('c', 'n', 'd') AS updates
FROM pg_catalog.pg_constraint AS k
JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class AS p ON p.oid = k.confrelid
JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname = ANY (:schemas)
"""
"""What foreign keys do to the rows of their tables.

Those that PostgreSQL has cloned, for partitions, are left out: each is one with that of
the partitioned table.
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
  AND (CAST(:tables AS text[]) IS NULL OR c.relname = ANY (:tables))
"""
"""The tables and views, or those of some names, with the names of their columns."""

COLUMNS_OF_OTHER_TYPES = """
SELECT w.number, a.attname AS name,
  format_type(a.atttypid, a.atttypmod) AS type,
  COALESCE(b.typname, t.typname)::text AS base,
  CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier,
  format_type(e.atttypid, e.atttypmod) AS event_type,
  COALESCE(eb.typname, et.typname)::text AS event_base,
  CASE WHEN et.typtype = 'd' THEN et.typtypmod ELSE e.atttypmod END AS event_modifier
FROM unnest(
  CAST(:schemas AS text[]), CAST(:tables AS text[]),
  CAST(:event_schemas AS text[]), CAST(:event_tables AS text[])
) WITH ORDINALITY AS w (schema, name, event_schema, event_name, number)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_namespace AS en ON en.nspname = w.event_schema
JOIN pg_catalog.pg_class AS ec
  ON ec.relnamespace = en.oid AND ec.relname = w.event_name
JOIN pg_catalog.pg_attribute AS a
  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_attribute AS e
  ON e.attrelid = ec.oid AND e.attnum > 0 AND e.attname = a.attname
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type AS et ON et.oid = e.atttypid
LEFT JOIN pg_catalog.pg_type AS b ON b.oid = t.typbasetype
LEFT JOIN pg_catalog.pg_type AS eb ON eb.oid = et.typbasetype
WHERE (e.atttypid, e.atttypmod) <> (a.atttypid, a.atttypmod)
ORDER BY w.number, a.attnum
"""
"""The columns of tables beside those of their names in others, if of another type.

A domain is what it is made of.
"""

GENERATED_COLUMNS = """
SELECT n.nspname AS schema, c.relname AS name, a.attname AS column,
  CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END AS kind
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (:schemas) AND a.attgenerated <> '' AND NOT a.attisdropped
"""
"""The generated columns of tables, with their kind."""

SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace
WHERE nspname <> 'information_schema' AND NOT nspname LIKE 'pg\\_%'
ORDER BY nspname
"""
"""Where objects of ours may be."""

ROLE = """
WITH guarded AS (
  SELECT * FROM unnest(
    CAST(:kinds AS text[]), CAST(:schemas AS text[]), CAST(:names AS text[])
  ) AS g (kind, schema, name)
), owned AS (
  SELECT format('%s.%s', g.schema, g.name) AS name, c.relowner AS owner
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.name
  WHERE g.kind IN ('TABLE', 'SEQUENCE')
  UNION ALL
  SELECT format('function %s.%s', g.schema, g.name), p.proowner
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = g.name
  WHERE g.kind = 'FUNCTION'
  UNION ALL
  -- The owner of a schema can drop what is in there.
  SELECT format('schema %s', g.schema), n.nspowner
  FROM guarded AS g JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
)
SELECT r.rolsuper AS is_superuser,
  (
    SELECT min(other.rolname::text) FROM pg_catalog.pg_roles AS other
    WHERE other.rolsuper AND pg_has_role(r.oid, other.oid, 'MEMBER')
  ) AS superuser,
  ARRAY(
    SELECT DISTINCT owned.name FROM owned
    WHERE pg_has_role(r.oid, owned.owner, 'MEMBER') ORDER BY 1
  ) AS owns
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = :role
"""
"""Whether a role can do anything, and what of some objects is its own."""

GRANTS = """
WITH guarded AS (
  SELECT * FROM unnest(
    CAST(:kinds AS text[]), CAST(:schemas AS text[]), CAST(:names AS text[])
  ) AS g (kind, schema, name)
), granted AS (
  SELECT g.*, '' AS column, c.relowner AS owner, c.relacl AS acl
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.name
  WHERE g.kind IN ('TABLE', 'SEQUENCE')
  UNION ALL
  SELECT g.*, a.attname::text, c.relowner, a.attacl
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.name
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
  WHERE g.kind = 'TABLE' AND NOT a.attisdropped AND a.attacl IS NOT NULL
  UNION ALL
  SELECT g.*, '', p.proowner, COALESCE(p.proacl, acldefault('f', p.proowner))
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = g.name
  WHERE g.kind = 'FUNCTION'
  UNION ALL
  SELECT g.*, '', n.nspowner, COALESCE(n.nspacl, acldefault('n', n.nspowner))
  FROM guarded AS g JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  WHERE g.kind = 'SCHEMA'
)
SELECT DISTINCT g.kind, g.schema, g.name, g.column, x.privilege_type AS privilege,
  x.grantee = 0 AS to_public, x.is_grantable
FROM granted AS g
CROSS JOIN LATERAL aclexplode(g.acl) AS x
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
WHERE x.grantor = g.owner AND (x.grantee = 0 OR r.rolname = :role)
ORDER BY 1, 2, 3, 4, 6, 5
"""
"""What the owners of some objects have granted to a role and to PUBLIC."""

STILL = """
WITH RECURSIVE reached AS (
  SELECT other.oid, other.rolname, other.oid = r.oid AS is_itself
  FROM pg_catalog.pg_roles AS r
  JOIN pg_catalog.pg_roles AS other ON pg_has_role(r.oid, other.oid, 'MEMBER')
  WHERE r.rolname = :role
), guarded AS (
  SELECT * FROM unnest(
    CAST(:kinds AS text[]), CAST(:schemas AS text[]), CAST(:names AS text[]),
    CAST(:privileges AS text[])
  ) AS g (kind, schema, name, privilege)
), relation AS (
  SELECT c.oid, g.kind, g.privilege, g.kind = 'PARTITIONS' AS is_spared
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.name
  WHERE g.kind IN ('TABLE', 'SEQUENCE', 'PARTITIONS')
  UNION
  SELECT i.inhrelid, p.kind, p.privilege, false
  FROM relation AS p JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.oid
), may AS (
  SELECT format('%s on %s', g.privilege, g.oid::regclass) AS what, r.*
  FROM relation AS g CROSS JOIN reached AS r
  WHERE NOT g.is_spared AND CASE
    WHEN g.kind = 'SEQUENCE' THEN has_sequence_privilege(r.oid, g.oid, g.privilege)
    WHEN g.privilege IN ('INSERT', 'UPDATE', 'REFERENCES')
    THEN has_any_column_privilege(r.oid, g.oid, g.privilege)
    ELSE has_table_privilege(r.oid, g.oid, g.privilege)
  END
  UNION ALL
  SELECT format('EXECUTE on function %s', p.oid::regproc), r.*
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = g.name
  CROSS JOIN reached AS r
  WHERE g.kind = 'FUNCTION' AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
  UNION ALL
  SELECT format('CREATE on schema %s', g.schema), r.*
  FROM guarded AS g
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = g.schema
  CROSS JOIN reached AS r
  WHERE g.kind = 'SCHEMA' AND has_schema_privilege(r.oid, n.oid, 'CREATE')
  UNION ALL
  SELECT format('%s on parameter %s', g.privilege, g.name), r.*
  FROM guarded AS g CROSS JOIN reached AS r
  WHERE g.kind = 'PARAMETER' AND has_parameter_privilege(r.oid, g.name, g.privilege)
  UNION ALL
  SELECT format('membership in %I', r.rolname), r.oid, r.rolname, true
  FROM guarded AS g JOIN reached AS r ON r.rolname = g.name
  WHERE g.kind = 'ROLE'
  UNION ALL
  SELECT format('ownership of subscription %I', s.subname), r.*
  FROM pg_catalog.pg_subscription AS s
  JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid
  JOIN reached AS r ON r.oid = s.subowner
  WHERE d.datname = current_database()
  UNION ALL
  SELECT 'CREATEROLE', r.*
  FROM reached AS r JOIN pg_catalog.pg_roles AS a ON a.oid = r.oid
  WHERE a.rolcreaterole AND current_setting('server_version_num')::int < 160000
  UNION ALL
  SELECT 'the setting session_replication_role = replica', r.*
  FROM pg_catalog.pg_db_role_setting AS s
  CROSS JOIN LATERAL unnest(s.setconfig) AS value
  JOIN reached AS r ON r.is_itself AND s.setrole IN (0, r.oid)
  WHERE lower(value) = 'session_replication_role=replica' AND s.setdatabase IN (
    SELECT 0 UNION ALL SELECT oid FROM pg_catalog.pg_database
    WHERE datname = current_database()
  )
)
SELECT what || COALESCE(
  ' as ' || min(rolname::text) FILTER (WHERE NOT is_itself), ''
) FROM may GROUP BY what ORDER BY 1
"""
"""What a role may do to some objects, as itself or as another role that it can be.

Of a table that means its partitions, too; of ``PARTITIONS``, these alone. ``PARAMETER``
is a parameter of the server, and ``ROLE`` a role that the role must not be in.

What applies a subscription runs with ``session_replication_role = replica``. Before
PostgreSQL 16 a role with CREATEROLE could make itself a member of any role that is no
superuser.
"""

SERVER = """
SELECT current_schema() AS schema,
  to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL AS has_citus
"""
"""The schema in which objects are created, and whether the database has Citus."""

CITUS_TABLES = """
SELECT n.nspname AS schema, c.relname AS name, p.partmethod AS method,
  p.repmodel AS replication, p.colocationid AS colocation,
  c.relkind = 'p' AS is_partitioned,
  column_to_column_name(p.logicalrelid, p.partkey) AS column
FROM pg_catalog.pg_dist_partition AS p
JOIN pg_catalog.pg_class AS c ON c.oid = p.logicalrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (:schemas)
"""
"""The tables that Citus manages; only where the database has Citus.

https://docs.citusdata.com/en/stable/develop/api_metadata.html#partition-table
"""

SIZE_ON_NODES = """
SELECT citus_total_relation_size(to_regclass(CAST(:table AS text)))
"""
"""How large a table that Citus manages is, with its indexes, on all nodes.

https://docs.citusdata.com/en/stable/develop/api_udf.html#citus-total-relation-size
"""

TABLE_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
  t.typname AS type_name, tn.nspname AS type_schema, a.atttypmod AS modifier
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.typnamespace
WHERE n.nspname = :schema AND c.relname = :table
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
"""The columns of one table, in their order."""

SHARD_TRIGGERS = """
SELECT shardid, success, result
FROM run_command_on_shards(CAST(:table AS regclass), :command)
ORDER BY shardid
"""
"""What a command says of each shard of a table that Citus distributes.

https://docs.citusdata.com/en/stable/develop/api_udf.html#run-command-on-shards
"""

COORDINATOR = 0
"""The number of the node that is the coordinator."""

LOCAL_NODE = "SELECT groupid FROM pg_catalog.pg_dist_local_group"
"""The number of the node that is connected to."""

COMMAND_ON_NODES = """
SELECT current_setting('transaction_isolation') AS isolation,
  pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all, nodeid, success, result
FROM run_command_on_all_nodes(:command)
"""
"""What a command says on each node of Citus, and whether it can say all there is.

https://docs.citusdata.com/en/stable/develop/api_udf.html
"""

SESSIONS_ON_NODE = """
SELECT json_build_object(
  'node', (SELECT groupid FROM pg_dist_local_group),
  'now', (EXTRACT(epoch FROM clock_timestamp()) * 1000000)::bigint,
  'sessions',
  json_object_agg(pid, (EXTRACT(epoch FROM xact_start) * 1000000)::bigint)
)
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type <> 'autovacuum worker'
  AND xact_start IS NOT NULL
"""
"""The sessions of a node that are in a transaction, each with when that began.

The session that asks is one of them; a background worker may write, too. Times are in
microseconds.
"""

PREPARED_ON_NODE = """
SELECT json_build_object(
  'node', (SELECT groupid FROM pg_dist_local_group),
  'prepared', COALESCE(json_agg(json_build_array(
    split_part(gid, '_', 2)::bigint, split_part(gid, '_', 3)::bigint,
    (EXTRACT(epoch FROM prepared) * 1000000)::bigint
  )), '[]')
)
FROM pg_prepared_xacts
WHERE database = current_database() AND gid LIKE 'citus\\_%'
"""
"""The transactions that Citus has prepared on a node.

Each with the node and the process of its session, and when it was prepared.
"""
