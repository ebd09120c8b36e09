"""What the errors of drivers say, as it is told."""

from __future__ import annotations

from types import SimpleNamespace

from sa_history.util.postgresql import text_of


class ErrorOfPsycopg2(Exception):
    """An error of a server that speaks another language, as psycopg2 raises it."""

    diag = SimpleNamespace(severity="FEHLER")


def test_an_error_is_not_said_to_be_one_in_whatever_language() -> None:
    error = ErrorOfPsycopg2("FEHLER:  doppelter Wert\nDETAIL:  Er ist »a«.\n")
    assert text_of(error) == "doppelter Wert DETAIL: Er ist »a«."
    assert text_of(Exception("no server said this")) == "no server said this"
