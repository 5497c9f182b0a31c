"""Disks that fail: the fake at the border between a store and the machine."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

from hauld.stores.durable import Disk

STEPS = frozenset(
    ("create", "append", "stamp", "rename", "unlink", "make_directory", "sync_file", "sync_directory", "sync_file_system")
)
"""What changes a disk; the other methods are made of these."""


class WatchedDisk(Disk):
    """A real disk that remembers its steps, and does first what ``before(number, name, arguments)`` says: raise, die, or
    nothing. ``whole`` says whether it syncs whole file systems, wherever the test runs."""

    def __init__(self, before: Callable[[int, str, tuple[Any, ...]], None] | None = None, *, whole: bool = True) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[Any, ...]]] = []
        self.before = before
        self._whole = whole

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in STEPS:
            return method

        def step(*arguments: Any) -> Any:
            self.steps.append((name, arguments))
            if self.before is not None:
                self.before(len(self.steps), name, arguments)
            return method(*arguments)

        return step

    def can_sync_file_system(self, path: str) -> bool:
        return self._whole

    def names(self) -> list[str]:
        return [name for name, _ in self.steps]


class UnsyncedDisk(Disk):
    """A real disk that never waits: what a process wrote is there after it was killed, synced or not."""

    def sync_file(self, path: str, descriptor: int | None = None) -> None:
        pass

    def sync_directory(self, path: str) -> None:
        pass

    def sync_file_system(self, descriptor: int) -> None:
        pass


class BadSectors(Disk):
    """Files whose names hold one of the ``bad`` texts cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: set[str] = set()
        self.cannot_copy = False

    def read(self, path: str) -> bytes:
        self._check(path)
        return super().read(path)

    def sha256_of(self, path: str) -> tuple[int, str]:
        self._check(path)
        return super().sha256_of(path)

    def copy(self, source: str, target: str, mode: int) -> tuple[int, str]:
        told = super().copy(source, target, mode)  # as far as it came
        self._check(source)
        if self.cannot_copy:
            raise OSError(errno.EIO, os.strerror(errno.EIO), target)
        return told

    def _check(self, path: str) -> None:
        if any(part in path for part in self.bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)


def failing(name: str, error: int, *, within: str = "", times: int = 1) -> Callable[[int, str, tuple[Any, ...]], None]:
    """The step of that name fails with this error number, ``times`` times, where its first argument contains ``within``."""
    left = times

    def before(_number: int, step: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if step == name and left and within in str(arguments[0]):
            left -= 1
            raise OSError(error, os.strerror(error), arguments[0] if isinstance(arguments[0], str) else None)

    return before


def killing(at: int) -> Callable[[int, str, tuple[Any, ...]], None]:
    """The process dies before that step."""

    def before(number: int, _step: str, _arguments: tuple[Any, ...]) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return before
