"""Plain HTML forms: their token, and reading what they bring."""

from __future__ import annotations

import hmac
import secrets
from decimal import Decimal, InvalidOperation

from flask import Flask, abort, request, session

TOKEN = "csrf_token"


def protect(app: Flask) -> None:
    """Refuse forms that are not of this application's own pages."""
    app.before_request(_check)
    app.jinja_env.globals[TOKEN] = _token


def _token() -> str:
    return session.setdefault(TOKEN, secrets.token_urlsafe(32))


def _check() -> None:
    # The timeline has a token of its own, and checks it.
    if request.method != "POST" or request.blueprint == "history":
        return
    expected, given = session.get(TOKEN, ""), request.form.get(TOKEN, "")
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        abort(400, "The form is too old; go back, load the page and try again.")


def text(name: str) -> str:
    """Return a field that must have something in it."""
    value = request.form.get(name, "").strip()
    return value or abort(400, f"Fill in the {name}.")


def number(name: str) -> int:
    """Return a whole number, from 1 to 999."""
    value = request.form.get(name, type=int)
    if value is None or not 0 < value < 1000:
        abort(400, f"The {name} is a number from 1 to 999.")
    return value


def amount(name: str) -> Decimal:
    """Return an amount of money, below 100,000."""
    try:
        value = Decimal(request.form.get(name, ""))
        fits = 0 <= value < 100_000
    except InvalidOperation:  # no number, or NaN, which has no place among numbers
        fits = False
    if not fits:
        abort(400, f"The {name} is an amount such as 12.50.")
    return value.quantize(Decimal("0.01"))
