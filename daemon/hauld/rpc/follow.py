"""Following events on a connection: what is sent, when it begins, and how it ends.

A follower is read for and written to at its own pace, a page of the stream at a time. When it takes no more, nothing more is
read for it, and after ``Limits.untaken`` its connection is cut; it comes back with the last number it saw and misses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType

from haulapi.calls import Following, FollowParams, NoParams, NoResult
from haulapi.envelope import ErrorReply
from haulapi.events import Event, EventNotice
from haulapi.frames import LineTooLong, encode
from hauld.clock import Clock
from hauld.errors import HaulError
from hauld.rpc.dispatch import REPORT, error_object, refusal
from hauld.rpc.routes import Events, Reader, Route

log = logging.getLogger("hauld.rpc")


class Follower:
    """What one connection follows: one stream at a time, a second replaces the first. Entered before the connection's first
    request, left after its last answer.

    ``send`` writes a line and says whether the client is still there; ``hang_up`` ends the connection once the client has
    taken what was written.
    """

    def __init__(
        self, events: Events, clock: Clock, send: Callable[[bytes], Awaitable[bool]], hang_up: Callable[[], None]
    ) -> None:
        self._events = events
        self._clock = clock
        self._send = send
        self._hang_up = hang_up
        self._task: asyncio.Task[None] | None = None

    @property
    def routes(self) -> Mapping[str, Route]:
        """The calls that only a connection can answer."""
        return {"events.follow": self.follow, "events.unfollow": self.unfollow}

    async def follow(self, params: FollowParams) -> Following:
        """Begin, when the task of this request has ended: then its reply is written, whatever it was part of. Where it is
        refused, what was followed before goes on."""
        reader = await self._events.reader(params)
        self._stop()
        request = asyncio.current_task()
        assert request is not None, "requests are tasks"
        self._task = asyncio.create_task(self._tell(reader, request), name="control follower")
        return reader.following

    async def unfollow(self, _: NoParams) -> NoResult:
        """After the reply no event comes any more."""
        self._stop()
        return NoResult()

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._task is not None:
            self._stop()
            await asyncio.wait((self._task,))

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _tell(self, reader: Reader, request: asyncio.Task[object]) -> None:
        """Send events until stopped, until the client has left, or until they cannot be had."""
        await asyncio.wait((request,))
        try:
            while True:
                for event in await reader.next():
                    if not await self._send(notice(event)):
                        return
        except HaulError as error:
            await self._send(encode(ErrorReply(id=None, error=error_object(error, self._clock))))
        except Exception:
            log.exception("unexpected error in following events")
            await self._send(refusal("internal", "The daemon met an error of its own; its log says more.", hint=REPORT))
        self._hang_up()


def notice(event: Event) -> bytes:
    """The line for an event. One whose data no line can hold comes without them: better than that none comes after it."""
    try:
        return encode(EventNotice(params=event))
    except (LineTooLong, UnicodeEncodeError):
        log.warning("event %d has data that no line can hold", event.number)
        return encode(EventNotice(params=Event(number=event.number, time=event.time, kind=event.kind, job=event.job)))
