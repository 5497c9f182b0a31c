"""Listening for new mail: a session of its own for each account, on which the origin says that something has changed.

A notice is a hint and no more: ``news`` lists what is newer than all that is known. Whatever ends the session, the next one
catches up before it listens, so nothing is missed. Where the origin cannot push, the schedule does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from hauld.engine.account import Account
from hauld.engine.job import JobKeeper
from hauld.engine.news import News
from hauld.engine.workshop import Workshop
from hauld.errors import HaulError, ItemRejected, NeedsAttention, StaleCursor, Transient
from hauld.model import Folder, FolderKind, Trouble
from hauld.retry import LOCAL, decide
from hauld.sources.base import Session

HOUR = 3600.0
"""Seconds until an origin that has no push is asked for it again."""

GOOD = 60.0
"""Seconds of listening after which the next failure is a first one again."""

ANOTHER_LOOK = 30.0
"""Seconds that who was told of new keys waits for a listing that has them; twice as long each time."""

VAIN = 5
RESPITE = 10.0
"""After so many notices in a row that there is something new, where there was nothing, so many seconds of deafness."""

Mode: TypeAlias = Literal["push", "polling"]
Stage: TypeAlias = Literal["connecting", "catching up", "listening", "waiting"]


class Listener:
    """Listens on the inbox of one account, for the keepers of its live jobs. What it tells of itself: ``mode`` is how news come
    now, ``stage`` what it does, ``since`` when it began to (Unix milliseconds), ``trouble`` why it waits, ``noticed_at`` when
    the origin last told something, ``heard_until`` when it last ceased to listen."""

    def __init__(self, account: Account, workshop: Workshop, keepers: Callable[[], Sequence[JobKeeper]]) -> None:
        self.folder = "INBOX"
        self.mode: Mode = "polling"
        self.stage: Stage = "waiting"
        self.since = workshop.clock.now_ms()
        self.trouble: Trouble | None = None
        self.noticed_at: int | None = None
        self.heard_until: int | None = None
        self._account = account
        self._workshop = workshop
        self._clock = workshop.clock
        self._keepers = keepers
        self._failures = 0

    async def run(self) -> None:
        """Listen until cancelled. What is raised is a defect."""
        while True:
            folder = await self._inbox()
            try:
                await self._follow(folder)
            except ItemRejected as error:
                await self._poll(error)
            except StaleCursor:
                self._ask_for_comparison(folder, at_once=True)
                await self._until_in_another_epoch(folder)
            except (Transient, NeedsAttention) as error:
                self._ask_for_comparison(folder, at_once=False)
                await self._wait(error)

    # --- the main path ---

    async def _follow(self, folder: Folder) -> None:
        """Catch up, then listen, until nobody wants it any more."""
        self._enter("push", "connecting", self.trouble)
        async with self._account.listening_session() as session:
            self._enter("push", "catching up")
            if self._workshop.machine.troubled:  # before anything is fetched again, look whether it could be stored
                await self._workshop.store.probe()
                self._workshop.machine.probed()
            news = News(self._account, self._workshop, session, folder)
            await news.look(self._wanting(folder))
            self._workshop.machine.works()
            self._ask_for_comparison(folder, at_once=False)  # of flags, and of what went
            await self._listen(session, news, folder)

    async def _listen(self, session: Session, news: News, folder: Folder) -> None:
        began = self._clock.monotonic()
        self._enter("push", "listening")
        self._hear(folder, True)
        try:
            vain = 0
            while self._wanting(folder):
                if (notice := await session.watch(folder.remote, HOUR)) is None:
                    continue
                self.noticed_at = self._clock.now_ms()
                if notice.new:
                    vain = 0 if await news.look(self._wanting(folder)) else vain + 1
                if notice.other:
                    self._ask_for_comparison(folder, at_once=False)
                if vain >= VAIN:
                    await self._clock.sleep(RESPITE)
        finally:
            self._hear(folder, False)
            self.heard_until = self._clock.now_ms()
            if self._clock.monotonic() - began >= GOOD:
                self._failures = 0

    def _hear(self, folder: Folder, listening: bool) -> None:
        """The comparisons of the folder are only a net, or all there is."""
        (self._account.listened.add if listening else self._account.listened.discard)(folder.number)
        for keeper in self._keepers():
            keeper.reckon_again()

    def _ask_for_comparison(self, folder: Folder, *, at_once: bool) -> None:
        for keeper in self._wanting(folder):
            keeper.notice(folder.number, at_once=at_once)

    def _wanting(self, folder: Folder) -> list[JobKeeper]:
        """Keepers of the jobs that are to have what is new, the most urgent first."""
        return sorted((keeper for keeper in self._keepers() if keeper.wants(folder)), key=lambda keeper: keeper.job.priority)

    # --- waiting ---

    async def _inbox(self) -> Folder:
        """The inbox, as soon as it was listed and somebody wants it."""
        while True:
            self._account.listed.clear()
            for folder in await self._workshop.state.folders(self._account.number):
                there = folder.remote.kind is FolderKind.INBOX and folder.remote.selectable and folder.gone_at is None
                if there and folder.cursor is not None and self._wanting(folder):
                    self.folder = folder.name
                    return folder
            self._enter("polling", "waiting", self.trouble)
            await self._account.listed.wait()

    async def _until_in_another_epoch(self, folder: Folder) -> None:
        """The origin has given the items new keys: nothing is known before the folder was listed with them. One that says so
        to this session alone is listened to again after a while, later each time."""
        self._enter("polling", "waiting")
        self._failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(HOUR, ANOTHER_LOOK * 2.0 ** min(self._failures - 1, 32))):
                while (await self._inbox()).epoch == folder.epoch:
                    await self._account.listed.wait()

    async def _poll(self, error: ItemRejected) -> None:
        """The origin does not tell by itself what is new."""
        retry_at = self._clock.now_ms() + int(HOUR * 1000)
        self._enter("polling", "waiting", Trouble(error.kind, error.message, error.hint, self._clock.now_ms(), retry_at))
        await self._pause(HOUR)

    async def _wait(self, error: Transient | NeedsAttention) -> None:
        """Until it is worth trying again; where a person has to act first, until he has."""
        self._failures += 1
        failures = self._failures
        if isinstance(error, NeedsAttention):
            self._account.sign_in_failures += 1
            failures = self._account.sign_in_failures
        delay = decide(error, failures, self._workshop.policy, random.random)
        retry_at = None if delay is None else self._clock.now_ms() + int(delay * 1000)
        self._enter("push", "waiting", self._blame(error, retry_at))
        await self._pause(delay)

    def _blame(self, error: HaulError, retry_at: int | None) -> Trouble:
        if isinstance(error, Transient) and error.kind in LOCAL:
            return self._workshop.machine.failed(error, retry_at)
        return self._account.failed(error, retry_at)

    async def _pause(self, seconds: float | None) -> None:
        """Wait that long, None for ever, or until a person asks to try again."""
        self._account.forgiven.clear()
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._account.forgiven.wait())]
        if seconds is not None:
            waiting.append(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def _enter(self, mode: Mode, stage: Stage, trouble: Trouble | None = None) -> None:
        if (mode, stage) != (self.mode, self.stage):
            self.since = self._clock.now_ms()
        self.mode, self.stage, self.trouble = mode, stage, trouble
