"""The examples print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import URL

EXAMPLES = Path(__file__).parent.parent / "examples"

HISTORY = """\
snapshots
[{'char_field': 'hello', 'int_field': 1, 'pgh_context': None},
 {'char_field': 'hi', 'int_field': 0, 'pgh_context': None},
 {'char_field': 'bye', 'int_field': 0, 'pgh_context': None},
 {'char_field': 'foo', 'int_field': -1, 'pgh_context': {'misc': 'context'}},
 {'char_field': 'bar', 'int_field': -1, 'pgh_context': {'misc': 'context'}}]

diffs
[{'pgh_diff': None},
 {'pgh_diff': {'char_field': ['hello', 'hi'], 'int_field': [1, 0]}},
 {'pgh_diff': {'char_field': ['hi', 'bye']}},
 {'pgh_diff': {'char_field': ['bye', 'foo'], 'int_field': [0, -1]}},
 {'pgh_diff': {'char_field': ['foo', 'bar']}}]

create events 1
low_int events 2

"""

TOUR = """\
a COPY, a bulk update and raw SQL
snapshot I {'why': 'import', 'user': 'ada'} None
snapshot I {'why': 'import', 'user': 'ada'} None
snapshot I {'why': 'import', 'user': 'ada'} None
create   I {'why': 'import', 'user': 'ada'} None
create   I {'why': 'import', 'user': 'ada'} None
create   I {'why': 'import', 'user': 'ada'} None
snapshot U {'why': 'inventory', 'user': 'ada'} {'int_field': [0, 10]}
snapshot U {'why': 'inventory', 'user': 'ada'} {'int_field': [1, 11]}
snapshot U {'why': 'inventory', 'user': 'ada'} {'int_field': [2, 12]}
snapshot U {'user': 'sql'} {'int_field': [12, -5]}
low_int  U {'user': 'sql'} {'int_field': [12, -5]}
"""

IDIOMS = """\
DELETE of sa_history_demo.cannot_delete is refused: the table is protected

Cannot update!
Cannot delete!

Cannot update field!

is_active = False

initial version 0
version after first update 1
version after redundant update 1
version after second update 2
Cannot update version!

No no no... Cannot use that interface!
created OfficialInterface object (2)

Cannot make that transition!

"""


def printed_by(example: str, url: URL) -> str:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        env={
            **os.environ,
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_idioms_print_what_they_promise(pg_url: URL) -> None:
    assert printed_by("idioms.py", pg_url) == IDIOMS + HISTORY


def test_tracking_demo_prints_history_and_tour(pg_url: URL) -> None:
    assert printed_by("tracking/demo.py", pg_url) == HISTORY + TOUR
