"""Clean up after a process that was killed before it could do so itself."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

# The end of the input means that our owner has let go of us, or has died, however.
# A server that stops by itself removes its postmaster.pid; one that has become a
# zombie, because nobody reaps it, can still be signalled: hence both conditions.
# The removal is repeated because a dying initdb may still be adding files.
_SCRIPT = """
directory=$1 watched=
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


class Guard:
    """A process that removes a directory, and the server in it, once we are gone.

    It waits on a pipe that only we hold, which the system closes when we end, be it
    by ``kill -9``. It runs in a session of its own and so outlives a Ctrl-C.

    >>> guard = Guard(directory)
    >>> guard.watch(server.pid)
    >>> guard.release()  # stops what it watches, removes the directory
    """

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sa-history-guard", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )

    def watch(self, pid: int | None) -> None:
        """Say which process, the leader of its group, to stop; None for no one."""
        assert self.process.stdin is not None
        # Someone may have killed the guard: no reason for us to fail.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{pid or ''}\n".encode())

    def release(self) -> None:
        """Let the guard do its work now, and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
