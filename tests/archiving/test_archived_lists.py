"""Lists of archived events, beside what the database still has."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

from sqlalchemy import MetaData, Table

from sa_history.archiving.archived_lists import GivenContext, _GivenPart


def id_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=number << 96)


def test_a_context_that_is_in_a_file_is_not_given_beside_it() -> None:
    """One may be archived and not yet removed."""
    table = Table("pghistory_context", MetaData())
    contexts = [GivenContext(id_of(n), None, "{}") for n in (1, 2, 3, 4)]
    nowhere: Any = None
    file: Any = SimpleNamespace(lower=str(id_of(2)), upper=str(id_of(4)))
    rows = _GivenPart(None, nowhere, table, contexts).all_rows(table, [file])
    assert rows.column("id").to_pylist() == [str(id_of(1)), str(id_of(4))]
