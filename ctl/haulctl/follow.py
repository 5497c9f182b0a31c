"""Events as they happen: the stream, over restarts of the daemon, and a doorbell for those who only want to know that
something did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec

from haulapi.calls import EventListParams, Following, FollowParams, Since
from haulapi.faults import Exit
from haulctl.client import UNREADABLE, Client, elements, strange
from haulctl.failure import Failure, Unreachable

QUIET = 1.0
"""Seconds after which somebody looks although no event came: rates change by themselves."""

RETRY_EVERY = 0.5
"""Seconds between two tries to reach a daemon that went away."""

PAGE = 500
"""Events asked for at once."""

MANY = 1000
"""Events that are read before one looks again."""


def past(client: Client, since: Since, job: str | None) -> Iterator[bytes]:
    """Every event after a place in the stream, each as JSON exactly as on the wire."""
    while True:
        page = client.ask("events.list", EventListParams(since=since, job=job, limit=PAGE))
        events = elements(page, "events")
        yield from events
        if len(events) < PAGE:
            return
        since = Since(stream=since.stream, number=number_of(events[-1]))


def follow(
    connect: Callable[[], Client],
    since: Since,
    job: str | None,
    say: Callable[[str], None],
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Every event after ``since``, each once, as they happen, without end. A daemon that goes away is waited for; where
    events are gone that were not seen, ``say`` tells so and it goes on from now."""
    wanted: Since | None = since
    away = False
    while True:
        try:
            with connect() as client:
                following: Following = client.call("events.follow", FollowParams(since=wanted, job=job))
                if wanted is None:
                    say(f"Going on after event {following.number}.")
                elif away:
                    say("hauld is back.")
                away = False
                wanted = Since(stream=following.stream, number=following.number)
                while True:
                    if (event := client.notice(QUIET)) is not None:
                        wanted = Since(stream=wanted.stream, number=number_of(event))
                        yield event
        except Failure as failure:
            if failure.kind == "events_gone" and wanted is not None:
                say(f"{failure.message} What happened after number {wanted.number} has to be looked up: haulctl status")
                wanted = None
            elif isinstance(failure, Unreachable) or failure.exit == Exit.TRY_AGAIN:
                if not away:
                    say(f"{failure.message} Waiting for it to come back.")
                away = True
                pause(RETRY_EVERY)
            else:
                raise


class Doorbell:
    """Waits until something has happened, where the daemon tells; else for as long as it is told to."""

    def __init__(self, connect: Callable[[], Client], job: str | None = None) -> None:
        self._connect = connect
        self._job = job
        self._client: Client | None = None
        self._deaf = False

    def wait(self, seconds: float) -> None:
        """Return after ``seconds`` at the earliest: as soon as an event has come since, or all was quiet for ``QUIET``. The
        first time, and after the daemon was away, at once: what happened before is not known."""
        time.sleep(seconds)
        try:
            if self._client is None:
                self._listen()
            elif self._client.notice(QUIET) is not None:
                for _ in range(MANY):  # many at once are one reason to look
                    if self._client.notice(0.001) is None:
                        break
        except Failure:
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Doorbell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        if self._deaf:
            return
        self._client = self._connect()
        try:
            self._client.call("events.follow", FollowParams(job=self._job))
        except Failure as failure:
            self._deaf = failure.kind == "method_not_found"
            raise


def number_of(event: bytes) -> int:
    """The number of an event."""
    try:
        return msgspec.json.decode(event, type=_Numbered).number
    except UNREADABLE as error:
        raise strange(f"an event without a number: {error}") from error


class _Numbered(msgspec.Struct):
    number: int
