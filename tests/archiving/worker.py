"""Archives and restores a history over and over, and is killed while it does.

``python worker.py URL FOLDER KILLS`` forks a process for each kill. Before it is killed
it has a random time, in which it drops all closed partitions to the archive or brings
them back. After each kill it is checked that no event is lost.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter

import psycopg
import pyarrow.compute
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet
from sqlalchemy import create_engine, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import Snapshot, track
from sa_history.archiving.folder import ArchiveFolder
from sa_history.install import check

EVENTS = 30
ALL = Counter(range(1, EVENTS + 1))
LONGEST = 0.6
"""The longest time until a kill, in seconds."""


class Base(DeclarativeBase):
    pass


@track(Snapshot, append_only=True, partition_by=10)
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)


def write(url: str) -> None:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    for first in range(1, EVENTS + 1, 5):
        with engine.begin() as connection:
            rows = [{"id": number} for number in range(first, first + 5)]
            connection.execute(insert(Account), rows)
        history.partitions(engine, Base)
    engine.dispose()


def live(url: str) -> list[int]:
    query = "SELECT pgh_id FROM account_event WHERE pgh_id > 0"
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return [number for (number,) in connection.execute(query)]


def archived(folder: str, url: str) -> dict[str, list[int]]:
    """Return the numbers of events in the files that the manifest names, by path."""
    opened = ArchiveFolder(folder)
    manifest = opened.read_manifest("public.account_event")
    found = {}
    for part in manifest.parts if manifest else ():
        path = f"{manifest.folder}/{part.path}"
        with opened.open_file(path) as file:
            table = pyarrow.parquet.read_table(file)
        # Of a file that was replaced the manifest comes next.
        assert opened.digest(path) == part.sha256, path
        found[part.path] = table.column("pgh_id").to_pylist()
        assert len(found[part.path]) == part.rows
    return found


def dropped(url: str) -> list[str]:
    query = "SELECT path FROM pghistory_archive WHERE dropped_at IS NOT NULL"
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute(query + " AND table_name LIKE '%_event'")
        return [path for (path,) in found]


def work(url: str, folder: str, restores: bool) -> None:
    engine = create_engine(url)
    if restores:
        history.restore(engine, folder, Base)
    else:
        history.archive(engine, Base, to=folder, drop=True)


def require_all(url: str, folder: str) -> None:
    """Require that each event is in the database, or else in a file, and once there."""
    gone, files = dropped(url), archived(folder, url)
    for path, numbers in files.items():
        assert len(set(numbers)) == len(numbers), path
    in_files = [number for path in gone for number in files[path]]
    there = live(url)
    assert len(set(there)) == len(there)
    # A partition whose removal has begun is in the database until it is detached.
    assert set(there) | set(in_files) == set(ALL), sorted(
        set(ALL) - {*there, *in_files}
    )


def main(url: str, folder: str, kills: int) -> None:
    write(url)
    restores, killed = False, 0
    while killed < kills:
        process = os.fork()
        if process == 0:
            try:
                work(url, folder, restores)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            os._exit(0)
        time.sleep(random.uniform(0.05, LONGEST))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:
            assert status == 0
            restores = not restores
        require_all(url, folder)
    # The next runs go on where it was interrupted.
    work(url, folder, restores=False)
    assert len(live(url)) < len(ALL)
    require_all(url, folder)
    stray = [n for _, _, names in os.walk(folder) for n in names if n.startswith(".")]
    assert stray == []
    work(url, folder, restores=True)
    assert Counter(live(url)) == ALL
    engine = create_engine(url)
    assert check(engine, Base) == []
    with engine.connect() as connection:
        kept = "SELECT count(*) FROM account_event WHERE pgh_id < 0"
        assert connection.scalar(text(kept)) == 0
    assert history.archive(engine, Base, to=folder, verify=True)[0].problems == ()
    print(f"killed {killed} times")


if __name__ == "__main__":
    random.seed(int(sys.argv[4]))
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
