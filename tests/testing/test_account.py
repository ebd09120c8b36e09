"""As whom a throw-away PostgreSQL runs, and what if it can run as nobody."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sa_history.testing import EmbeddedPostgresError, account
from sa_history.testing.account import Account, choose_account

NOBODY = pwd.getpwnam("nobody")
NAMELESS = 54321

# As util-linux has it, but that all stay who they are: not every system lets us try.
UNSHARE = """#!/bin/sh
[ "$1 $2 $3 $4" = "--user --map-user={0.pw_uid} --map-group={0.pw_gid} --" ] || exit 1
shift 4
exec "$@"
"""


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the process be taken for one of another user."""
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.fixture
def unshare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system where everybody can be somebody else in a user namespace."""
    (tmp_path / "unshare").write_text(UNSHARE.format(NOBODY))
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def test_an_ordinary_user_stays_who_it_is(pretend: Callable[[int], None]) -> None:
    pretend(NOBODY.pw_uid)
    assert choose_account() == Account()


@pytest.mark.usefixtures("unshare")
def test_root_becomes_nobody_or_looks_like_it(pretend: Callable[[int], None]) -> None:
    """Whoever we are: only a real root can switch."""
    switches = os.geteuid() == 0
    pretend(0)
    chosen = choose_account()
    assert chosen.name == "nobody"
    if switches:
        assert (chosen.uid, chosen.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
        assert chosen.run("id", "-u").stdout == f"{NOBODY.pw_uid}\n"
    else:
        assert chosen.prefix[0] == "unshare"


@pytest.mark.usefixtures("unshare")
def test_a_user_without_a_name_looks_like_nobody(
    pretend: Callable[[int], None],
) -> None:
    pretend(NAMELESS)
    chosen = choose_account()
    assert (chosen.name, chosen.uid, chosen.gid) == ("nobody", None, None)
    assert chosen.run("echo", "done").stdout == "done\n"


def test_a_user_that_can_look_like_nobody_else_is_told(
    pretend: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(NAMELESS)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        EmbeddedPostgresError,
        match=rf"user id {NAMELESS} .* as 'nobody' \(.*'unshare'\); run as a user",
    ):
        choose_account()


def test_a_system_without_accounts_to_borrow_is_told(
    pretend: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(NAMELESS)
    monkeypatch.setattr(account, "BORROWED", ("no such user", "nor this"))
    with pytest.raises(EmbeddedPostgresError, match="of the accounts .* none exists"):
        choose_account()


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(
        EmbeddedPostgresError, match="this is Windows; set DATABASE_URL"
    ):
        choose_account()


def test_an_account_can_read_what_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "sealed").touch(0o000)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "directory").mkdir()
    given = Account("we ourselves", os.getuid(), os.getgid())
    given.own_tree(tmp_path)
    modes = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    assert modes["sealed"] & 0o777 == stat.S_IRUSR
    assert modes["directory"] & 0o500 == 0o500
    assert stat.S_ISLNK(modes["link"])
    Account().own(tmp_path / "nowhere")  # and what is ours already stays as it is
