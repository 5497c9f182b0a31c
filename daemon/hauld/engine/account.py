"""An account at work: its sessions, how it is, and which of its items somebody is fetching."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from hauld.clock import Clock
from hauld.engine.limits import Slots
from hauld.errors import HaulError, ItemRejected, NeedsAttention
from hauld.model import Folder, FolderKind, Trouble, matches
from hauld.sources.base import Session, Source

log = logging.getLogger(__name__)

IDLE_LIMIT = 90.0
"""Seconds that an unused session is kept open for the next comparison."""

EPOCHS_BELIEVED = 3
EPOCHS_WITHIN = 3600.0
"""So many changes of a folder's epoch within so many seconds are believed: who goes on renumbering is left alone meanwhile."""


@dataclass(frozen=True)
class AccountSettings:
    """What the engine needs to know of a configured account. ``intervals`` are seconds between two comparisons; one
    session asks for ``batch_items`` and ``batch_bytes`` at once, at most, None for as many as the byte budget allows."""

    name: str
    identity: str
    source: str
    host: str
    user: str
    connections: int
    folders: tuple[str, ...]
    exclude: tuple[str, ...]
    intervals: Mapping[FolderKind, float]
    batch_items: int = 500
    batch_bytes: int | None = None


class Account:
    """One account: at most ``connections`` sessions, kept open for a while between uses. ``gives_heads`` is False once its
    origin has answered nonsense when it was asked for the beginnings of items."""

    def __init__(
        self, settings: AccountSettings, number: int, source: Source, clock: Clock, idle_limit: float = IDLE_LIMIT
    ) -> None:
        self.settings = settings
        self.number = number
        self.source = source
        self.claimed: set[int] = set()
        self._released = asyncio.Event()
        self.sign_in_failures = 0
        self.items_per_second: float | None = None
        self.gives_heads = True
        self._clock = clock
        self._idle_limit = idle_limit
        self._turns = Slots(settings.connections)
        self._idle: list[_Open] = []
        self._open = 0
        self._listing: dict[int, asyncio.Lock] = {}
        self._epochs: dict[int, deque[float]] = {}
        self._attention: NeedsAttention | None = None
        self._trouble: Trouble | None = None
        self._since = clock.now_ms()

    # --- sessions ---

    @asynccontextmanager
    async def session(self, priority: int) -> AsyncIterator[Session]:
        """A session for one piece of work: an idle one, or a new one. One that saw an error or was cut off is thrown away.
        The most urgent waits least.

        Raises at once what a person still has to mend, so that a refused password is not tried again and again.
        """
        if self._attention is not None:
            raise NeedsAttention(self._attention.kind, self._attention.message, hint=self._attention.hint)
        async with self._turns.slot(priority):
            opened = await self._take()
            try:
                yield opened.session
            except BaseException:
                await self._drop(opened)
                raise
            if opened.session.alive:
                self._keep(opened)
            else:
                await self._drop(opened)

    def wanted(self, priority: int) -> bool:
        """Whether somebody more urgent than that waits for a session."""
        return self._turns.wanted(priority)

    def wants(self, folder: Folder) -> bool:
        """Whether the configuration lets jobs have the folder's items."""
        return matches(folder.name, self.settings.folders, self.settings.exclude)

    def listing(self, folder: int) -> asyncio.Lock:
        """Held while a folder is listed: two jobs never list one folder at the same time."""
        return self._listing.setdefault(folder, asyncio.Lock())

    def epoch_turned(self, folder: Folder) -> None:
        """The folder's items have new keys."""
        self._epochs.setdefault(folder.number, deque(maxlen=EPOCHS_BELIEVED)).append(self._clock.monotonic())

    def check_epochs(self, folder: Folder) -> None:
        """Raise ``ItemRejected`` (kind ``epoch``) where the folder's items had new keys too often to be listed again now."""
        turned = self._epochs.get(folder.number, deque())
        if len(turned) < EPOCHS_BELIEVED or self._clock.monotonic() - turned[0] > EPOCHS_WITHIN:
            return
        raise ItemRejected(
            "epoch",
            f"The origin has renumbered the folder {folder.name!r} {EPOCHS_BELIEVED} times within an hour. What is stored of it"
            " stays; nothing more is fetched until the hour is over.",
            hint="Tell the provider: every mail program loses its place in this folder. Starting the job tries again at once.",
        )

    async def close(self) -> None:
        """End the idle sessions."""
        while self._idle:
            await self._drop(self._idle.pop())

    async def _take(self) -> _Open:
        while self._idle:
            opened = self._idle.pop()
            if opened.timer is not None:
                opened.timer.cancel()
            if opened.session.alive:
                return opened
            await self._drop(opened)
        stack = AsyncExitStack()
        session = await stack.enter_async_context(self.source.session())
        self._open += 1
        self.sign_in_failures = 0
        self.recovered()
        return _Open(session, stack)

    def _keep(self, opened: _Open) -> None:
        loop = asyncio.get_running_loop()
        opened.timer = loop.call_later(self._idle_limit, self._expire, opened)
        self._idle.append(opened)

    def _expire(self, opened: _Open) -> None:
        if opened in self._idle:
            self._idle.remove(opened)
            opened.ending = asyncio.ensure_future(self._drop(opened))

    async def _drop(self, opened: _Open) -> None:
        if opened.timer is not None:
            opened.timer.cancel()
        self._open -= 1
        try:
            await opened.stack.aclose()
        except HaulError as error:
            log.debug("a session of account %s ended badly: %s", self.settings.name, error)

    def seconds_for(self, items: int) -> float | None:
        """How long that many items take at the rate of the last import; None when there was none yet."""
        if self.items_per_second is None:
            return 0.0 if not items else None
        return round(items / self.items_per_second, 1)

    # --- how it is ---

    @property
    def connections(self) -> int:
        """Sessions that are open now."""
        return self._open

    @property
    def state(self) -> str:
        """``attention``, ``waiting``, ``connected`` or ``idle``."""
        if self._attention is not None:
            return "attention"
        if self._trouble is not None:
            return "waiting"
        return "connected" if self._open else "idle"

    @property
    def since(self) -> int:
        """Since when it is so, in Unix milliseconds."""
        return self._since

    @property
    def trouble(self) -> Trouble | None:
        """Why it waits or needs attention."""
        return self._trouble

    def failed(self, error: HaulError, retry_at: int | None) -> Trouble:
        """Something went wrong; the first of a row of like failures is logged. ``retry_at`` None: a person has to act."""
        now = self._clock.now_ms()
        before = self._trouble
        same = before is not None and before.kind == error.kind
        since = before.since if before is not None and same else now
        trouble = Trouble(error.kind, error.message, error.hint, since, retry_at)
        if not same:
            self._since = now
        if not same or (retry_at is None and self._attention is None):
            log.warning("account %s: %s", self.settings.name, error, extra={"event": "account.failed", "kind": error.kind})
        if retry_at is None and isinstance(error, NeedsAttention):
            self._attention = error
        self._trouble = trouble
        return trouble

    def recovered(self) -> None:
        """It works again."""
        if self._trouble is not None:
            log.info("account %s: works again", self.settings.name, extra={"event": "account.recovered"})
            self._since = self._clock.now_ms()
        self._trouble = None

    def forgive(self) -> None:
        """A person asked to try again: what needed attention is forgotten, and the tries are counted afresh."""
        self._attention = None
        self._trouble = None
        self.sign_in_failures = 0
        self._epochs.clear()
        self._since = self._clock.now_ms()

    # --- claims ---

    def release(self, items: set[int]) -> None:
        """These items are no longer being fetched."""
        self.claimed -= items
        self._released.set()

    async def until_released(self) -> None:
        """Wait until some claim ends."""
        self._released.clear()
        await self._released.wait()


@dataclass(eq=False)
class _Open:
    session: Session
    stack: AsyncExitStack
    timer: asyncio.TimerHandle | None = None
    ending: asyncio.Future[None] | None = None
