"""An account at work: its sessions, how it is, and which of its items somebody is fetching."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hauld.clock import Clock
from hauld.engine.claims import Claims
from hauld.engine.hosts import Host, HostDown, Hosts
from hauld.engine.limits import Slots
from hauld.engine.stall import ImpatientSession
from hauld.engine.suspects import Suspects
from hauld.errors import HaulError, ItemRejected, NeedsAttention, Refused
from hauld.model import Folder, FolderKind, Trouble, matches
from hauld.retry import RetryPolicy
from hauld.sources.base import Session, Source

if TYPE_CHECKING:
    from hauld.engine.listener import Listener

log = logging.getLogger(__name__)

IDLE_LIMIT = 90.0
"""Seconds that an unused session is kept open for the next comparison."""

LISTENING = 0
"""The priority of who listens: a connection that is opened for new mail goes before all others."""

QUIET = 600.0
"""Seconds in which trouble that comes back is not logged a second time: it comes and goes, and that is known."""

EPOCHS_BELIEVED = 3
EPOCHS_WITHIN = 3600.0
"""So many changes of a folder's epoch within so many seconds are believed: who goes on renumbering is left alone meanwhile."""


@dataclass(frozen=True)
class AccountSettings:
    """What the engine needs to know of a configured account. ``intervals`` are seconds between two comparisons; a listing or a
    fetch that does not get on for ``patience`` seconds is ended; one session asks for ``batch_items`` and ``batch_bytes`` at
    once, at most, None for as many as the byte budget allows."""

    name: str
    identity: str
    source: str
    host: str
    user: str
    connections: int
    folders: tuple[str, ...]
    exclude: tuple[str, ...]
    intervals: Mapping[FolderKind, float]
    port: int = 0
    patience: float = 300.0
    batch_items: int = 500
    batch_bytes: int | None = None


class Account:
    """One account: at most ``connections`` sessions, kept open for a while between uses. ``gives_heads`` is False once its
    origin has answered nonsense when it was asked for the beginnings of items. Of the folders in ``listened``, by number, the
    origin tells news by itself now, to one of the ``listeners``; ``looking`` is held while they are brought home. ``listed`` is
    set after each comparison of a folder, and ``forgiven`` by ``forgive``; who waits for one clears it first."""

    def __init__(
        self, settings: AccountSettings, number: int, source: Source, clock: Clock, idle_limit: float = IDLE_LIMIT
    ) -> None:
        self.settings = settings
        self.number = number
        self.source = source
        self.claims = Claims()
        self.suspects = Suspects()
        self.sign_in_failures = 0
        self.items_per_second: float | None = None
        self.gives_heads = True
        self.listeners: list[Listener] = []
        self.listened: set[int] = set()
        self.looking = asyncio.Lock()
        self.listed = asyncio.Event()
        self.forgiven = asyncio.Event()
        self._clock = clock
        self._idle_limit = idle_limit
        self._turns = Slots(settings.connections)
        self._idle: list[_Open] = []
        self._open = 0
        self._listing: dict[int, asyncio.Lock] = {}
        self._epochs: dict[int, deque[float]] = {}
        self._closed = False
        self._attention: NeedsAttention | None = None
        self._defect: Trouble | None = None
        self._trouble: Trouble | None = None
        self._forgiven: Trouble | None = None  # the same trouble goes on if it comes back before anything works
        self._said: dict[str, float] = {}  # when trouble of a kind was last logged
        self._told = False  # whether the trouble at hand was logged
        self._was: tuple[str, str | None] = ("idle", None)
        self._since = clock.now_ms()
        self._changed: Callable[[Account], None] = lambda _: None
        self._hosts = Hosts(clock, RetryPolicy())

    def join(self, hosts: Hosts, changed: Callable[[Account], None]) -> None:
        """Share what is known of the hosts with other accounts. ``changed`` is called when trouble of the account begins,
        changes or ends."""
        self._hosts = hosts
        self._changed = changed
        self._host.accounts.add(self.settings.name)

    @property
    def _host(self) -> Host:
        return self._hosts.of(f"{self.settings.host}:{self.settings.port}" if self.settings.port else self.settings.host)

    # --- sessions ---

    @asynccontextmanager
    async def session(self, priority: int) -> AsyncIterator[Session]:
        """A session for one piece of work: an idle one, or a new one. One that saw an error or was cut off is thrown away.
        The most urgent waits least.

        Raises at once what a person still has to mend, so that a refused password is not tried again and again.
        """
        self._check()
        async with self._turns.slot(priority):
            opened = await self._take(priority)
            try:
                yield opened.session
            except BaseException:
                await self._drop(opened)
                raise
            if opened.session.alive and not self._closed:
                self._keep(opened)
            else:
                await self._drop(opened)

    @asynccontextmanager
    async def listening_session(self) -> AsyncIterator[Session]:
        """A session that listens for news, beside the ``connections``. Guarded as ``session`` is, and ended when it is left.

        Raises at once what a person still has to mend, and where the origin's host is known to be dead.
        """
        opened = await self._connect(LISTENING)
        try:
            yield opened.session
        finally:
            await self._drop(opened)

    @property
    def reachable(self) -> bool:
        """Whether the origin answers, as far as one knows."""
        return self._open > 0 or (self._host.proven and self._trouble is None)

    async def reach(self, priority: int) -> None:
        """Open a session, to see whether the origin answers; raises as ``session`` does."""
        async with self.session(priority):
            return

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
        """End the idle sessions, and open no more."""
        self._closed = True
        self._host.accounts.discard(self.settings.name)
        await self.drop_idle()

    async def drop_idle(self) -> None:
        """End the idle sessions."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(self._drop, idle))

    def _check(self) -> None:
        """Raise where no session may be opened, whoever asks."""
        if self._closed:
            name = self.settings.name
            raise Refused("try_again", f"The configuration of account {name!r} has just changed.", hint="Ask once more.")
        if self._attention is not None:
            raise NeedsAttention(self._attention.kind, self._attention.message, hint=self._attention.hint)

    async def _take(self, priority: int) -> _Open:
        while self._idle:
            opened = self._idle.pop()
            if opened.timer is not None:
                opened.timer.cancel()
            if opened.session.alive:
                return opened
            await self._drop(opened)
        return await self._connect(priority)

    async def _connect(self, priority: int) -> _Open:
        self._check()
        stack = AsyncExitStack()
        async with self._host.connecting(self.settings.name, priority):
            session = await stack.enter_async_context(self.source.session())
        self._open += 1
        self.sign_in_failures = 0
        self.recovered()
        return _Open(ImpatientSession(session, self.settings.patience), stack)

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
        self._note()
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
        if self._attention is not None or self._defect is not None:
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
        """Why it waits or needs attention, and when it is tried again."""
        return self._trouble or self._defect

    def failed(self, error: HaulError, retry_at: int | None) -> Trouble:
        """Something went wrong; the first of a row of like failures is logged. ``retry_at`` None: a person has to act."""
        before = self._trouble
        new = before is None or before.kind != error.kind
        goes_on = before or self._forgiven
        since = goes_on.since if goes_on is not None and goes_on.kind == error.kind else self._clock.now_ms()
        if retry_at is None and self._attention is None and isinstance(error, NeedsAttention):
            new = True
            self._attention = error
        self._trouble = Trouble(error.kind, error.message, error.hint, since, retry_at)
        if new:
            self._say_failed(error)
        self._note()
        return self._trouble

    def recovered(self) -> None:
        """It works again."""
        if self._trouble is not None:
            log.log(
                logging.INFO if self._told else logging.DEBUG,
                "account %s: works again",
                self.settings.name,
                extra={"event": "account.recovered", "account": self.settings.name},
            )
        self._trouble = self._forgiven = None
        self._note()

    def broke(self, trouble: Trouble) -> None:
        """A task of the account was given up, which is a defect. What else the account does goes on."""
        self._defect = trouble
        self._note()

    def forgive(self) -> None:
        """A person asked to try again: what needed attention is forgotten, and the tries are counted afresh."""
        self._attention = None
        self._defect = None
        self._forgiven = self._trouble or self._forgiven
        self._trouble = None
        self._said.clear()
        self.sign_in_failures = 0
        self._epochs.clear()
        self._host.forgive()
        self._note()
        self.forgiven.set()

    def _say_failed(self, error: HaulError) -> None:
        """One line, unless that is known: of the host, or because it was said a moment ago and has come back."""
        now = self._clock.monotonic()
        last = self._said.get(error.kind)
        known = isinstance(error, HostDown) or (last is not None and now - last < QUIET and self._attention is not error)
        self._told = not known
        if self._told:
            self._said[error.kind] = now
        log.log(
            logging.DEBUG if known else logging.WARNING,
            "account %s: %s",
            self.settings.name,
            error,
            extra={"event": "account.failed", "kind": error.kind, "account": self.settings.name},
        )

    def _note(self) -> None:
        """Keep since when it is how it is, and tell when trouble begins, changes or ends."""
        before = self._was
        now = self._was = self.state, None if self.trouble is None else self.trouble.kind
        if now == before:
            return
        self._since = self._clock.now_ms()
        if not {now[0], before[0]} <= {"connected", "idle"}:
            self._changed(self)


@dataclass(eq=False)
class _Open:
    session: Session
    stack: AsyncExitStack
    timer: asyncio.TimerHandle | None = None
    ending: asyncio.Future[None] | None = None
