"""A stand-in for Citus: tables and functions of the names in its catalog.

It is one server, without nodes. What Citus really does is tested by ``nox -s citus``.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import URL

CATALOG = """
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (
  logicalrelid regclass, partmethod "char", repmodel "char", colocationid integer,
  partkey text
);
CREATE TABLE pg_catalog.pg_dist_shard (
  logicalrelid regclass, shardid bigint, shardminvalue text
);
CREATE TABLE pg_catalog.pg_dist_local_group (groupid integer);
INSERT INTO pg_catalog.pg_dist_local_group VALUES (0);
GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard,
  pg_catalog.pg_dist_local_group TO public;
CREATE FUNCTION pg_catalog.column_to_column_name(regclass, text) RETURNS text
  LANGUAGE sql AS 'SELECT $2';
CREATE FUNCTION pg_catalog.create_distributed_table(
  table_name regclass, distribution_column text, colocate_with text DEFAULT 'default'
) RETURNS void LANGUAGE sql AS $$
  DELETE FROM pg_catalog.pg_dist_partition WHERE logicalrelid = $1;
  INSERT INTO pg_catalog.pg_dist_partition
  SELECT $1, 'h', 's', COALESCE(max(p.colocationid), 5), $2
  FROM pg_catalog.pg_dist_partition AS p
  WHERE $3 <> 'default' AND p.logicalrelid = $3::regclass
$$;
CREATE FUNCTION pg_catalog.shard_name(regclass, bigint, boolean) RETURNS text
  LANGUAGE sql AS $$
  SELECT format('%I.%I', relnamespace::regnamespace, relname)
  FROM pg_class WHERE oid = $1 AND NOT $3
$$;
CREATE FUNCTION pg_catalog.get_shard_id_for_distribution_column(
  table_name regclass, distribution_value anyelement
) RETURNS bigint LANGUAGE sql AS $$
  SELECT shardid FROM pg_catalog.pg_dist_shard WHERE logicalrelid = $1
$$;
CREATE FUNCTION pg_catalog.get_shard_id_for_distribution_column(
  table_name regclass
) RETURNS bigint LANGUAGE sql AS $$
  SELECT shardid FROM pg_catalog.pg_dist_shard WHERE logicalrelid = $1
$$;
CREATE FUNCTION pg_catalog.run_command_on_shards(
  table_name regclass, command text,
  OUT shardid bigint, OUT success boolean, OUT result text
) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
  FOR shardid IN
    SELECT s.shardid FROM pg_catalog.pg_dist_shard AS s WHERE s.logicalrelid = $1
  LOOP
    success := shardid > 0;
    EXECUTE format(command, format('shards.%s_%s', $1, abs(shardid))) INTO result;
    RETURN NEXT;
  END LOOP;
END
$$;
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(
  command text, OUT nodeid integer, OUT success boolean, OUT result text
) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
  nodeid := 1;
  success := COALESCE(current_setting('test.answers', true), '') <> 'no';
  result := 'no connection';
  IF success THEN
    EXECUTE command INTO result;
  END IF;
  RETURN NEXT;
END
$$;
CREATE FUNCTION pg_catalog.citus_total_relation_size(regclass) RETURNS bigint
  LANGUAGE sql AS 'SELECT 1000000 + length($1::text)';
CREATE FUNCTION pg_catalog.citus_get_node_clock() RETURNS text LANGUAGE sql AS $$
  SELECT format('(%s,%s)', us / 1000, us % 1000)
  FROM CAST(EXTRACT(epoch FROM clock_timestamp()) * 1000000 AS bigint) AS us
$$;
CREATE FUNCTION pg_catalog.get_current_transaction_id(
  OUT initiator_node_identifier integer, OUT transaction_number bigint,
  OUT transaction_stamp timestamptz
) LANGUAGE sql AS $$
  SELECT 257, COALESCE(NULLIF(current_setting('test.number', true), ''), '0')::bigint,
    '2026-01-02 03:04:05.678901+00'::timestamptz
$$;
"""

NO_CATALOG = """
SET allow_system_table_mods = on;
DROP TABLE pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard,
  pg_catalog.pg_dist_local_group;
DROP FUNCTION pg_catalog.column_to_column_name, pg_catalog.create_distributed_table,
  pg_catalog.shard_name, pg_catalog.run_command_on_shards,
  pg_catalog.get_shard_id_for_distribution_column(regclass, anyelement),
  pg_catalog.get_shard_id_for_distribution_column(regclass),
  pg_catalog.run_command_on_all_nodes,
  pg_catalog.citus_total_relation_size, pg_catalog.citus_get_node_clock,
  pg_catalog.get_current_transaction_id;
"""


@pytest.fixture
def citus_url(pg_url: URL) -> Iterator[URL]:
    """The test's database, with what stands in for Citus."""
    dsn = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(CATALOG)
        yield pg_url
        connection.execute(NO_CATALOG)
