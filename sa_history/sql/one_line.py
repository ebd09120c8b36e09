"""SQL without line breaks, for programs that take them out of what they print.

A mock engine gives statements to a function of somebody else's. Atlas's provider
deletes every line break and tab, between words and in values alike, and prints percent
signs doubled, as for a driver.
https://github.com/ariga/atlas-provider-sqlalchemy/blob/master/atlas_provider_sqlalchemy/ddl.py
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
  | (?P<name> "(?:[^"]|"")*" | (?<!\w)(?:[bBnNxX]|[uU]&)'(?:[^']|'')*' )
  | (?<![\w$]) \$(?P<tag>\w*)\$ (?P<body>.*?) \$(?P=tag)\$
  | (?<!\w) [eE]'(?P<escaped>(?:[^'\\]|\\.|'')*)'
  | '(?P<value>(?:[^']|'')*)'
  | (?P<space> \s*\n\s* | \t )
    """,
    re.VERBOSE | re.DOTALL,
)
"""What may hold a line break, and, as ``name``, what must not be looked into."""

_AS_ESCAPES = str.maketrans({"\n": r"\n", "\t": r"\t", "%": r"\x25"})
_NEEDS_ESCAPES = re.compile(r"[\n\t%]")


def one_line(statement: str) -> str:
    r"""Return a statement that means the same if line breaks are taken out of it.

    Line breaks, tabs and percent signs of strings become escapes, so that a function
    has the body that it has otherwise. Quoted names stay as they are, since those of
    tables are written by SQLAlchemy.

    :param statement: one statement; backslashes in ``'...'`` are no escapes in it.

    Example::

        >>> one_line("SELECT\n  $$a\nb$$, 'c'")
        "SELECT  E'a\\nb', 'c'"
    """
    return _TOKEN.sub(_without_breaks, statement)


def _without_breaks(token: re.Match[str]) -> str:
    if token["comment"] is not None or token["space"] is not None:
        return " "
    if token["escaped"] is not None:
        return f"E'{token['escaped'].translate(_AS_ESCAPES)}'"
    string = token["body"]
    if string is None:
        string = (token["value"] or "").replace("''", "'")
    if token["name"] is not None or not _NEEDS_ESCAPES.search(string):
        return token[0]
    quoted = string.replace("\\", r"\\").replace("'", "''").translate(_AS_ESCAPES)
    return f" E'{quoted}'"
