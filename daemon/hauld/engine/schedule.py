"""When a job compares which folder: as often as is configured, and sooner where something was noticed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from typing import NamedTuple

from hauld.clock import Clock
from hauld.engine.account import Account
from hauld.model import Folder, FolderKind

STRETCH = 4
LONGEST_STRETCH = 3600.0
"""While the origin tells news of a folder by itself, a comparison is only a net: it is due so many times later, and no later
than after so many seconds, unless that is what is configured."""

REST = 10.0
PATIENT = 20
"""What changes all the time is compared at most once in so many seconds, and in so many times what a comparison took."""


class _Last(NamedTuple):
    """When the last comparison of a folder began."""

    at: float
    kind: FolderKind


class _Notice(NamedTuple):
    """When something was noticed in a folder, and whether it is to be compared at once."""

    at: float
    at_once: bool


class Schedule:
    """The schedule of one job. Folders by number, times by the monotonic clock."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._last: dict[int, _Last] = {}
        self._noticed: dict[int, _Notice] = {}
        self._looked = -math.inf
        self._took = 0.0

    def notice(self, folder: int, *, at_once: bool) -> None:
        """Something has changed in the folder."""
        before = self._noticed.get(folder)
        self._noticed[folder] = _Notice(self._clock.monotonic(), at_once or (before is not None and before.at_once))

    def compared(self, began: float, folders: Iterable[Folder], selected: Set[int]) -> None:
        """A comparison of these folders is over. ``selected`` are all that the job selects."""
        self._looked, self._took = began, self._clock.monotonic() - began
        self._last |= {folder.number: _Last(began, folder.remote.kind) for folder in folders}
        self._last = {number: last for number, last in self._last.items() if number in selected}
        self._noticed = {
            number: notice
            for number, notice in self._noticed.items()
            if notice.at > began or (number in self._last and self._last[number].at < notice.at)
        }

    def is_due(self, folder: Folder) -> bool:
        """Whether the folder is to be compared now; one that this daemon has not compared yet is."""
        return self._due(folder.number) <= self._clock.monotonic()

    def seconds(self) -> float:
        """Seconds until the first folder is due; where there is none, one looks for some as often as at an inbox."""
        inbox = self._account.settings.intervals[FolderKind.INBOX]
        soonest = min(map(self._due, self._last.keys() | self._noticed.keys()), default=self._looked + inbox)
        return max(0.0, soonest - self._clock.monotonic())

    def _due(self, folder: int) -> float:
        last = self._last.get(folder)
        due = -math.inf if last is None else last.at + self._interval(folder, last.kind)
        if folder not in self._noticed:
            return due
        rested = self._looked + max(REST, PATIENT * self._took)
        return -math.inf if self._noticed[folder].at_once else min(due, rested)

    def _interval(self, folder: int, kind: FolderKind) -> float:
        configured = self._account.settings.intervals[kind]
        if folder not in self._account.listened:
            return configured
        return max(configured, min(STRETCH * configured, LONGEST_STRETCH))
