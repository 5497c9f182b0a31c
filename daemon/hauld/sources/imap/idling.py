"""Waiting until a server says that the open folder has changed: IDLE (RFC 2177), as long as the server bears it.

IDLE is ended now and then, and the server is asked with NOOP. That keeps alive what would be cut for being idle (RFC 2177
wants it every 29 minutes), finds a server that has gone without a word, and hears from one that keeps its news to itself.
"""

from __future__ import annotations

import asyncio

from hauld.errors import ItemRejected, Transient
from hauld.model import Notice
from hauld.sources.imap import answers
from hauld.sources.imap.grammar import Event
from hauld.sources.imap.listing import Mailbox
from hauld.sources.imap.protocol import Connection

SHORTEST_SPAN = 120.0
"""Seconds of one IDLE, at least: a server that cuts connections sooner is not worth a question every minute."""

SHARE = 0.75
"""How much of the time after which a connection was cut the next ones idle at a stretch."""

SOON = 1.0
"""Seconds of idling, at least, for which it was worth asking for."""

MOST_SOON = 3
"""How often in a row a server may end IDLE too soon, until it is taken to have none."""

NO_TIME = 0.01
"""Seconds that are not worth waiting for."""


class Span:
    """How many ``seconds`` an IDLE with one server lasts at most. It grows shorter when a connection is cut sooner."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def cut_after(self, idled: float) -> None:
        """A connection went after it had idled for so long. One that went before a question was worth it teaches nothing."""
        if idled > SHORTEST_SPAN:
            self.seconds = min(self.seconds, max(SHORTEST_SPAN, SHARE * idled))


class Watch:
    """Waits for news on one connection. ``span`` is shared by all connections to the server."""

    def __init__(self, connection: Connection, span: Span) -> None:
        self._connection = connection
        self._span = span
        self._loop = asyncio.get_running_loop()
        self._ended_soon = 0

    async def notice(self, mailbox: Mailbox, patience: float) -> Notice | None:
        """What is heard of the mailbox, which is open, within so many seconds. Raises ``ItemRejected`` (kind ``push``)."""
        deadline = self._loop.time() + patience
        while (notice := mailbox.take_notice()) is None:
            question = self._connection.answered_at + self._span.seconds
            now = self._loop.time()
            if question - now < NO_TIME:
                await self._connection.ask("NOOP")
            elif deadline - now < NO_TIME:
                return None
            else:
                await self._idle(mailbox, min(question, deadline) - now)
        return notice

    async def _idle(self, mailbox: Mailbox, seconds: float) -> None:
        """IDLE until something was heard, for so long at most, or until the server ends it."""
        heard: asyncio.Future[None] = self._loop.create_future()

        def listener(_: Event) -> None:
            if mailbox.changed and not heard.done():
                heard.set_result(None)

        began = self._loop.time()
        try:
            with self._connection.listening(listener):
                status = await self._connection.idle_until(heard, seconds)
        except Transient as error:
            if error.kind in ("network", "timeout"):
                self._span.cut_after(self._loop.time() - began)
            raise
        if status.condition != "OK":
            raise self._no_push(f"refused to push: {answers.words(status)}")
        self._count(heard.done() or self._loop.time() - began >= min(seconds - NO_TIME, SOON))

    def _count(self, idled: bool) -> None:
        """A server that ends each IDLE at once would be asked for the next for ever."""
        self._ended_soon = 0 if idled else self._ended_soon + 1
        if self._ended_soon == MOST_SOON:
            self._ended_soon = 0
            raise self._no_push(f"offers to push, and ended it within {SOON:g} s {MOST_SOON} times")

    def _no_push(self, trouble: str) -> ItemRejected:
        return ItemRejected("push", f"{self._connection.where} {trouble}")
