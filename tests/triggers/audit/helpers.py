"""A row of an account as the log shows it."""

from __future__ import annotations

from typing import Any


def row(id: int, balance: int, owner: str = "ann") -> dict[str, Any]:
    return {"id": id, "owner": owner, "balance": balance}
