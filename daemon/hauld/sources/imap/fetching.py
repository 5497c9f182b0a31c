"""How whole bodies come: which UIDs one command asks for, and how what arrives finds its want.

``Delivery`` takes the events of several FETCHes in flight and makes exactly one outcome of each want; ``session`` sends
the commands. Bodies go to the sink as they arrive and are never held here. A second body under a UID that has been fetched
is a ``Twin``: which of the two is the item, nobody here can know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from hauld.model import Fetched, Missing, Outcome, Rejected, Sink, Twin, Want, Writer
from hauld.sources.imap.grammar import (
    BODY,
    WHOLE,
    BodyChunk,
    BodyStart,
    Data,
    Event,
    ProtocolError,
    StreamedBody,
    Value,
    WholeBody,
    number,
    pairs,
)
from hauld.sources.imap.listing import too_large, uid_of

BODIES = b"(UID RFC822.SIZE BODY.PEEK[])"
"""What is asked for each item that is wanted."""

HEADS = b"(UID BODY.PEEK[]<0.%d>)"
"""What is asked for each item of which the first bytes are wanted."""

HEAD = b"BODY[]<0>"
"""The name under which these come."""

LONGEST_HEAD = 1024 * 1024
"""Bytes of a beginning, whatever was asked for: a server that sends more makes no sense."""

BLOCK_ITEMS = 200
"""How many items one command asks for. Their set stays well below the 8 KB a line may have at some servers."""

MOST_TWINS = 100
"""How many second bodies one fetch takes: each waits in memory until it is stored, and no budget counts it."""

MOST_HALVES = 1000
"""How many responses may wait for their other half: those of all FETCHes in flight, and some."""


def blocks(uids: Iterable[int]) -> Iterator[Sequence[int]]:
    """The UIDs, ascending, in blocks for one command each."""
    ascending = sorted(uids)
    return (ascending[start : start + BLOCK_ITEMS] for start in range(0, len(ascending), BLOCK_ITEMS))


def uid_set(uids: Sequence[int]) -> bytes:
    """Ascending UIDs as an IMAP set, runs as ``first:last``."""
    runs = ([uid for _, uid in run] for _, run in groupby(enumerate(uids), lambda place: place[1] - place[0]))
    return b",".join(b"%d" % run[0] if len(run) == 1 else b"%d:%d" % (run[0], run[-1]) for run in runs)


class Pace(Protocol):
    """What stops reading when a writer asks for it, and is told which bytes are bodies that are wanted."""

    def pause_until_ready(self, writer: Writer) -> None: ...

    def release(self, writer: Writer) -> None: ...

    def expect_body(self, size: int) -> None: ...


class Delivery:
    """The wants of one ``fetch`` and what becomes of them. ``news`` is set whenever there may be outcomes to ``take``."""

    def __init__(self, epoch: str, wants: Sequence[Want], sink: Sink, max_size: int | None, pace: Pace) -> None:
        self.news = asyncio.Event()
        self._epoch = epoch
        self._sink = sink
        self._max_size = max_size
        self._pace = pace
        self._waiting: dict[int, Want] = {}
        self._without_twin: dict[int, str] = {}
        self._twins = 0
        self._arrived: deque[_Arrived] = deque()
        self._others: list[Outcome] = []
        self._body_number = 0
        self._body_size = 0
        self._expected = 0
        self._writer: Writer | None = None
        self._halves: dict[int, dict[bytes, Value]] = {}
        for want in wants:
            uid = uid_of(want.key, epoch)
            if uid is None or uid in self._waiting:
                self._settle(Rejected(want.key, "key", f"{want.key!r} is not the key of another item in epoch {epoch}"))
            else:
                self._waiting[uid] = want

    @property
    def waiting(self) -> Mapping[int, Want]:
        """The wants without an outcome, by UID."""
        return self._waiting

    def take(self) -> Sequence[Outcome | Twin]:
        """The outcomes since the last call, and twins behind the outcome they are twins of. Only now are bodies finished:
        those that nobody takes can still be forgotten."""
        self.news.clear()
        outcomes: list[Outcome | Twin] = [*self._others]
        self._others.clear()
        while self._arrived:
            arrived = self._arrived[0]
            outcomes.append(arrived.kind(arrived.key, arrived.writer.finish(), arrived.listed_size))
            self._arrived.popleft()
        return outcomes

    def deliver(self, uid: int, writer: Writer) -> None:
        """The bytes of that one came another way, all that were listed, and this writer has them."""
        want = self._waiting.pop(uid)
        self._arrived.append(_Arrived(Fetched, want.key, writer, want.size))
        self.news.set()

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
        if type(event) is WholeBody:
            self._take_whole(event)
        elif type(event) is BodyChunk:
            self._write(event.data)
        elif type(event) is BodyStart and event.name is not None:
            self._drop_body()  # what comes is a part of a body, and for ``windows``
        elif type(event) is BodyStart:
            self._begin_body(event.number, pairs(event.items), event.size)
        elif type(event) is Data and event.name == "FETCH" and event.values and isinstance(event.values[0], list):
            self._finish_response(event.number or 0, pairs(event.values[0]))
        elif type(event) is Data and event.name in ("EXPUNGE", "VANISHED"):
            self._forget_halves()

    def _take_whole(self, event: WholeBody) -> None:
        """What comes once for each item, as most servers say it. Anything odd about it goes the long way."""
        uid, size = int(event.uid), len(event.data)
        want = self._waiting.get(uid)
        if want is None or self._halves or self._body_number or too_large(size, self._max_size):
            for part in event.parts():
                self.listen(part)
            return
        self._pace.expect_body(size)
        writer = self._sink.open(want.key, size)
        if not writer.write(event.data):
            self._pace.pause_until_ready(writer)
        del self._waiting[uid]
        self._without_twin[uid] = want.key
        self._arrived.append(_Arrived(Fetched, want.key, writer, int(event.listed_size)))
        self.news.set()

    def _begin_body(self, place: int, items: dict[bytes, Value], size: int) -> None:
        """Open a writer unless the body is known not to be wanted. Its UID may come only behind it (then the key the sink
        is told is the sequence number). A twin is taken, but nobody waits for it: its bytes count as the others beside
        wanted bodies do, and so are bounded."""
        self._drop_body()
        self._body_number = place
        self._body_size = size
        uid = number((self._halves.get(place, {}) | items).get(b"UID"))
        if uid is not None and uid not in self._waiting and uid not in self._without_twin:
            return
        if uid not in self._without_twin:
            self._expected = size
            self._pace.expect_body(size)
        if not too_large(size, self._max_size):
            self._writer = self._sink.open(self._key_of(uid) or f"{self._epoch}.#{place}", size)

    def _write(self, data: memoryview | bytes) -> None:
        if self._writer is not None and not self._writer.write(data):
            self._pace.pause_until_ready(self._writer)

    def _finish_response(self, place: int, items: dict[bytes, Value]) -> None:
        """A whole FETCH response, or half of one: some servers tell UID and body of a message in two. One about an item
        nobody waits for settles nothing."""
        short = items.get(b"BODY[]")
        if isinstance(short, bytes):  # a quoted string
            self._begin_body(place, items, len(short))
            self._write(short)
            items[b"BODY[]"] = BODY
        whole = self._halves.pop(place, {}) | items
        uid = number(whole.get(b"UID"))
        listed_size = number(whole.get(b"RFC822.SIZE"))
        if uid in self._waiting and b"BODY[]" in whole:
            self._settle_item(uid, whole[b"BODY[]"], listed_size)
            self._expected = 0 if place == self._body_number else self._expected
        elif uid in self._without_twin and isinstance(whole.get(b"BODY[]"), StreamedBody):
            self._settle_twin(uid, listed_size)
        elif (uid is None or self._key_of(uid)) and self._keep_half(place, whole):
            return
        if place == self._body_number:
            self._drop_body()

    def _settle_item(self, uid: int, body: Value, listed_size: int | None) -> None:
        key = self._waiting.pop(uid).key
        if not isinstance(body, StreamedBody):
            self._settle(Missing(key, "the server says that the body is not available"))
        elif reason := too_large(self._body_size, self._max_size):
            self._settle(Rejected(key, "too-large", reason, skip=True))
        elif self._body_size == 0 and listed_size:
            self._settle(Missing(key, f"the server sent an empty body for an item of {listed_size} bytes"))
        else:
            self._hand_on(Fetched, key, listed_size)
            self._without_twin[uid] = key

    def _settle_twin(self, uid: int, listed_size: int | None) -> None:
        """One for each item: a server that gives a third body can give a thousandth. An empty one says nothing."""
        if self._writer is not None and self._body_size and self._twins < MOST_TWINS:
            self._twins += 1
            self._hand_on(Twin, self._without_twin.pop(uid), listed_size)

    def _hand_on(self, kind: type[Fetched | Twin], key: str, listed_size: int | None) -> None:
        assert self._writer is not None
        self._arrived.append(_Arrived(kind, key, self._writer, listed_size))
        self._writer = None
        self.news.set()

    def _key_of(self, uid: int | None) -> str | None:
        """The key of an item of which a body is taken; None for any other."""
        want = self._waiting.get(uid) if uid is not None else None
        return want.key if want is not None else self._without_twin.get(uid or 0)

    def _drop_body(self) -> None:
        """Forget the body that came last, and what was said about it, unless it was settled."""
        self._pace.expect_body(-self._expected)
        self._expected = 0
        self._halves.pop(self._body_number, None)
        self._body_number = 0
        if self._writer is not None:
            self._writer.discard()
            self._pace.release(self._writer)
            self._writer = None

    # --- halves of responses ---------------------------------------------------------------------------------------

    def _keep_half(self, place: int, items: dict[bytes, Value]) -> bool:
        """Remember what this response says of the message with that sequence number, for the one with the rest. Only the
        body that came last is kept, and what wants a pause waits for it no longer: nobody knows whether the rest comes."""
        half = {name: value for name, value in items.items() if name in (b"UID", b"RFC822.SIZE", b"BODY[]")}
        if place == 0 or len(self._halves) >= MOST_HALVES or not half.keys() & {b"UID", b"BODY[]"}:
            return False
        self._halves[place] = half
        if place == self._body_number and self._writer is not None:
            self._pace.release(self._writer)
        return True

    def _forget_halves(self) -> None:
        """An item has gone, and the sequence numbers of others have changed."""
        self._drop_body()
        self._halves.clear()

    def _settle(self, outcome: Outcome) -> None:
        self._others.append(outcome)
        self.news.set()


class Heads:
    """The beginnings of the items of these keys, as they come. ``by_key`` has those that did. Of a body that comes whole
    instead, as from a server that does not know of parts, the beginning is kept and the rest is not: each may come so once."""

    def __init__(self, epoch: str, keys: Iterable[str], size: int, pace: Pace) -> None:
        self.by_key: dict[str, bytes] = {}
        self._keys = {uid: key for key in keys if (uid := uid_of(key, epoch)) is not None}
        self._size = size
        self._pace = pace
        self._expected: set[int] = set()
        self._coming = bytearray()
        self._left = 0  # bytes of the beginning that comes

    @property
    def uids(self) -> Iterable[int]:
        """The UIDs in the keys."""
        return self._keys.keys()

    def listen(self, event: Event) -> None:
        """Take an untagged response or a part of one. Raises ``ProtocolError`` for a beginning that has no end."""
        if type(event) is WholeBody:
            for part in event.parts():
                self.listen(part)
        elif type(event) is BodyChunk:
            self._coming += event.data[: self._left]
            self._left = max(0, self._left - len(event.data))
        elif type(event) is BodyStart:
            self._begin(event)
        elif type(event) is Data and event.name == "FETCH" and event.values and isinstance(event.values[0], list):
            self._take(pairs(event.values[0]))

    def _begin(self, event: BodyStart) -> None:
        if event.name is not None and event.size > LONGEST_HEAD:
            raise ProtocolError(f"it announced {event.size} bytes as the beginning of a body")
        self._left = 0
        if event.name in (None, HEAD):
            self._coming = bytearray()
            self._left = self._size
        uid = number(pairs(event.items).get(b"UID")) or 0
        if uid in self._keys and uid not in self._expected:
            self._expected.add(uid)
            self._pace.expect_body(event.size)

    def _take(self, items: dict[bytes, Value]) -> None:
        """A FETCH response is over."""
        key = self._keys.get(number(items.get(b"UID")) or 0)
        head = items.get(HEAD, items.get(WHOLE))
        if isinstance(head, StreamedBody):
            head = bytes(self._coming)
        if key is not None and isinstance(head, bytes):
            self.by_key.setdefault(key, head[: self._size])


class _Arrived(NamedTuple):
    """A whole body, not yet handed out, and what it will be."""

    kind: type[Fetched | Twin]
    key: str
    writer: Writer
    listed_size: int | None
