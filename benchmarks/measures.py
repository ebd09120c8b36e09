"""What is measured, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field

LARGER_IS_BETTER = {"writes/s"}


@dataclass(frozen=True)
class Scale:
    """How large the workloads are; all follow from the number of rows.

    :param rows: of a bulk statement.
    :param timeout: the seconds after which a statement is given up.
    :param delay: the milliseconds by which a round trip to a distant server takes
        longer.
    """

    rows: int = 100_000
    timeout: int = 60
    delay: int = 10

    @property
    def some(self) -> int:
        """Rows of the wide table."""
        return max(self.rows // 10, 10)

    @property
    def few(self) -> int:
        """Objects of a unit of work, and transactions of a single row."""
        return max(self.rows // 50, 8)

    @property
    def stored(self) -> int:
        """Contexts that are there already, with an event of each."""
        return self.rows * 10

    @property
    def remote(self) -> int:
        """Transactions through the proxy."""
        return min(max(self.rows // 500, 1), 20)


@dataclass
class Measure:
    """One value that was measured.

    :param step: the part of the workload.
    :param value: None if the step was given up or failed.
    :param unit: of the value; ``LARGER_IS_BETTER`` has those that are rates.
    :param expected: how many events the step should have recorded.
    :param recorded: how many it has recorded.
    :param told: how many of those have the context.
    :param note: why there is no value.
    """

    step: str
    value: float | None
    unit: str
    expected: int | None = None
    recorded: int | None = None
    told: int | None = None
    note: str = ""


@dataclass
class Series:
    """The values of one step of a workload by one subject, one of each round."""

    workload: str
    step: str
    subject: str
    context: bool
    unit: str
    values: list[float] = field(default_factory=list)
    expected: int | None = None
    recorded: int | None = None
    told: int | None = None
    note: str = ""

    def add(self, measure: Measure) -> None:
        """Take in what was measured in a round."""
        if measure.value is not None:
            self.values.append(measure.value)
        self.expected, self.recorded = measure.expected, measure.recorded
        self.told = measure.told
        self.note = measure.note or self.note
