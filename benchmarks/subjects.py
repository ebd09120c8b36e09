"""Everything that is measured, by name. Nothing here imports it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path

OURS = "sa_history"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Entry:
    """Where a subject is found.

    :param label: what it is called in the results.
    :param where: its class, as ``module:class`` in this package.
    :param distribution: what has to be installed.
    :param base: the name of the subject that its untracked times are those of.
    :param without: the workloads that it has no part in.
    :param context: whether it has a context to tell.
    :param checkout: the folder whose ``benchmarks`` and ``sa_history`` are run.
    """

    label: str
    where: str
    distribution: str = "SQLAlchemy"
    base: str = "untracked"
    without: tuple[str, ...] = ("grown", "statement", "attached")
    context: bool = True
    checkout: Path = ROOT

    @property
    def version(self) -> str | None:
        """The version that is installed, or None."""
        if self.distribution == OURS:
            return "of this checkout"  # which need not be installed
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


_DJANGO = ("statement", "attached", "startup")

# Where it makes no difference how the context is stored, or no sense.
_WITHOUT_INLINE = (
    *("warmed", "condition", "noop", "wide", "grown"),
    *("remote", "statement", "attached", "startup"),
)

SUBJECTS = {
    "untracked": Entry(
        "untracked", "untracked:Untracked", without=("size",), context=False
    ),
    "by_hand": Entry(
        "by hand", "tracked:ByHand", OURS, without=("statement", "startup")
    ),
    "statement": Entry("sa_history, statement", "tracked:Statement", OURS, without=()),
    "row": Entry(
        "sa_history, row", "tracked:Row", OURS, without=("statement", "attached")
    ),
    "inline_statement": Entry(
        "sa_history, statement, inline",
        "tracked:InlineStatement",
        OURS,
        without=_WITHOUT_INLINE,
    ),
    "inline_row": Entry(
        "sa_history, row, inline", "tracked:InlineRow", OURS, without=_WITHOUT_INLINE
    ),
}

PEERS = {
    "django": Entry(
        "Django, untracked",
        "peers.django_pghistory:Untracked",
        "Django",
        base="django",
        without=("bulk", "warmed", "condition", "noop", "wide", "size", *_DJANGO),
        context=False,
    ),
    "pghistory_row": Entry(
        "django-pghistory, row",
        "peers.django_pghistory:Row",
        "django-pghistory",
        base="django",
        without=_DJANGO,
    ),
    "pghistory_statement": Entry(
        "django-pghistory, statement",
        "peers.django_pghistory:Statement",
        "django-pghistory",
        base="django",
        without=_DJANGO,
    ),
    "postgresql_audit": Entry(
        "postgresql-audit",
        "peers.postgresql_audit:PostgresqlAudit",
        "postgresql-audit",
    ),
    "continuum": Entry(
        "SQLAlchemy-Continuum", "peers.continuum:Continuum", "SQLAlchemy-Continuum"
    ),
    "sqlalchemy_history": Entry(
        "sqlalchemy-history",
        "peers.sqlalchemy_history:SQLAlchemyHistory",
        "sqlalchemy-history",
    ),
    "declarative_extensions": Entry(
        "declarative-extensions",
        "peers.declarative_extensions:DeclarativeExtensions",
        "sqlalchemy-declarative-extensions",
    ),
    "auditrum": Entry("auditrum", "peers.auditrum:Auditrum", "auditrum"),
    "flask_postgresql_audit": Entry(
        "flask-postgresql-audit",
        "peers.flask_postgresql_audit:FlaskPostgresqlAudit",
        "flask-postgresql-audit",
    ),
}


def of_checkout(subjects: dict[str, Entry], checkout: Path) -> dict[str, Entry]:
    """Return our subjects as another checkout has them, to compare two builds.

    :param subjects: by name; those that are not of this library are left out.
    :param checkout: the other checkout's folder.
    """
    return {
        f"{name}_beside": replace(
            entry, label=f"{entry.label} of {checkout.name}", checkout=checkout
        )
        for name, entry in subjects.items()
        if entry.distribution == OURS
    }
