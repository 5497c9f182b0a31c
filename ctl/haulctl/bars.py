"""Progress while waiting, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from haulapi.calls import Folder, Job
from haulctl import show, streams, words
from haulctl.wait import View

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_EVERY = 10.0
"""Seconds between two plain lines that tell nothing but how far it is."""

MOST_BARS = 8
"""Folders with a bar of their own at once."""

RECENTLY = 15.0
"""Seconds over which a folder's rate is taken."""

NOTHING_RUNS = "Nothing runs. Watching for what comes; Ctrl-C ends that."


@contextmanager
def view() -> Iterator[View]:
    """What suits stderr."""
    with place_for_bars() as live:
        yield PlainLines() if live is None else Bars(live)


@contextmanager
def place_for_bars() -> Iterator[Live | None]:
    """Where bars move, on stderr; None where lines suit it better."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True) as live:
        yield live


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until a picture is whole: after half of one, the cursor is not where the next one is drawn from."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class PlainLines:
    """A line when something changes, and now and then one that tells how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: tuple[str, str | None, str | None] | None = None
        self._line = ""
        self._due = 0.0
        self._others: dict[str, PlainLines] = {}
        self._idle = False

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        state = (job.status, job.phase, job.error.message if job.error else None)
        line = show.progress_line(job)
        if state == self._told and (self._clock() < self._due or line == self._line):
            return
        self._told, self._line, self._due = state, line, self._clock() + LINE_EVERY
        with streams.words():
            click.echo(line, err=True)
            if job.error:
                click.echo(f"  {show.waiting_line(job.error, words.now())}", err=True)

    def show_all(self, seen: Sequence[tuple[Job, Sequence[Folder]]]) -> None:
        self._others = {job.id: self._others.get(job.id) or PlainLines(self._clock) for job, _ in seen}
        for job, folders in seen:
            self._others[job.id].show(job, folders)
        if not seen and not self._idle:
            self.say(NOTHING_RUNS)
        self._idle = not seen

    def say(self, sentence: str) -> None:
        with streams.words():
            click.echo(words.visible(sentence), err=True)


class Paces:
    """How many items a second each folder of a job gained lately, by what was seen of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def of(self, folders: Sequence[Folder]) -> Mapping[str, float]:
        """Note how far they are, and give their rates; no rate where it is not known yet, or nothing came."""
        now = self._clock()
        self._seen = {each.name: self._seen.get(each.name, deque()) for each in folders}
        rates = {}
        for each in folders:
            seen = self._seen[each.name]
            seen.append((now, each.downloaded_items + each.skipped_items))
            while now - seen[0][0] > RECENTLY:
                seen.popleft()
            (since, before), (_, done) = seen[0], seen[-1]
            if done > before and now > since:
                rates[each.name] = (done - before) / (now - since)
        return rates


class Bars:
    """A bar for each folder in progress, and one for all."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._paces: dict[str, Paces] = {}

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        self.show_all([(job, folders)])

    def show_all(self, seen: Sequence[tuple[Job, Sequence[Folder]]]) -> None:
        from rich.console import Group
        from rich.text import Text

        self._paces = {job.id: self._paces.get(job.id) or Paces() for job, _ in seen}
        drawings = [drawing(job, folders, self._paces[job.id].of(folders)) for job, folders in seen]
        with uninterrupted():
            self._live.update(Group(*drawings) if drawings else Text(NOTHING_RUNS, style="bright_black"), refresh=True)

    def say(self, sentence: str) -> None:
        from rich.text import Text

        with uninterrupted():
            self._live.console.print(Text(words.visible(sentence)))


def drawing(job: Job, folders: Sequence[Folder], rates: Mapping[str, float] | None = None) -> RenderableType:
    """The bars of this moment; where rates of folders are known, with what is left at that rate."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=3)
    for _ in range(4 if rates else 2):
        grid.add_column(justify="right", no_wrap=True)
    for folder in in_progress(folders)[:MOST_BARS]:
        done = folder.downloaded_items + folder.skipped_items
        grid.add_row(
            Text(words.visible(folder.name)),
            ProgressBar(total=folder.total_items, completed=done),
            show.folder_done(folder),
            _of(done, folder.total_items),
            *(_pace(folder, rates) if rates else ()),
        )
    progress = job.progress
    done = progress.downloaded_items + progress.skipped_items
    grid.add_row(
        Text(words.visible(job.account), style="bold"),
        ProgressBar(total=progress.total_items or None, completed=done, pulse=progress.total_items == 0),
        *((words.percent(progress.percent_complete), _of(done, progress.total_items)) if progress.total_items else ("", "")),
    )
    parts: list[RenderableType] = [grid, Text(show.state_line(job), style="bright_black")]
    if job.error:
        parts.append(Text(show.waiting_line(job.error, words.now()), style="yellow"))
    return Group(*parts)


def in_progress(folders: Sequence[Folder]) -> Sequence[Folder]:
    """Folders that have begun and not ended."""
    return [each for each in folders if 0 < each.remaining_items < each.total_items]


def _pace(folder: Folder, rates: Mapping[str, float]) -> tuple[str, str]:
    """Rate and time left, as far as they are known."""
    rate = rates.get(folder.name)
    return (f"{rate:,.0f}/s", words.duration(folder.remaining_items / rate)) if rate and rate >= 0.5 else ("", "")


def _of(done: int, total: int) -> str:
    return f"{words.count(done)}/{words.count(total)}"
