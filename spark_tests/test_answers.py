"""The same questions to the database and to Spark have the same answers, row by row."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

import sa_history as history
import sa_history.spark as history_spark
from benchmarks.archive_questions import (
    QUESTIONS,
    ByDuckDB,
    ByPostgreSQL,
    BySpark,
    answer,
    choose,
    in_order,
)
from spark_tests.conftest import EVENTS, Archive


@pytest.mark.parametrize("question", QUESTIONS)
def test_spark_and_duckdb_answer_what_the_database_answers(
    spark: Any, archive: Archive, question: str
) -> None:
    import duckdb

    account, folder = archive.account, archive.folder
    with Session(archive.engine) as session:
        about = choose(session, account, EVENTS)
        expected = in_order(answer(ByPostgreSQL(session, account, about), question))
    assert expected
    by_spark = BySpark(spark, folder, account, about)
    assert in_order(answer(by_spark, question)) == expected
    views = duckdb.connect()
    views.execute("SET TimeZone = 'UTC'")
    with history.archived(folder, archive.base, live=archive.engine) as archived:
        views.execute(archived.sql())
        by_duckdb = ByDuckDB(archived, views, account, about)
        assert in_order(answer(by_duckdb, question)) == expected


@pytest.mark.parametrize("day", [40, 365, 550, 700])
def test_all_rows_are_as_they_were_at_several_times(
    spark: Any, archive: Archive, day: int
) -> None:
    start = datetime.datetime(2024, 12, 1, tzinfo=datetime.timezone.utc)
    when = start + datetime.timedelta(days=day, seconds=7)
    table = archive.account.__table__
    with Session(archive.engine) as session, history.as_of(session, when) as past:
        expected = sorted(map(tuple, past.execute(select(table))))
    then = history_spark.as_of(spark, archive.folder, archive.account, when)
    assert sorted(map(tuple, then.collect())) == expected


def test_views_answer_in_sql(spark: Any, archive: Archive) -> None:
    names = history_spark.register(spark, archive.folder, archive.base)
    assert names == ["account_event", "pghistory_context"]
    when = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
    then = history_spark.as_of(spark, archive.folder, archive.account, when)
    found = spark.sql(
        "SELECT * FROM account_as_of(TIMESTAMP '2026-03-01 01:00:00+01:00')"
    )
    assert sorted(map(tuple, found.collect())) == sorted(map(tuple, then.collect()))
    moved = spark.sql(
        "SELECT count(*) FROM account_event_with_previous WHERE previous_id <> id"
    )
    with archive.engine.connect() as connection:
        expected = connection.exec_driver_sql(
            "SELECT count(*) FROM account_event WHERE pgh_old_key IS NOT NULL"
        ).scalar()
    assert moved.collect() == [(expected,)]
    with_context = spark.sql(
        "SELECT count(*) FROM account_event_with_context WHERE pgh_context IS NOT NULL"
    )
    assert with_context.collect() == [(_contexts(archive),)]


def _contexts(archive: Archive) -> int:
    with archive.engine.connect() as connection:
        counted = "SELECT count(pgh_context_id) FROM account_event"
        return int(connection.exec_driver_sql(counted).scalar() or 0)


def test_contexts_are_a_data_frame(spark: Any, archive: Archive) -> None:
    found = history_spark.contexts(spark, archive.folder, archive.base)
    with archive.engine.connect() as connection:
        expected = connection.exec_driver_sql(
            "SELECT id::text, metadata::text FROM pghistory_context"
        ).all()
    rows = found.select("id", "metadata").collect()
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))
