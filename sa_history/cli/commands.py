"""The table of the commands: what they are called, and what they take.

``sa-history`` and ``flask history`` make their parsers of :data:`COMMANDS`, so that
both have a command that is added here. What a command does and prints is in the module
of its name, or in ``installation``; what it does to a database is in ``install`` or
``writing``, and what it reads of history in ``query``.
"""

from __future__ import annotations

from sa_history.cli.archive import archive, has_partitions
from sa_history.cli.as_of import as_of
from sa_history.cli.baseline import baseline
from sa_history.cli.command import Argument, Command, Kind, ModelChoice
from sa_history.cli.diff import diff
from sa_history.cli.installation import check, ddl, harden, install, ls, uninstall
from sa_history.cli.log import log
from sa_history.cli.partitions import partitions
from sa_history.cli.sealing import erase, has_seals, seal, subject, verify
from sa_history.cli.size import size
from sa_history.install.drift import Problem

JSON = Argument("--json", Kind.FLAG, "print JSON, an object on each line")
KEY = Argument(
    "key", Kind.NAMES, "the primary key of a row, a value for each of its columns"
)
_ID_TEXT = (
    "the key of a row in place of the values, with commas between those of a key of "
    "several"
)
_ID = Argument("--id", Kind.TEXTS, _ID_TEXT, metavar="KEY")
_IDS = Argument("--id", Kind.TEXTS, f"{_ID_TEXT}; may be repeated", metavar="KEY")
_TIME = "a time such as 2026-11-28T12:00, or an age such as 90m, 2h, 7d or 4w"

COMMANDS = (
    Command(
        ls,
        "List what belongs in the database, and its state.",
        (JSON,),
        shows_unclaimed=True,
    ),
    Command(
        ddl,
        "Print what create_all would run, in order.",
        (
            Argument(
                "--without-tables",
                Kind.FLAG,
                "only functions, triggers, views and the sequence",
            ),
            JSON,
        ),
        needs_database=False,
    ),
    Command(
        install,
        "Create or renew what is wrong.",
        (
            Argument("--prune", Kind.FLAG, "drop what the models do not have any more"),
            Argument(
                "--tracks-nothing",
                Kind.FLAG,
                "with --prune: all models are imported, and none has to be tracked",
            ),
            JSON,
        ),
    ),
    Command(uninstall, "Drop the triggers and their functions.", (JSON,)),
    Command(
        check,
        "Exit with 1 where something is not as the models say.",
        (
            Argument(
                "--allow",
                Kind.CHOICES,
                "do not exit with 1 for this problem, one of "
                f"{', '.join(Problem)}; may be repeated",
                metavar="PROBLEM",
                choices=tuple(problem.value for problem in Problem),
            ),
            JSON,
        ),
        shows_unclaimed=True,
    ),
    Command(
        harden,
        "Leave a role no way to its history but to read it.",
        (
            Argument("--app-role", Kind.TEXT, "the application's role", metavar="ROLE"),
            Argument("--dry-run", Kind.FLAG, "only print the statements"),
            JSON,
        ),
    ),
    Command(
        baseline,
        "Give rows without an event their first.",
        (
            Argument("tables", Kind.NAMES, "names of tables; all, if left out"),
            Argument("--batch", Kind.COUNT, "rows in a transaction", default=10_000),
            JSON,
        ),
    ),
    Command(
        partitions,
        "End partitions of event tables in time, and remove old ones.",
        (
            Argument(
                "--keep",
                Kind.OPTIONAL_TEXT,
                "for how long events are kept, such as '24 months'; nothing is "
                "removed, if left out",
                metavar="TIME",
            ),
            Argument(
                "--without-last-events",
                Kind.FLAG,
                "with --keep: do not keep the last event of each row either, by "
                "which its past is known since then",
            ),
            Argument(
                "--without-archive",
                Kind.FLAG,
                "with --keep: remove also what is not in an archive, of tables that "
                "have one",
            ),
            Argument(
                "--convert",
                Kind.FLAG,
                "give event tables partitions that have none yet, as their models say",
            ),
            Argument("--dry-run", Kind.FLAG, "only print what would be done first"),
            JSON,
        ),
    ),
    Command(
        archive,
        "Write closed partitions to files, and compare them with the database.",
        (
            Argument(
                "--to",
                Kind.TEXT,
                "the folder of the archive, a path or a URI such as s3://bucket/folder",
                metavar="DIR",
            ),
            Argument(
                "--older-than",
                Kind.OPTIONAL_TEXT,
                "only partitions whose events are older, such as '12 months'",
                metavar="TIME",
            ),
            Argument(
                "--drop",
                Kind.FLAG,
                "then remove from the database what is archived and so old",
            ),
            Argument(
                "--open",
                Kind.FLAG,
                "also write what comes after, which stays in the database",
            ),
            Argument(
                "--verify",
                Kind.FLAG,
                "compare all files with their digests and with the database; exit "
                "with 1 where they differ",
            ),
            JSON,
        ),
        applies_to=has_partitions,
        of_one_database=("to",),
    ),
    Command(
        size,
        "Show how large event tables are, and how fast they grow.",
        (
            Argument(
                "--keep",
                Kind.OPTIONAL_TEXT,
                "also what could be removed, to keep so much, such as '24 months'",
                metavar="TIME",
            ),
            JSON,
        ),
    ),
    Command(
        log,
        "Show what changed, the newest first.",
        (
            KEY,
            _IDS,
            Argument(
                "--user",
                Kind.OPTIONAL_TEXT,
                "only by this user, the key 'user' of the context",
            ),
            Argument(
                "--context",
                Kind.TEXTS,
                "only in contexts with this key and value; may be repeated",
                metavar="KEY=VALUE",
            ),
            Argument(
                "--transaction",
                Kind.COUNT,
                "only in the transaction with this number",
                metavar="NUMBER",
            ),
            Argument(
                "--since",
                Kind.OPTIONAL_TEXT,
                f"only from then on: {_TIME}",
                metavar="TIME",
            ),
            Argument("--until", Kind.OPTIONAL_TEXT, "only before then", metavar="TIME"),
            Argument("--limit", Kind.COUNT, "so many events at most", metavar="NUMBER"),
            JSON,
        ),
        models=ModelChoice.ONE_OR_ALL,
    ),
    Command(
        diff,
        "Show what differs between two versions of a row.",
        (
            KEY,
            _ID,
            Argument(
                "--between",
                Kind.PAIR,
                "two versions, each by the number of an event or by a time; the first "
                "and the last, if left out",
                metavar="VERSION",
            ),
            Argument(
                "--since",
                Kind.OPTIONAL_TEXT,
                "the version of then, and the last",
                metavar="TIME",
            ),
            JSON,
        ),
        models=ModelChoice.ONE,
    ),
    Command(
        as_of,
        "Show the rows of a model as they were.",
        (
            Argument("time", Kind.NAME, _TIME),
            KEY,
            _ID,
            Argument("--limit", Kind.COUNT, "so many rows at most", metavar="NUMBER"),
            Argument("--csv", Kind.FLAG, "print CSV, with a line of names"),
            JSON,
        ),
        models=ModelChoice.ONE,
    ),
    Command(
        seal,
        "Seal the events that are committed.",
        (
            Argument(
                "--to",
                Kind.OPTIONAL_TEXT,
                "write the digest to this file, to be kept elsewhere",
                metavar="FILE",
            ),
            Argument(
                "--timeout",
                Kind.COUNT,
                "milliseconds to wait for open transactions",
                metavar="MILLISECONDS",
                default=10_000,
            ),
            JSON,
        ),
        applies_to=has_seals,
        of_one_database=("to",),
    ),
    Command(
        verify,
        "Exit with 1 where sealed events are not as they were.",
        (
            Argument(
                "--digest",
                Kind.OPTIONAL_TEXT,
                "the digest that seal --to has written, for seals made anew",
                metavar="FILE",
            ),
            Argument(
                "--archive",
                Kind.OPTIONAL_TEXT,
                "verify the files of an archive as well",
                metavar="FOLDER",
            ),
            JSON,
        ),
        applies_to=has_seals,
        of_one_database=("digest", "archive"),
    ),
    Command(
        erase,
        "Erase the personal data of objects from their history, and not from the rows.",
        (
            KEY,
            _IDS,
            Argument(
                "--reason", Kind.OPTIONAL_TEXT, "why, for the log", metavar="TEXT"
            ),
            Argument(
                "--archive",
                Kind.OPTIONAL_TEXT,
                "erase it from the files of an archive as well",
                metavar="FOLDER",
            ),
            Argument("--dry-run", Kind.FLAG, "only print how much would be erased"),
            JSON,
        ),
        models=ModelChoice.ONE,
    ),
    Command(
        subject,
        "Print all that history has of one object, as JSON.",
        (
            KEY,
            _ID,
            Argument(
                "--user",
                Kind.OPTIONAL_TEXT,
                "add what this user has made, the key 'user' of the context",
            ),
            JSON,
        ),
        models=ModelChoice.ONE,
    ),
)
"""The commands, in the order in which a usage lists them."""
