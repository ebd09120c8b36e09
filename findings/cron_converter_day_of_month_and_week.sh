#!/usr/bin/env bash
# cron-converter 2.0.2: a day of the month and one of the week have to meet, and 5/15 is 5.
#
# Expected: "0 3 1,15 * 1" is each 1st, 15th and Monday, as crontab(5) says of two fields that are
#   restricted, and "5/15 * * * *" each quarter of an hour from minute 5 on, as croniter and
#   cronsim read both; or an error.
# Seen: the first runs only on a 1st or 15th that is a Monday, a few times a year, and the second
#   once an hour; silently.
# Who meets it: backups, retention and exports whose times come from a crontab: most of the runs are
#   missing. What helps is two schedules, and 5-59/15.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet cron-converter==2.0.2 croniter==7.0.0 cronsim==2.8

"$python" - <<'END'
import sys
from datetime import datetime, timezone
from importlib.metadata import version

from cron_converter import Cron
from croniter import croniter
from cronsim import CronSim

START, END = datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 4, 1, tzinfo=timezone.utc)


def runs(following):
    count = 0
    while following() < END:
        count += 1
    return count


seen = {}
print(f"cron-converter {version('cron-converter')}, runs from January to March 2024")
for text in ("0 3 1,15 * 1", "5/15 * * * *", "5-59/15 * * * *"):
    by_croniter, by_cronsim = croniter(text, START), CronSim(text, START)
    schedule = Cron(text).schedule(START)
    others = (runs(lambda: by_croniter.get_next(datetime)), runs(lambda: next(by_cronsim)))
    seen[text] = (runs(schedule.next), *others)
    print(f"  {text!r}: expected {others[1]}, as croniter and cronsim, seen {seen[text][0]}")
if list(seen.values()) != [(2, 17, 17), (2184, 8736, 8736), (8736, 8736, 8736)]:
    print("  that has changed")
    sys.exit(1)
END
