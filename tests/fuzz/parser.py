"""Feed the reader of server answers a great many wrong ones: ``python tests/fuzz/parser.py --count 1000000``.

Each input is some lines of recorded or scripted answers with a few wrongs, cut anywhere. It goes through the parser, and what
comes out of that through everything that takes events: mailboxes, searches, details, folder lists, words of refusal, and the
delivery of bodies. The only errors may be the documented ones, no input may take a second, and memory stays flat.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutation import Figures, main, mutated, run
from hauld.errors import HaulError
from hauld.model import Buffer, Fetched, RemoteFolder, RemoteItem, Twin, Want
from hauld.model import Writer as WriterPort
from hauld.sources.imap import answers
from hauld.sources.imap.fetching import Delivery
from hauld.sources.imap.grammar import Continuation, Data, Event, Limits, Parser, ProtocolError, Status
from hauld.sources.imap.listing import Cursor, Details, Found, Mailbox, decode_cursor
from hauld.sources.imap.session import _folders

TRANSCRIPTS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "transcripts"
"""Recorded answers of real servers, where this machine has them."""

SCRIPTED = [
    b"* OK [CAPABILITY IMAP4rev1 CONDSTORE] ready\r\n",
    b"* 3 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 4] x\r\n* OK [HIGHESTMODSEQ 7] x\r\nA1 OK [READ-ONLY] done\r\n",
    b'* LIST (\\HasNoChildren \\Sent) "/" "Sent &AOk-"\r\n* LIST (\\Noselect) NIL {4}\r\na\r\nb\r\nA1 OK done\r\n',
    b"* SEARCH 1 2 3 4 5 6 7 8 9\r\nA2 OK done\r\n",
    b'* 1 FETCH (UID 1 FLAGS (\\Seen $x) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 10)\r\n',
    b"* 1 FETCH (UID 1 RFC822.SIZE 10 BODY[] {10}\r\n0123456789)\r\nA3 OK done\r\n",
    b"* 2 FETCH (BODY[] {5}\r\nhello RFC822.SIZE 5 UID 2)\r\n* 2 FETCH (UID 2 BODY[] {5}\r\nworld)\r\n",
    b'* 3 FETCH (UID 3)\r\n* 3 FETCH (BODY[] "quoted \\"short\\"")\r\n* 4 FETCH (BODY[] {3}\r\nabc)\r\n* 4 FETCH (UID 4)\r\n',
    b"* 5 FETCH (UID 5 BODY[] NIL)\r\n* 6 FETCH (UID 6 RFC822.SIZE 9 BODY[] {0}\r\n)\r\n* 2 EXPUNGE\r\n* VANISHED 1:3\r\n",
    b"* 7 FETCH (UID 7 BODY[] {200}\r\n" + b"too large " * 20 + b")\r\nA4 NO [SERVERBUG] no\r\n",
    b"+ go on\r\n* BYE [UNAVAILABLE] Suggested Backoff Time: 1500 milliseconds\r\n",
]

WORDS = [
    *(b"* ", b"+ ", b"A1 OK ", b" ", b"(", b")", b"[", b"]", b'"', b"\\", b"\x00", b"\xff", b"\r\n", b"\n", b"\r"),
    *(b"{3}\r\n", b"{0}\r\n", b"~{12}\r\n", b"{200}\r\n", b"{-1}\r\n", b"{2000000}\r\n", b"{4294967295}\r\n", b"NIL"),
    *(b"FETCH ", b"UID 2 ", b"BODY[] ", b"BODY[HEADER", b"FLAGS ", b"* SEARCH ", b"* LIST ", b"EXISTS", b"EXPUNGE"),
    *(b"* 2 FETCH (UID 2 BODY[] {1}\r\nx)\r\n", b"* 1 EXPUNGE\r\n", b"(" * 70, b'"' * 30, b"1 " * 70, b"x" * 600),
]

SMALL = Limits(line=500, depth=8, tokens=100, collected=300)
LARGEST_ITEM = 150


def recorded() -> list[bytes]:
    """The recorded answers, with line ends as on the wire."""
    texts = [path.read_bytes() for path in sorted(TRANSCRIPTS.glob("*/*.txt"))]
    return [text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"A########", b"A00000001") for text in texts]


def fuzz(count: int, seed: str, first: int = 0) -> Figures:
    """Try so many inputs of that seed."""
    known = SCRIPTED * 8 + recorded()  # about as often the one as the other
    return run(count, seed, lambda dice: try_one(dice, known), first)


def try_one(dice: random.Random, known: Sequence[bytes]) -> bool:
    """One input through everything; whether it was refused."""
    lines = b"".join(dice.choices(known, k=dice.choice((1, 1, 2, 4))))
    start = dice.randrange(max(1, len(lines) - 3000))
    start = lines.rfind(b"\n", 0, start) + 1
    return take(dice, mutated(dice, lines[start : start + 3000], WORDS, known))


def take(dice: random.Random, data: bytes) -> bool:
    """These bytes, cut anywhere, through everything; whether they were refused. Raises what nobody has documented."""
    edges = [0, *sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 1, 3, 30)))), len(data)]
    parser = Parser(dice.choice((SMALL, Limits())))
    ear = Ear()
    refused = False
    try:
        for start, end in pairwise(edges):
            for event in parser.feed(data[start:end]):
                ear.listen(event)
            if dice.random() < 0.3:
                ear.delivered.take()
    except (ProtocolError, HaulError):
        refused = True
    ear.conclude()
    return refused


class Ear:
    """Everything that listens to a server, at once, and what it promises in the end."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.pace = Pace()
        self.uids = range(1, 8)
        self.delivery = Delivery("1", [Want(f"1.{uid}") for uid in self.uids], self.sink, LARGEST_ITEM, self.pace)
        self.delivered = Delivered(self.delivery)
        self.mailbox = Mailbox()
        self.found = Found()
        self.details = Details()
        self.details.expect(self.uids)
        self.listed: list[Data] = []

    def listen(self, event: Event) -> None:
        for listener in (self.mailbox.listen, self.found.listen, self.details.listen, self.delivery.listen):
            listener(event)
        if type(event) is Status:
            for error in (answers.setback("here", event), answers.farewell("here", event), answers.refusal("here", event)):
                assert error is None or error.message.isprintable()
        elif type(event) is Data and event.name == "LIST":
            self.listed.append(event)
        else:
            assert type(event) is not Continuation or len(event.text) < 2**20

    def conclude(self) -> None:
        cursor = Cursor(self.mailbox.uidvalidity, self.mailbox.uidnext, self.mailbox.exists, self.mailbox.highestmodseq)
        assert decode_cursor(cursor.encode()) == cursor
        uids = self.found.uids()
        assert all(0 < before < after < 2**63 for before, after in pairwise([*uids, 2**63 - 1][:-1] or [1, 2]))
        check_items(self.details.take(1, self.uids, LARGEST_ITEM))
        check_folders([*_folders(self.listed)])
        self.delivery.give_up(self.uids, "the end")
        self.delivered.take()
        self.delivery.close()
        self.delivered.check({f"1.{uid}" for uid in self.uids})
        assert not self.sink.unfinished, "a body is neither finished nor forgotten"
        assert not any(writer.discarded for writer in self.pace.awaited), "reading is paused for a body that was forgotten"


class Delivered:
    """What a delivery has handed out: exactly one outcome of each want, and a twin only behind a body."""

    def __init__(self, delivery: Delivery) -> None:
        self.outcomes: Counter[str] = Counter()
        self.twins: Counter[str] = Counter()
        self._delivery = delivery
        self._fetched: set[str] = set()

    def take(self) -> None:
        for outcome in self._delivery.take():
            if isinstance(outcome, Twin):
                assert outcome.key in self._fetched, "a twin before its first"
                self.twins[outcome.key] += 1
            else:
                self.outcomes[outcome.key] += 1
            if isinstance(outcome, Fetched):
                self._fetched.add(outcome.key)
            if isinstance(outcome, Fetched | Twin):
                assert isinstance(outcome.body, Writer)
                assert outcome.body.size == outcome.body.announced <= LARGEST_ITEM, "a body that is not what was announced"

    def check(self, keys: set[str]) -> None:
        assert self.outcomes == Counter(keys), "not exactly one outcome for each want"
        assert not self.twins or max(self.twins.values()) == 1


def check_items(items: Sequence[RemoteItem]) -> None:
    for item in items:
        assert item.size is None or 0 <= item.size < 2**63
        assert item.date is None or 0 <= item.date < 2**43
        assert len(item.flags) <= 128


def check_folders(folders: Sequence[RemoteFolder]) -> None:
    assert len({folder.raw for folder in folders}) == len(folders)
    for folder in folders:
        folder.name.encode()


# --- the other end -------------------------------------------------------------------------------------------------


class Pace:
    """Knows the writers that reading waits for."""

    def __init__(self) -> None:
        self.awaited: list[Writer] = []

    def pause_until_ready(self, writer: WriterPort) -> None:
        assert isinstance(writer, Writer)
        if writer not in self.awaited:
            self.awaited.append(writer)

    def release(self, writer: WriterPort) -> None:
        self.awaited = [other for other in self.awaited if other is not writer]

    def expect_body(self, size: int) -> None:
        pass


class Sink:
    """Counts bytes and keeps none."""

    def __init__(self) -> None:
        self._writers: list[Writer] = []

    def open(self, key: str, size: int) -> Writer:
        assert size <= LARGEST_ITEM, "a body above the limit is opened"
        self._writers.append(Writer(size))
        return self._writers[-1]

    @property
    def unfinished(self) -> list[Writer]:
        return [writer for writer in self._writers if not (writer.finished or writer.discarded)]


class Writer:
    """Knows what it was promised; asks for a pause now and then, and never calls back."""

    def __init__(self, announced: int) -> None:
        self.announced = announced
        self.size = 0
        self.finished = False
        self.discarded = False

    def write(self, data: Buffer) -> bool:
        assert not self.finished, "bytes for a body that is finished"
        assert not self.discarded, "bytes for a body that was forgotten"
        self.size += len(data)
        return self.announced % 3 != 0

    def when_ready(self, resume: Callable[[], None]) -> None:
        raise AssertionError("only the connection waits for a writer")

    def finish(self) -> Writer:
        assert not self.discarded, "a body that was forgotten is finished"
        self.finished = True
        return self

    def discard(self) -> None:
        self.discarded = self.discarded or not self.finished


if __name__ == "__main__":
    main(__doc__, 1_000_000, fuzz)
