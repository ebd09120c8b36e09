"""Three accounts: the statement that inserts them, and the rows that it makes."""

from __future__ import annotations

THREE = "INSERT INTO account VALUES (1, 'ann', 0), (2, 'bob', 10), (3, 'cy', NULL)"

ROWS = [(1, "ann", 0), (2, "bob", 10), (3, "cy", None)]
