"""What commands print: coloured text for people, JSON lines for programs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TextIO

from sa_history.install.findings import Finding
from sa_history.sql.readable_json import dumps

RED, GREEN, YELLOW = "31", "32", "33"
"""The colours, as the numbers of ECMA-48."""


def print_json(**fields: Any) -> None:
    """Print an object of JSON on a line of its own.

    :param fields: what JSON has, and ``Decimal``, which is a number with all digits.
    """
    print(dumps(fields))


def print_heading(database: str, options: Mapping[str, Any]) -> None:
    """Print which of several databases is told of next, as a comment of SQL.

    :param database: what messages call it.
    :param options: those of the command; nothing is printed if it prints JSON.
    """
    if not options["json"]:
        print(f"-- {printable(database)}")


def print_finding(
    finding: Finding, command: str, allow: Collection[str], json: bool, **fields: str
) -> None:
    """Print a finding of a check.

    :param command: how a command is called, with braces for its name.
    :param allow: the problems that are no reason to fail.
    :param json: True for JSON.
    :param fields: more that JSON has of it, before all else.
    """
    if not json:
        problem, _, rest = printable(finding.message(command)).partition(" ")
        print(f"{colored(problem, RED)} {rest}")
        return
    print_json(
        **fields,
        problem=finding.problem.value,
        kind=finding.kind,
        name=finding.name,
        command=finding.command and command.format(finding.command),
        advice=finding.advice or None,
        allowed=finding.problem in allow,
    )


def colored(text: str, color: str) -> str:
    """Return text in a colour, or as it is where standard output has no colours.

    :param color: such as :data:`RED`.
    """
    return f"\x1b[{color}m{text}\x1b[0m" if has_colors(sys.stdout) else text


def has_colors(stream: TextIO) -> bool:
    """Return True if what is written to a stream may have colours.

    A terminal may, unless ``NO_COLOR`` is set or ``TERM`` is ``dumb``; anything else
    may if ``FORCE_COLOR`` is set. See https://no-color.org and https://force-color.org.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


# Those of C0 and C1, and those that change the direction of text after them.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    r"""Return text without what a terminal obeys; an escape is written ``\x1b``.

    What is in a database may have been written by anybody. Characters that the encoding
    of standard output has not are written in the same way.
    """
    safe = _CONTROLS.sub(lambda m: m[0].encode("unicode_escape").decode(), text)
    encoding = sys.stdout.encoding or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, as psql shows one.

    :param header: the names of the columns.
    :param rows: the values, as printable text.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (c.ljust(w) for c, w in zip(cells, widths, strict=True))
        return f" {' | '.join(padded)}".rstrip()

    yield line(header)
    yield f"-{'-+-'.join('-' * width for width in widths)}-"
    yield from map(line, rows)
