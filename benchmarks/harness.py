"""Variants of one workload, run in turns, and what their times say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a benchmark.

    :param name: how it is called in the results.
    :param prepare: makes ready for a round; it is not timed.
    :param work: what is timed.
    """

    name: str
    prepare: Callable[[Engine], None]
    work: Callable[[Engine], None]


@dataclass
class Result:
    """The times of one variant.

    :param name: the variant's.
    :param seconds: of each round.
    """

    name: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(self.seconds)


def measured(engine: Engine, variants: Sequence[Variant], rounds: int) -> list[Result]:
    """Return the times of the variants, which take turns.

    Each round begins with another variant, so that none is always the one that finds
    the caches as its neighbour left them.
    """
    results = [Result(variant.name) for variant in variants]
    for number in range(rounds):
        start = number % len(variants)
        order = [*range(start, len(variants)), *range(start)]
        for index in order:
            variants[index].prepare(engine)
            begun = time.perf_counter()
            variants[index].work(engine)
            results[index].seconds.append(time.perf_counter() - begun)
    return results


def table(title: str, results: Sequence[Result], base: str) -> str:
    """Return the results as lines of text, each in relation to one of them.

    :param base: the name of the variant that the others are compared with.
    """
    reference = next(result.median for result in results if result.name == base)
    lines = [title, f"  {'':28}{'median':>10}{'spread':>16}{'ratio':>8}"]
    for result in results:
        low, high = min(result.seconds), max(result.seconds)
        lines.append(
            f"  {result.name:28}{result.median * 1000:7.0f} ms"
            f"{low * 1000:7.0f} - {high * 1000:.0f}".ljust(56)
            + f"{result.median / reference:6.2f}"
        )
    return "\n".join(lines)
