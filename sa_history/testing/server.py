"""A PostgreSQL server that tests create their own databases on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from sa_history.testing.errors import EmbeddedPostgresError


@dataclass(frozen=True)
class PgServer:
    """A server to create scratch databases on; the one in *url* stays untouched.

    >>> url = pg_server.create_database("scratch")
    >>> pg_server.drop_database("scratch")

    :param url: where to connect for creating and dropping databases.
    :param embedded: whether the server is a throw-away one of our own.
    """

    url: URL
    embedded: bool = False

    @classmethod
    def from_url(cls, url: str, *, embedded: bool = False) -> PgServer:
        """Return the server that any spelling of a PostgreSQL URL names.

        >>> PgServer.from_url("postgres://user@host/db").url.drivername
        'postgresql+psycopg'
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            # The value may hold a password, in a place we cannot tell.
            raise EmbeddedPostgresError(
                "the database URL cannot be parsed; set DATABASE_URL to one like"
                " 'postgresql://user:password@host/database', or unset it to have a"
                " server started"
            ) from None
        if parsed.drivername.partition("+")[0] not in ("postgresql", "postgres"):
            raise EmbeddedPostgresError(
                f"the database URL {str(parsed)!r} does not name a PostgreSQL; set"
                " DATABASE_URL to one, or unset it to have a server started"
            )
        return cls(parsed.set(drivername="postgresql+psycopg"), embedded)

    def create_database(self, name: str, template: str | None = None) -> URL:
        """Create a database and return its URL.

        :param template: a database to copy; nobody may be connected to it.
        """
        with self._connect() as connection:
            command = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            if template is not None:
                command += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            # This way costs two checkpoints, which are free where nothing is synced,
            # and saves writing the copy to the log.
            if self.embedded and connection.info.server_version >= 150000:
                command += sql.SQL(" STRATEGY FILE_COPY")
            connection.execute(command)
        return self.url.set(database=name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end the sessions that are in it."""
        command = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        with self._connect() as connection:
            connection.execute(command.format(sql.Identifier(name)))

    def _connect(self) -> psycopg.Connection:
        dialect = self.url.get_dialect()()
        args, kwargs = dialect.create_connect_args(self.url)
        try:
            return psycopg.connect(*args, **kwargs, autocommit=True)
        except psycopg.OperationalError as error:
            raise EmbeddedPostgresError(
                f"cannot connect to {str(self.url)!r}: {error}; {self._advice()}"
            ) from error

    def _advice(self) -> str:
        if not self.embedded:
            return "start that server, or unset DATABASE_URL to have one started"
        # Ours, as PG_BINDIR, have an underscore.
        names = sorted(name for name in os.environ if re.fullmatch("PG[A-Z]+", name))
        return f"unset the variables that libpq obeys, which are {names}"
