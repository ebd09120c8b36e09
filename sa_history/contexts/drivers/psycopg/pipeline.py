"""What psycopg's pipelines lack: an end for poolers too, and after an interruption."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.generators import send


@contextmanager
def close_if_in_pipeline(connection: Any) -> Iterator[None]:
    """Close a connection that an error leaves in a pipeline which the block began.

    psycopg leaves it there if the server has gone, or if gevent has interrupted the
    wait. It then raises that the pipeline cannot be ended, in place of what has
    happened, and SQLAlchemy would keep the connection for a good one.

    :param connection: psycopg's connection, sync or async.
    :raises BaseException: the interruption.
    """
    in_pipeline = connection.pgconn.pipeline_status
    handled = sys.exc_info()[1]  # if this is done in an except clause
    try:
        yield
    except BaseException as error:
        if connection.pgconn.pipeline_status and not in_pipeline:
            connection.pgconn.finish()
            cause: BaseException | None = error
            while cause is not None and cause is not handled:
                if not isinstance(cause, Exception):
                    raise cause  # noqa: B904 (it is where the error comes from)
                cause = cause.__context__
        raise


def end_with_sync(pipeline: Any) -> None:
    """Have a pipeline of psycopg send nothing after the Sync that ends it.

    psycopg adds a Flush. If a transaction ends with the pipeline, a pooler may have
    given the server's connection to others by then. PgBouncer takes the Flush for the
    first message of another statement, and keeps a connection for this client until
    that statement comes, be it in an hour.

    :param pipeline: one that has just begun, sync or async.
    """
    is_async = isinstance(pipeline, psycopg.AsyncPipeline)
    pipeline.__class__ = _AsyncPipeline if is_async else _Pipeline


class _EndedBySync:
    pgconn: Any
    _enqueue_sync: Any
    _communicate_gen: Any
    _fetch_gen: Any

    def _exit_gen(self) -> Generator[Any, Any, None]:
        try:
            self._enqueue_sync()
            yield from self._communicate_gen()
        except Exception:  # not GeneratorExit: then nobody waits for answers any more
            yield from self._fetch_rest()
            raise
        yield from self._fetch_rest()

    def _fetch_rest(self) -> Generator[Any, Any, None]:
        # The Flush had this done: a long statement may not have left us yet.
        yield from send(self.pgconn)
        yield from self._fetch_gen(flush=False)


class _Pipeline(_EndedBySync, psycopg.Pipeline):
    pass


class _AsyncPipeline(_EndedBySync, psycopg.AsyncPipeline):
    pass
