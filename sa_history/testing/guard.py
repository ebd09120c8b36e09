"""Clean up after a process that was killed before it could do so itself."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from sa_history.testing.account import Account
from sa_history.testing.errors import EmbeddedPostgresError

# The guard itself makes the directory, hence there is none without a guard, and it
# removes no other. The end of the input means that its owner has let go of it, or has
# died, however. A server that stops removes its postmaster.pid; one that has become a
# zombie, because nobody reaps it, can still be signalled: hence both conditions. The
# removal is repeated because a dying initdb may still be adding files.
_SCRIPT = """
directory=$1 watched=
trap '' PIPE
mkdir -m 700 "$directory" || exit
echo made
while read -r line; do watched=$line; done
if [ -n "$watched" ]; then
    kill -QUIT "-$watched"
    tries=0
    while [ -e "$directory/data/postmaster.pid" ] && kill -0 "$watched" &&
        [ $tries -lt 100 ]
    do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL "-$watched"
fi
tries=0
until rm -rf "$directory" || [ $tries -ge 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
"""

# What we start tells the guard its process id itself, before it becomes the program.
# Until then it holds the guard's pipe too, so that there is no moment in which our
# death would leave a program behind that the guard does not know of.
_LAUNCH = 'echo $$ && log=$1 && shift && exec "$@" >>"$log" 2>&1'


class Guard:
    """A process that makes a private directory, and removes it once we are gone.

    A program that was started in it, say a server, is stopped before. The guard waits
    on a pipe that only we hold, which the system closes when we end, be it by
    ``kill -9``. It runs in a session of its own and so outlives a Ctrl-C.

    >>> guard = Guard(directory)
    >>> server = guard.launch(account, "postgres", log=log, environment={})
    >>> guard.release()  # stops what it watches, removes the directory

    :param directory: what to make; it must not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sa-history-guard", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pipe = self._process.stdin
        with self._process.stdout as answer:
            made = answer.readline()
        if not made:
            self.release()
            raise EmbeddedPostgresError(
                f"cannot make the directory {str(directory)!r}; set TMPDIR to a"
                " directory that all users can write to"
            )

    def launch(
        self,
        account: Account,
        *command: str | Path,
        log: Path,
        environment: dict[str, str],
    ) -> subprocess.Popen[bytes]:
        """Start a program as *account*, and watch it from its first moment.

        It runs in a session of its own: a Ctrl-C in the terminal does not reach it.
        """
        return subprocess.Popen(
            account.command("/bin/sh", "-c", _LAUNCH, "sh", log, *command),
            stdin=subprocess.DEVNULL,
            stdout=self._pipe,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            user=account.uid,
            group=account.gid,
            extra_groups=account.extra_groups,
            start_new_session=True,
        )

    def forget(self) -> None:
        """Watch no program any more; say so when it has ended."""
        # Someone may have killed the guard: no reason for us to fail.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(b"\n")

    def release(self) -> None:
        """Let the guard do its work now, and wait for its end."""
        self._pipe.close()
        self._process.wait()
