"""What the values say: as tables, as JSON and as pictures."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measures import LARGER_IS_BETTER, Series
from benchmarks.subjects import Entry

COLORS = {"sa_history": "#2a6f97", "untracked": "#9aa0a6", "by hand": "#9aa0a6"}
PEER_COLOR = "#e0a458"


class Report:
    """The values of one run.

    :param server: what is known of the server.
    :param options: what was asked for.
    """

    def __init__(
        self,
        series: Sequence[Series],
        subjects: dict[str, Entry],
        server: dict[str, str],
        options: dict[str, Any],
    ) -> None:
        self._series = series
        self._subjects = subjects
        self._server = server
        self._options = options

    def table(self) -> str:
        """Return all tables, as text."""
        parts = [self._heading()]
        parts += [self._table(*group) for group in self._groups()]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Return everything, as JSON."""
        series = [
            {**asdict(each), "label": self._label(each), **self._numbers(each)}
            for each in self._series
        ]
        about = {**self._about(), "options": self._options, "series": series}
        return json.dumps(about, indent=1)

    def pictures(self, directory: Path) -> list[Path]:
        """Draw a picture of each workload, as SVG, and return their paths.

        :raises ImportError: if matplotlib is not installed.
        """
        import matplotlib

        matplotlib.use("svg")
        matplotlib.rcParams |= {"svg.hashsalt": "sa_history", "svg.fonttype": "none"}
        from matplotlib import pyplot

        workloads: dict[str, list[tuple[str, list[Series]]]] = {}
        for workload, step, members in self._groups():
            if step:
                workloads.setdefault(workload, []).append((step, members))
        paths = []
        for workload, steps in workloads.items():
            height = sum(0.26 * len(members) + 0.9 for _, members in steps)
            figure, all_axes = pyplot.subplots(
                len(steps),
                1,
                figsize=(8, height),
                squeeze=False,
                layout="constrained",
                gridspec_kw={"height_ratios": [len(m) + 2 for _, m in steps]},
            )
            for axes, (step, members) in zip(all_axes[:, 0], steps, strict=True):
                self._draw(axes, f"{workload}: {step}", members)
            paths.append(directory / f"{workload}.svg")
            figure.savefig(paths[-1], metadata={"Date": None}, bbox_inches="tight")
            pyplot.close(figure)
        return paths

    def _draw(self, axes: Any, title: str, members: Sequence[Series]) -> None:
        medians = [self._numbers(each)["median"] or 0 for each in members]
        known = [median for median in medians if median]
        places = range(len(members))
        bars = axes.barh(places, medians, color=[self._color(m) for m in members])
        for bar, each in zip(bars, members, strict=True):
            if _remark(each):  # its time is not the time of the same work
                bar.set_alpha(0.4)
        for place, each, median in zip(places, members, medians, strict=True):
            if len(each.values) > 1:
                axes.plot(
                    [min(each.values), max(each.values)],
                    [place, place],
                    color="black",
                    linewidth=1,
                )
            said = _remark(each)
            if median:
                said = f"{_shown(median, each.unit)}   {said}"
            largest = max([median, *each.values])
            axes.text(largest, place, f" {said}", va="center", fontsize=7)
        unit = members[0].unit
        if known and max(known) > 20 * min(known):
            axes.set_xscale("log")
            unit += ", logarithmic"
        axes.set_yticks(places, [self._label(each) for each in members], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.35, y=0.01)
        axes.set_title(f"{title} ({unit})", fontsize=9, loc="left")
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)

    def _color(self, series: Series) -> str:
        label = self._subjects[series.subject].label
        for start, color in COLORS.items():
            if label.startswith(start):
                return color
        return PEER_COLOR

    def _heading(self) -> str:
        about = self._about()
        machine = about["machine"]
        settings = ", ".join(f"{key}={value}" for key, value in self._server.items())
        return (
            f"Python {machine['python']}, {machine['system']}, {machine['cpus']} CPUs"
            f" ({machine['processor']})\n"
            f"PostgreSQL: {settings}\n"
            f"{', '.join(f'{k} {v}' for k, v in about['versions'].items())}"
        )

    def _about(self) -> dict[str, Any]:
        versions = {
            entry.distribution: entry.version for entry in self._subjects.values()
        }
        return {
            "machine": {
                "python": platform.python_version(),
                "system": platform.platform(),
                "cpus": os.cpu_count(),
                "processor": _processor(),
            },
            "server": self._server,
            "versions": versions,
        }

    def _groups(self) -> Iterator[tuple[str, str, list[Series]]]:
        groups: dict[tuple[str, str], list[Series]] = {}
        order = list(self._subjects)
        for each in self._series:
            groups.setdefault((each.workload, each.step), []).append(each)
        for (workload, step), members in groups.items():
            members.sort(key=lambda each: (order.index(each.subject), each.context))
            yield workload, step, members

    def _table(self, workload: str, step: str, members: Sequence[Series]) -> str:
        lines = [f"{workload}: {step}" if step else workload]
        if step:
            heads = ("median", "spread", "x untracked", "x by hand")
            lines.append(
                f"  {'':36}{heads[0]:>12}{heads[1]:>24}{heads[2]:>13}{heads[3]:>11}"
            )
        for each in members:
            numbers = self._numbers(each)
            line = f"  {self._label(each):36}"
            if numbers["median"] is not None:
                low, high = (
                    _shown(value, each.unit)
                    for value in (min(each.values), max(each.values))
                )
                line += f"{_shown(numbers['median'], each.unit):>12}"
                line += f"{f'{low} - {high}':>24}"
                for key, width in (("to_untracked", 13), ("to_by_hand", 11)):
                    ratio = numbers[key]
                    line += " " * width if ratio is None else f"{ratio:{width}.2f}"
            lines.append(f"{line}   {_remark(each)}".rstrip())
        return "\n".join(lines)

    def _label(self, series: Series) -> str:
        label = self._subjects[series.subject].label
        return f"{label}, context" if series.context else label

    def _numbers(self, series: Series) -> dict[str, float | None]:
        median = _median(series)
        return {
            "median": median,
            "to_untracked": self._ratio(
                series, (self._subjects[series.subject].base, False)
            )
            or self._ratio(series, ("untracked", False)),
            "to_by_hand": self._ratio(series, ("by_hand", series.context)),
        }

    def _ratio(self, series: Series, base: tuple[str, bool]) -> float | None:
        """Return how many times as much it costs as another."""
        mine = _median(series)
        for other in self._series:
            same = (other.workload, other.step) == (series.workload, series.step)
            if same and (other.subject, other.context) == base:
                theirs = _median(other)
                if not mine or not theirs:
                    return None
                larger = series.unit in LARGER_IS_BETTER
                return theirs / mine if larger else mine / theirs
        return None


def _median(series: Series) -> float | None:
    return statistics.median(series.values) if series.values else None


def _remark(series: Series) -> str:
    """Return what is not as it should be with the events."""
    if series.note:
        return series.note
    parts = []
    missing = (series.expected or 0) - (series.recorded or 0)
    if series.subject in ("untracked", "django"):
        return ""
    if missing > 0:
        parts.append(f"misses {missing:,} of {series.expected:,} events")
    elif missing < 0:
        parts.append(f"records {-missing:,} events too many")
    if series.context and series.recorded and series.told != series.recorded:
        parts.append(f"{series.recorded - (series.told or 0):,} without context")
    return "; ".join(parts)


def _shown(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} us"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
