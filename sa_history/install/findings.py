"""What is reported of a database: the findings of a check, and the state of objects."""

from __future__ import annotations

from dataclasses import dataclass

from sa_history.install.drift import Difference, Problem

MIGRATE = "run the migrations, or create_all()"
"""The advice where tables or columns are missing."""


@dataclass(frozen=True)
class Finding:
    """Something in the database that is not as the models say.

    :param problem: such as ``Problem.MISSING``.
    :param kind: such as ``"trigger"``.
    :param name: of the object, with its schema or its table.
    :param command: the ``sa-history`` command that mends it, None if none does.
    :param advice: what to do where no command mends it.

    Example::

        for finding in check(engine, Base):
            print(finding)
    """

    problem: Problem
    kind: str
    name: str
    command: str | None = None
    advice: str = ""

    def __str__(self) -> str:
        return self.message("sa-history {}")

    def message(self, command: str) -> str:
        """Return the finding as a line of text, with what mends it.

        :param command: how a command is called, with braces for its name, such as
            ``"flask history {}"``.
        :return: such as ``"missing trigger t on public.a: run flask history install"``.

        Example::

            finding.message("flask history {}")
        """
        remedy = f"run {command.format(self.command)}" if self.command else self.advice
        return f"{self.problem} {self.kind} {self.name}: {remedy}"


@dataclass(frozen=True)
class State:
    """An object and its state.

    :param kind: such as ``"trigger"``.
    :param name: of the object, with its schema or its table.
    :param problem: what is wrong, None if nothing is.

    Example::

        for state in status(engine, Base):
            print(state.kind, state.name, state.problem or "installed")
    """

    kind: str
    name: str
    problem: Problem | None

    def __str__(self) -> str:
        return f"{self.problem or 'installed':10} {self.kind:8} {self.name}"


_COMMANDS = {
    Problem.MISSING: "install",
    Problem.OUTDATED: "install",
    Problem.DISABLED: "install",
    Problem.ORPHANED: "install --prune",
    Problem.DUPLICATED: "install --prune",
}


def finding_of(difference: Difference) -> Finding:
    """Return a difference with the command that mends it, or with advice."""
    command, advice = _COMMANDS.get(difference.problem), ""
    if difference.problem is Problem.NEWER:
        advice = "upgrade sa_history; a newer version has installed it"
    elif not difference.is_mendable:
        command, advice = None, "drop it yourself; sa_history has not made it"
    return Finding(
        difference.problem, difference.kind, difference.name, command, advice
    )
