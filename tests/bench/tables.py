"""Runs as figures, and figures as tables: for a terminal, and for ``docs/benchmarks.md``."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Row = Sequence[str]


@dataclass(frozen=True)
class Run:
    """One program's work on one mailbox: seconds from the first process to the last durable message, CPU seconds of the
    program alone, its peak of resident bytes (0: not measured); what it brought home, in how many groups (0: unknown)."""

    seconds: float
    cpu: float
    memory: int
    items: int
    bytes: int
    groups: int = 0


@dataclass(frozen=True)
class Counts:
    """What a run asked of the kernel: ``syncs`` are the calls that wait for the disk."""

    syncs: int
    calls: int
    items: int = 0
    groups: int = 0

    def by_group(self) -> str:
        """Syncs, where it is known what they were for."""
        return f"{self.syncs / self.groups:.1f} syncs a group of {self.items / self.groups:.0f} messages"


@dataclass(frozen=True)
class Table:
    """One result: what was done, the figures, and what follows from them. The first column is a name."""

    title: str
    setting: str
    columns: Row
    rows: Sequence[Row]
    remarks: Sequence[str] = ()

    def text(self) -> str:
        """For a terminal."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = ["  ".join(_padded(row, widths)) for row in (self.columns, *self.rows)]
        return "\n".join([self.title, self.setting, *lines, *self.remarks])

    def markdown(self) -> str:
        """For ``docs/benchmarks.md``."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"#### {self.title}", "", self.setting, "", *lines, "", *_paragraphs(self.remarks)]).rstrip("\n")


def comparison(
    title: str,
    setting: str,
    runs: Mapping[str, Sequence[Run]],
    counted: Mapping[str, Counts] | None = None,
    remarks: Iterable[str] = (),
) -> Table:
    """Programs that did the same: medians of their runs, and how much faster the first is than each other in a pair."""
    counted = counted or {}
    columns = ["", "seconds", "messages/s", "MB/s", "CPU s", "peak MB"] + ["syncs", "system calls"] * bool(counted)
    rows = [[name, *_figures(of), *_counts(counted.get(name)) * bool(counted)] for name, of in runs.items()]
    first, *others = runs
    ratios = [f"{first} is {times(_ratios(runs[other], runs[first]))} as fast as {other}." for other in others]
    syncs = [f"{name} made {counts.by_group()} on average." for name, counts in counted.items() if counts.groups]
    return Table(title, setting, columns, rows, [*ratios, *syncs, *remarks])


def timings(title: str, setting: str, seconds: Mapping[str, Sequence[float]], remarks: Iterable[str] = ()) -> Table:
    """What takes how long, in milliseconds."""
    rows = [
        [what, f"{1000 * statistics.median(took):.1f}", f"{1000 * min(took):.1f} to {1000 * max(took):.1f}", str(len(took))]
        for what, took in seconds.items()
    ]
    return Table(title, setting, ["", "median ms", "range ms", "times"], rows, list(remarks))


def times(ratios: Sequence[float]) -> str:
    """How many times, in the middle of the pairs, and how far the pairs are from it."""
    middle = f"{statistics.median(ratios):.2f} times"
    return middle + (f" ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} pairs)" if len(ratios) > 1 else " (one pair)")


def rate(a_second: float) -> str:
    return f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.2f}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f}"


def _ratios(slower: Sequence[Run], faster: Sequence[Run]) -> list[float]:
    return [theirs.seconds / ours.seconds for theirs, ours in zip(slower, faster, strict=True)]


def _figures(runs: Sequence[Run]) -> list[str]:
    seconds = statistics.median(run.seconds for run in runs)
    spread = f" ({min(run.seconds for run in runs):.2f} to {max(run.seconds for run in runs):.2f})" if len(runs) > 1 else ""
    return [
        f"{seconds:.2f}{spread}",
        rate(runs[0].items / seconds),
        megabytes(runs[0].bytes / seconds),
        f"{statistics.median(run.cpu for run in runs):.2f}",
        megabytes(max(run.memory for run in runs)) if runs[0].memory else "",
    ]


def _counts(counts: Counts | None) -> list[str]:
    return [f"{counts.syncs:,}", f"{counts.calls:,}"] if counts else ["", ""]


def _padded(row: Row, widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _paragraphs(remarks: Sequence[str]) -> list[str]:
    return [line for remark in remarks for line in (remark, "")]
