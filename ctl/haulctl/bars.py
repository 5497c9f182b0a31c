"""Progress while waiting, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from haulapi.calls import Folder, Job
from haulctl import show, words
from haulctl.wait import View

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_EVERY = 10.0
"""Seconds between two plain lines that tell nothing but how far it is."""

MOST_BARS = 8
"""Folders with a bar of their own at once."""


@contextmanager
def view() -> Iterator[View]:
    """What suits stderr."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield PlainLines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True) as live:
        yield Bars(live)


class PlainLines:
    """A line when something changes, and now and then one that tells how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: tuple[str, str | None, str | None] | None = None
        self._line = ""
        self._due = 0.0

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        state = (job.status, job.phase, job.error.message if job.error else None)
        line = show.progress_line(job)
        if state == self._told and (self._clock() < self._due or line == self._line):
            return
        self._told, self._line, self._due = state, line, self._clock() + LINE_EVERY
        click.echo(line, err=True)
        if job.error:
            click.echo(f"  {show.waiting_line(job.error, words.now())}", err=True)

    def say(self, sentence: str) -> None:
        click.echo(words.visible(sentence), err=True)


class Bars:
    """A bar for each folder in progress, and one for all."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        self._live.update(drawing(job, folders), refresh=True)

    def say(self, sentence: str) -> None:
        from rich.text import Text

        self._live.console.print(Text(words.visible(sentence)))


def drawing(job: Job, folders: Sequence[Folder]) -> RenderableType:
    """The bars of this moment."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=3)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for folder in in_progress(folders)[:MOST_BARS]:
        done = folder.downloaded_items + folder.skipped_items
        grid.add_row(
            Text(words.visible(folder.name)),
            ProgressBar(total=folder.total_items, completed=done),
            show.folder_done(folder),
            _of(done, folder.total_items),
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


def _of(done: int, total: int) -> str:
    return f"{words.count(done)}/{words.count(total)}"
