"""An urgent commit in the midst of another one, at a step of the test's choice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from support.disks import UnsyncedDisk, WatchedDisk
from support.power_loss import RecordingDisk

LIMIT = 30.0
"""Seconds after which an urgent commit waits for the one that it is in the midst of."""


STEPS = ("create", "rename", "unlink", "make_directory", "sync_file", "sync_directory", "sync_file_system")


class Overtaking:
    """What a disk does before its steps: before that one of those ``of`` these names (by number, from 1, counted from now on)
    another commit is begun and ended. ``done`` is whether there was such a step. Those for which one has to wait because they
    change an index, which is for both, are passed over."""

    def __init__(self, at: int, commit: Callable[[], Coroutine[Any, Any, None]], of: Sequence[str] = STEPS) -> None:
        self.done = False
        self._of = of
        self._left = at
        self._commit = commit
        self._loop = asyncio.get_running_loop()

    def __call__(self, _number: int, step: str, arguments: tuple[Any, ...]) -> None:
        if step not in self._of or "/index/" in str(arguments[0]):
            return
        self._left -= 1
        if self._left == 0:
            asyncio.run_coroutine_threadsafe(self._commit(), self._loop).result(LIMIT)
            self.done = True


class OvertakenRecordingDisk(WatchedDisk, RecordingDisk, UnsyncedDisk):
    """One that writes down what is done to it, by both."""

    def __init__(self, whole: bool) -> None:
        RecordingDisk.__init__(self, whole)
        self.steps = []
        self.before = None
