"""How bodies come: which UIDs one command asks for, and how what arrives finds its want.

``Delivery`` takes the events of several FETCHes in flight and makes exactly one outcome of each want; ``session`` sends
the commands. Bodies go to the sink as they arrive and are never held here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from hauld.model import Fetched, Missing, Outcome, Rejected, Sink, Want, Writer
from hauld.sources.imap.grammar import BodyChunk, BodyStart, Data, Event, StreamedBody, Value, number, pairs
from hauld.sources.imap.listing import too_large, uid_of

BODIES = b"(UID RFC822.SIZE BODY.PEEK[])"
"""What is asked for each item that is wanted."""

BLOCK_ITEMS = 200
"""How many items one command asks for. Their set stays well below the 8 KB a line may have at some servers."""


def blocks(uids: Iterable[int]) -> Iterator[Sequence[int]]:
    """The UIDs, ascending, in blocks for one command each."""
    ascending = sorted(uids)
    return (ascending[start : start + BLOCK_ITEMS] for start in range(0, len(ascending), BLOCK_ITEMS))


def uid_set(uids: Sequence[int]) -> bytes:
    """Ascending UIDs as an IMAP set, runs as ``first:last``."""
    runs = ([uid for _, uid in run] for _, run in groupby(enumerate(uids), lambda place: place[1] - place[0]))
    return b",".join(b"%d" % run[0] if len(run) == 1 else b"%d:%d" % (run[0], run[-1]) for run in runs)


class Pace(Protocol):
    """What stops reading when a writer asks for it."""

    def pause_until_ready(self, writer: Writer) -> None: ...

    def release(self, writer: Writer) -> None: ...


class Delivery:
    """The wants of one ``fetch`` and what becomes of them. ``news`` is set whenever there may be outcomes to ``take``."""

    def __init__(self, epoch: str, wants: Sequence[Want], sink: Sink, max_size: int | None, pace: Pace) -> None:
        self.news = asyncio.Event()
        self._epoch = epoch
        self._sink = sink
        self._max_size = max_size
        self._pace = pace
        self._waiting: dict[int, Want] = {}
        self._arrived: deque[_Arrived] = deque()
        self._others: list[Outcome] = []
        self._body_size = 0
        self._writer: Writer | None = None
        for want in wants:
            uid = uid_of(want.key, epoch)
            if uid is None or uid in self._waiting:
                self._settle(Rejected(want.key, "key", f"{want.key!r} is not the key of another item in epoch {epoch}"))
            else:
                self._waiting[uid] = want

    @property
    def waiting(self) -> Iterable[int]:
        """The UIDs without an outcome."""
        return self._waiting.keys()

    def take(self) -> Sequence[Outcome]:
        """The outcomes since the last call. Only now are bodies finished: those that nobody takes can still be forgotten."""
        self.news.clear()
        outcomes, self._others = self._others, []
        while self._arrived:
            arrived = self._arrived[0]
            outcomes.append(Fetched(arrived.key, arrived.writer.finish(), arrived.listed_size))
            self._arrived.popleft()
        return outcomes

    def give_up(self, uids: Iterable[int], reason: str) -> None:
        """Nothing more is coming for these: those without an outcome are missing."""
        for uid in uids:
            if want := self._waiting.pop(uid, None):
                self._settle(Missing(want.key, reason))

    def close(self) -> None:
        """The fetch is over: forget the body that broke off, and those that nobody took."""
        self._drop_body()
        for arrived in self._arrived:
            arrived.writer.discard()

    # --- what arrives ----------------------------------------------------------------------------------------------

    def listen(self, event: Event) -> None:
        """Take an untagged response or a part of one."""
        if type(event) is BodyChunk:
            self._write(event.data)
        elif type(event) is BodyStart:
            self._begin_body(event)
        elif type(event) is Data and event.name == "FETCH" and event.values and isinstance(event.values[0], list):
            self._finish_item(pairs(event.values[0]))

    def _begin_body(self, start: BodyStart) -> None:
        """Open a writer unless the body is known not to be wanted. Its UID may come only behind it (then the key the sink
        is told is the sequence number)."""
        self._drop_body()
        self._body_size = start.size
        uid = number(pairs(start.items).get(b"UID"))
        if (uid is None or uid in self._waiting) and not too_large(start.size, self._max_size):
            key = self._waiting[uid].key if uid is not None else f"{self._epoch}.#{start.number}"
            self._writer = self._sink.open(key, start.size)

    def _write(self, data: memoryview | bytes) -> None:
        if self._writer is not None and not self._writer.write(data):
            self._pace.pause_until_ready(self._writer)

    def _finish_item(self, items: dict[bytes, Value]) -> None:
        """A whole FETCH response. One without a body, or about an item nobody waits for, settles nothing."""
        uid = number(items.get(b"UID"))
        if uid is not None and uid in self._waiting and b"BODY[]" in items:
            want = self._waiting.pop(uid)
            self._settle_item(want.key, items[b"BODY[]"], number(items.get(b"RFC822.SIZE")))
        self._drop_body()

    def _settle_item(self, key: str, body: Value, listed_size: int | None) -> None:
        if isinstance(body, bytes):
            self._take_short_body(key, body)
        if not isinstance(body, bytes | StreamedBody):
            self._settle(Missing(key, "the server says that the body is not available"))
        elif reason := too_large(self._body_size, self._max_size):
            self._settle(Rejected(key, "too-large", reason, skip=True))
        elif self._body_size == 0 and listed_size:
            self._settle(Missing(key, f"the server sent an empty body for an item of {listed_size} bytes"))
        else:
            assert self._writer is not None
            self._arrived.append(_Arrived(key, self._writer, listed_size))
            self._writer = None
            self.news.set()

    def _take_short_body(self, key: str, body: bytes) -> None:
        """A body that came as a quoted string."""
        self._drop_body()
        self._body_size = len(body)
        self._writer = self._sink.open(key, len(body))
        self._write(body)

    def _drop_body(self) -> None:
        if self._writer is not None:
            self._writer.discard()
            self._pace.release(self._writer)
            self._writer = None

    def _settle(self, outcome: Outcome) -> None:
        self._others.append(outcome)
        self.news.set()


class _Arrived(NamedTuple):
    """A whole body, not yet handed out."""

    key: str
    writer: Writer
    listed_size: int | None
