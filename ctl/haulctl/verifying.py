"""How a verification is shown: while it runs, at its end, and what its exit code is."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import click

from haulapi.calls import Verification, VerifiedFolder
from haulapi.faults import Exit
from haulctl import streams
from haulctl.bars import place_for_bars, uninterrupted
from haulctl.show import WIDEST_TEXT
from haulctl.table import Cell, Column, render
from haulctl.words import ago, count, counted, duration, parse, percent, size, visible

if TYPE_CHECKING:
    from rich.live import Live

LINE_EVERY = 10.0
"""Seconds between two plain lines that tell how far it is."""

PHASES = {"listing": "asking the origin", "reading": "reading", "repairing": "fetching again"}

FINDINGS = ("DAMAGED", "MISSING", "REPAIRED", "TO GO", "FAILED", "UNKNOWN")
"""Columns of what is not as it should be; each is left out where no folder has any."""


def outcome(found: Verification) -> Exit:
    """What ``verify`` ends with. Unknown files are said and harm nobody."""
    if found.status != "completed":
        return Exit.SIGN_IN_REFUSED if found.error is not None and found.error.kind == "sign-in" else Exit.FAILURE
    return Exit.OK if _is_sound(found) and all(folder.is_complete for folder in found.folders) else Exit.PARTLY_FAILED


def screen(found: Verification, width: int | None) -> Iterator[str]:
    """All that was found, the folders first and the sum of it last."""
    if found.folders:
        yield from _folders(found.folders, width)
        yield ""
    for folder in found.folders:
        if folder.problems:
            yield f"{visible(folder.account)}, {visible(folder.name)}:"
            for problem in folder.problems:
                yield from _paragraph("  ", visible(problem), width)
            yield ""
    if found.strays:
        yield "Files that are in no folder and nobody's; they stay:"
        yield from (f"  {visible(path)}" for path in found.strays)
        yield ""
    yield from _paragraph("", summary(found), width)
    if found.status == "completed" and not _is_sound(found) and not found.repair:
        yield from _paragraph("", f"To fetch again what the origin still has: {_repairing(found)}", width)


def summary(found: Verification) -> str:
    """The sum of it in one sentence or two."""
    took = ""
    if found.started_at and found.finished_at:
        took = f" in {duration((parse(found.finished_at) - parse(found.started_at)).total_seconds())}"
    read = f"{counted(found.checked_items, 'item')} ({size(found.checked_bytes)}) read{took}"
    if found.status != "completed":
        read = f"The verification ended early, with {read}"
    incomplete = sum(not folder.is_complete for folder in found.folders)
    unknown = f" {counted(found.unknown_files, 'unknown file')} left alone." if found.unknown_files else ""
    told = _told(found)
    if not told and not incomplete:
        ending = "all sound" + (", every folder complete." if found.status == "completed" else " so far.")
        return f"{read}: {ending}{unknown}"
    whole = f"{told or 'all sound'}." + (f" {counted(incomplete, 'folder')} not complete." if incomplete else "")
    return f"{read}: {whole}{unknown}"


def started(found: Verification) -> str:
    """What to say where nobody waits for the end."""
    what = visible(found.account) if found.account else "all accounts"
    return f"The verification of {what} has begun. See how far it is: haulctl verify"


def progress_line(found: Verification) -> str:
    """How far it is, in one line without colour."""
    doing = PHASES.get(found.phase or "", found.phase or found.status)
    done = f"{count(found.checked_items)} of {counted(found.total_items, 'item')}" if found.total_items else ""
    shown = (visible(doing), done, _percent(found), _told(found))
    return "verifying: " + ", ".join(part for part in shown if part)


def mention(found: Verification, now: datetime) -> str | None:
    """One line for the one screen, while a verification runs or where the last one found something."""
    if found.status == "running":
        return progress_line(found).capitalize()
    if found.finished_at is None or (found.error is None and _is_sound(found)):
        return None
    when = ago(found.finished_at, now)
    if found.error is not None and _is_sound(found):
        return f"The last verification ({when}): {visible(found.error.message)}  -> {_the_same(found)}"
    return f"The last verification ({when}): {_told(found)}  -> {_repairing(found)}"


# --- while it runs -------------------------------------------------------------------------------------------------


class View(Protocol):
    """Where progress is shown."""

    def show(self, found: Verification) -> None:
        """How far it is now."""
        ...


@contextmanager
def view() -> Iterator[View]:
    """What suits stderr."""
    with place_for_bars() as live:
        yield PlainLines() if live is None else Bar(live)


class PlainLines:
    """A line at each phase, and now and then one that tells how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase: str | None = None
        self._line = ""
        self._due = 0.0

    def show(self, found: Verification) -> None:
        line = progress_line(found)
        if found.phase == self._phase and (self._clock() < self._due or line == self._line):
            return
        self._phase, self._line, self._due = found.phase, line, self._clock() + LINE_EVERY
        with streams.words():
            click.echo(line, err=True)


class Bar:
    """One bar for all that is to be read."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, found: Verification) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1), expand=True)
        for ratio in (2, 3, None, None):
            grid.add_column(ratio=ratio, no_wrap=True)
        reads = found.phase == "reading" and found.total_bytes > 0
        grid.add_row(
            Text(PHASES.get(found.phase or "", "")),
            ProgressBar(total=found.total_bytes or None, completed=found.checked_bytes, pulse=not reads),
            _percent(found),
            f"{count(found.checked_items)}/{count(found.total_items)}",
        )
        if told := _told(found):
            grid.add_row(Text(told, style="red"))
        with uninterrupted():
            self._live.update(grid, refresh=True)


# --- parts ---------------------------------------------------------------------------------------------------------


def _folders(folders: Sequence[VerifiedFolder], width: int | None) -> Iterator[str]:
    several = len({folder.account for folder in folders}) > 1
    columns = (
        Column("ACCOUNT", least=8, spare=6),
        Column("FOLDER", least=16),
        Column("STATE"),
        Column("ITEMS", right=True, spare=2),
        Column("SIZE", right=True, spare=4),
        *(Column(title, right=True, spare=1) for title in FINDINGS),
    )
    rows = [
        (
            visible(folder.account) if several else "",
            visible(folder.name),
            Cell("complete", "green") if folder.is_complete else Cell("not complete", "red"),
            count(folder.checked),
            size(folder.bytes),
            *(
                Cell(count(number), colour) if number else ""
                for number, colour in (
                    (folder.damaged, "red"),
                    (folder.missing, "red"),
                    (folder.repaired, "green"),
                    (folder.pending, "yellow"),
                    (folder.failed, "red"),
                    (folder.unknown, "yellow"),
                )
            ),
        )
        for folder in folders
    ]
    yield from render(columns, rows, width)


def _is_sound(found: Verification) -> bool:
    """Whether all that is stored is whole by now."""
    return found.damaged_items + found.missing_items <= found.repaired_items


def _the_same(found: Verification) -> str:
    """The command that verifies the same again."""
    options = ("--origin" if found.origin else "", "--repair" if found.repair else "")
    return " ".join(filter(None, ("haulctl verify", visible(found.account or ""), *options)))


def _repairing(found: Verification) -> str:
    """The command that mends what was found."""
    return " ".join(filter(None, ("haulctl verify", visible(found.account or ""), "--repair")))


def _told(found: Verification) -> str:
    """What was found and mended, in figures."""
    figures = (
        (found.damaged_items, "damaged"),
        (found.missing_items, "missing"),
        (found.repaired_items, "repaired"),
    )
    return ", ".join(f"{count(number)} {what}" for number, what in figures if number)


def _percent(found: Verification) -> str:
    return percent(100 * found.checked_bytes / found.total_bytes) if found.total_bytes else ""


def _paragraph(start: str, text: str, width: int | None) -> Iterator[str]:
    room = min(width or WIDEST_TEXT, WIDEST_TEXT)
    yield from textwrap.wrap(
        text, room, initial_indent=start, subsequent_indent=start, break_long_words=False, break_on_hyphens=False
    )
