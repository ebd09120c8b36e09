"""The chart of how large an event table is: a bar for each of its partitions."""

from __future__ import annotations

from dataclasses import dataclass

from sa_history.install.sizes import EventTableSize, RelationSize
from sa_history.timeline.chart import WIDTH, bar_height


@dataclass(frozen=True)
class SizeBar:
    """The size of a partition.

    :param relation: the partition.
    :param x: the left side of the bar.
    :param width: its width.
    :param height: its height.
    """

    relation: RelationSize
    x: int
    width: int
    height: float


@dataclass(frozen=True)
class SizeChart:
    """The partitions of an event table, in the order of their events.

    :param table: the event table.
    :param bars: a bar for each partition; none if it has no partitions.
    """

    table: EventTableSize
    bars: list[SizeBar]

    @property
    def width(self) -> int:
        """The width of the drawing."""
        return len(self.bars) * WIDTH

    @classmethod
    def of(cls, table: EventTableSize) -> SizeChart:
        """Return the chart of an event table."""
        if not table.is_partitioned:
            return cls(table, [])
        highest = max(1, *(relation.bytes for relation in table.relations))
        bars = [
            SizeBar(
                relation,
                number * WIDTH + 1,
                WIDTH - 2,
                bar_height(relation.bytes, highest),
            )
            for number, relation in enumerate(table.relations)
        ]
        return cls(table, bars)
