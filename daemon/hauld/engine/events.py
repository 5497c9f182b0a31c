"""The event stream for those outside the engine: readers that wait for what comes next, pages of what was, and forgetting.

The ledger numbers events as it commits them; here they are only read back, by number. A reader holds nothing but its place,
so that one which is slow, or never comes back, costs nobody anything. Who may read, and over what, is the door's business
(``hauld.rpc.follow``).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence

from haulapi.calls import EventList, EventListParams, Following, FollowParams, Since
from haulapi.events import Event
from hauld import model
from hauld.clock import Clock, rfc3339
from hauld.errors import HaulError, Refused
from hauld.state.base import State

log = logging.getLogger("hauld.events")

PAGE = 50
"""Events that a reader takes from the ledger at once: few, because a follower that is stuck holds them."""

SHARED = 8
"""Pages that are kept until the next event, for all who come to the same place: most followers are at the same."""

LARGEST_PAGE = 1000
"""Events that a client is given at once, whatever it asks for."""

KEPT_MS = 30 * 24 * 3600 * 1000
KEPT_EVENTS = 1_000_000
"""An event is forgotten when it is older than that, and that many newer ones are kept."""


WHOLE_ID = re.compile(r"job_[a-z0-9]{12}", re.ASCII)


class EventLog:
    """The event stream of a ledger. Raises ``Refused`` of kind ``events_gone`` where events that were asked for are not there
    to be read: forgotten, of another ledger, or of a future that a restored ledger never had. ``keep`` is how many are never
    forgotten."""

    def __init__(self, state: State, clock: Clock, *, keep: int = KEPT_EVENTS) -> None:
        self._state = state
        self._clock = clock
        self._keep = keep
        self._bell = asyncio.Event()
        self._pages: dict[tuple[int, str | None], asyncio.Future[tuple[list[Event], int]]] = {}
        state.when_told(self._ring)

    @property
    def bell(self) -> asyncio.Event:
        """Is set at the next event from now on, once; take it before reading, and nothing falls between."""
        return self._bell

    async def reader(self, params: FollowParams) -> Reader:
        """A reader of the events after ``since``, or after now."""
        job = await self._job(params.job)
        stream = await self._state.stream()
        number = await self._number(params.since)
        return Reader(self, Following(stream=stream, number=number), job)

    async def events_list(self, params: EventListParams) -> EventList:
        """Events after ``since``, or from the oldest that is kept."""
        if params.limit < 1:
            raise Refused("invalid_params", f"A page of {params.limit} is not possible; ask for 1 to {LARGEST_PAGE}.")
        job = await self._job(params.job)
        oldest, _ = await self._state.event_span()
        after = oldest - 1 if params.since is None else await self._number(params.since)
        events, _ = await self.after(after, job, min(params.limit, LARGEST_PAGE))
        stream = await self._state.stream()
        oldest, last = await self._state.event_span()
        return EventList(stream=stream, events=events, oldest=oldest, last=last)

    async def after(self, number: int, job: str | None, limit: int) -> tuple[list[Event], int]:
        """The next events after a number, and the number up to which there are no others."""
        last = number if job is None else (await self._state.event_span())[1]
        events = await self._state.events(number, limit, job)
        if job is not None or (events and events[0].number > number + 1):
            await self._must_be_kept(number)  # asked after reading: they may have been forgotten in between
        newest = events[-1].number if events else number
        return [on_the_wire(event) for event in events], newest if len(events) == limit else max(newest, last)

    async def page(self, number: int, job: str | None) -> tuple[list[Event], int]:
        """The same, a reader's page of them, read once for all who ask before the next event. Nobody may change it."""
        page = self._pages.get((number, job))
        if page is None:
            while len(self._pages) >= SHARED:
                del self._pages[next(iter(self._pages))]
            page = self._pages[number, job] = asyncio.ensure_future(self.after(number, job, PAGE))
        try:
            return await asyncio.shield(page)
        except HaulError:
            self._pages.pop((number, job), None)
            raise

    async def prune_now(self) -> int:
        """Forget what is too old; how many events that were. To be done daily."""
        forgotten = await self._state.prune_events(self._clock.now_ms() - KEPT_MS, self._keep)
        if forgotten:
            log.info("forgot %d old events", forgotten, extra={"event": "events.pruned"})
        return forgotten

    def _ring(self) -> None:
        self._pages.clear()
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    async def _job(self, prefix: str | None) -> str | None:
        """The id of the job meant. Events outlive their job: one that was deleted is found by its whole id."""
        if prefix is None:
            return None
        try:
            return (await self._state.job(prefix)).id
        except Refused as error:
            if error.kind != "not_found" or not WHOLE_ID.fullmatch(prefix) or not await self._state.events(0, 1, prefix):
                raise
            return prefix

    async def _number(self, since: Since | None) -> int:
        """The number to read on from, once it is known that everything after it can be had."""
        if since is None:
            return (await self._state.event_span())[1]
        if since.number < 0:
            raise Refused("invalid_params", "The number to go on from is not negative; 0 is before the first event.")
        stream = await self._state.stream()
        if since.stream != stream:
            raise gone("The events that were asked for are of another ledger.", stream, await self._state.event_span())
        await self._must_be_kept(since.number)
        return since.number

    async def _must_be_kept(self, number: int) -> None:
        oldest, last = span = await self._state.event_span()
        if number > last:
            raise gone("The events that were asked for are newer than the ledger.", await self._state.stream(), span)
        if number + 1 < oldest:
            raise gone(f"The events from number {number + 1} on are no longer kept.", await self._state.stream(), span)


class Reader:
    """A place in the stream that moves on as it is read: each event once, in order."""

    def __init__(self, events: EventLog, following: Following, job: str | None) -> None:
        self.following = following
        self._events = events
        self._job = job
        self._number = following.number
        self._bell: asyncio.Event | None = None

    async def next(self) -> Sequence[Event]:
        """The next events, a page of them at most; waits until there is one."""
        while True:
            if self._bell is not None:
                await self._bell.wait()
            bell = self._events.bell
            events, self._number = await self._events.page(self._number, self._job)
            self._bell = bell if len(events) < PAGE else None  # after a whole page there may be more: look without waiting
            if events:
                return events


def on_the_wire(event: model.Event) -> Event:
    return Event(
        number=event.number,
        time=str(rfc3339(event.time)),
        kind=event.kind,
        job=event.job,
        folder=event.folder,
        data=event.data,
    )


def gone(message: str, stream: str, span: tuple[int, int]) -> Refused:
    """The refusal after which a client asks for everything afresh."""
    return Refused(
        "events_gone",
        message,
        hint=f"Take a fresh snapshot and follow from there; the stream is {stream}, its newest event number {span[1]}.",
    )
