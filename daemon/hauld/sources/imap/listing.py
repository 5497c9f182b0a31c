"""What a mailbox holds: how EXAMINE, SEARCH and FETCH answers become items, and when a cursor proves that nothing changed.

Pure functions and values; ``session`` asks the server.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence, Set
from datetime import date
from functools import lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple

import msgspec

from hauld.model import Notice, RemoteItem
from hauld.sources.imap.grammar import LARGEST_NUMBER, Data, Event, ProtocolError, Status, Value, number, pairs
from hauld.sources.imap.names import canonical

DETAILS = b"(UID FLAGS INTERNALDATE RFC822.SIZE)"
"""What is asked for each item of a listing."""

UIDS = b"(UID)"
"""What is asked for each item of a folder of which SEARCH has left some out."""

STATUS_ITEMS = b"STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
"""What is asked for each folder along with its name (RFC 5819): all that makes a cursor."""

MOST_FOUND = 5_000_000
"""UIDs that one SEARCH may answer: 40 MB of memory, and more items than any folder that is known of."""

STRETCH = 50_000
"""UIDs that are known, in a stretch of which every item is asked for."""


class Mailbox:
    """What an EXAMINE tells, kept up to date by the untagged responses that follow it. ``sound`` is whether these make sense
    together: where they do not, nothing may be concluded from what is not there. ``new`` and ``other`` are what has been
    heard since the folder was ``opened`` and nobody has been told yet, as a ``Notice`` has them; ``arrived`` are how many items
    came since somebody asked for them."""

    def __init__(self) -> None:
        self.uidvalidity = 0
        self.uidnext: int | None = None
        self.exists: int | None = None
        self.highestmodseq: int | None = None
        self.expunged = 0
        self.sound = True
        self.arrived = 0
        self.new = False
        self.other = False
        self._is_open = False

    def opened(self) -> None:
        """The EXAMINE has been answered: what is heard from here on are changes."""
        self._is_open = True

    @property
    def changed(self) -> bool:
        """Whether there is a notice to take."""
        return self.new or self.other

    def take_notice(self) -> Notice | None:
        """What was heard since the last call."""
        notice = Notice(self.new, self.other) if self.changed else None
        self.new = self.other = False
        return notice

    def forget_arrivals(self) -> None:
        """Somebody asks for them."""
        self.new = False
        self.arrived = 0

    def reached(self, uid: int) -> None:
        """There is an item with that UID."""
        self.uidnext = max(self.uidnext or 0, uid + 1)

    def most_above(self, uid: int) -> int | None:
        """How many items may have a UID above this one, by what the server has said; None where it has not said enough."""
        if self.uidnext is None or self.exists is None:
            return self.exists
        return min(self.exists, max(0, self.uidnext - 1 - uid) + self.arrived)

    @property
    def epoch(self) -> str:
        """Without UIDVALIDITY, or with one of 0, the epoch is ``0``: UIDs are taken to mean the same for ever."""
        return str(self.uidvalidity)

    def listen(self, event: Event) -> None:
        """Take an untagged response. Raises ``ProtocolError`` when the UIDs of the open folder mean something else from now on:
        what was asked about the old ones may be answered about the new ones."""
        if type(event) is Status:
            value = number(event.argument.strip())
            if event.code == "UIDVALIDITY":
                if self._is_open and self.uidvalidity != (value or 0):
                    raise ProtocolError("it changed the UIDVALIDITY of the open folder")
                self.uidvalidity = value or 0
            elif event.code == "UIDNEXT":
                self.uidnext = value
            elif event.code == "HIGHESTMODSEQ":
                self.highestmodseq = value or None
        elif type(event) is Data:
            if event.name == "EXISTS":
                self._take_exists(event.number)
            elif event.name == "EXPUNGE":
                self._take_expunge(event.number)
            elif event.name == "VANISHED" or (event.name == "FETCH" and _tells_of_flags(event.values)):
                self.other |= self._is_open

    def _take_exists(self, count: int | None) -> None:
        """Only EXPUNGE may make them fewer (RFC 3501, 7.3.1)."""
        before = self.exists or 0
        if count is None or (self.exists is not None and count < self.exists):
            self.sound = False
            self.other |= self._is_open
        elif self._is_open and count > before:
            self.arrived += count - before
            self.new = True
        self.exists = count

    def _take_expunge(self, place: int | None) -> None:
        self.other |= self._is_open
        if place is None or self.exists is None or not 1 <= place <= self.exists:
            self.sound = False
            return
        self.exists -= 1
        self.expunged += 1


class Count:
    """How many items a folder has, by what the server had said of it when this was made, and has said since."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._exists = mailbox.exists
        self._expunged = mailbox.expunged
        self._arrived = mailbox.arrived

    @property
    def told(self) -> bool:
        """Whether the server had said anything of it."""
        return self._exists is not None

    @property
    def least(self) -> int:
        """How many an answer that is not older than this has to name: what has gone since may have gone before it, and what has
        come may have come behind it."""
        return (self._exists or 0) - (self._mailbox.expunged - self._expunged)

    @property
    def most(self) -> int:
        """How many it can name: what has gone since may have gone behind it."""
        return (self._exists or 0) + (self._mailbox.arrived - self._arrived)


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a listing stands. Equal cursors prove that nothing changed where they have a mod-sequence (RFC 7162, 3.1.2.1)."""

    uidvalidity: int
    uidnext: int | None
    exists: int | None
    highestmodseq: int | None

    @property
    def proves(self) -> bool:
        """Whether another one that is equal proves anything."""
        return self.highestmodseq is not None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode_cursor(raw: bytes | None) -> Cursor | None:
    """A cursor that ``encode`` made; None for anything else."""
    try:
        return msgspec.json.decode(raw, type=Cursor) if raw else None
    except msgspec.DecodeError:
        return None


def cursors_told(told: Sequence[Data]) -> dict[bytes, Cursor]:
    """By raw folder name, where a listing would end now, from STATUS responses. Of a folder that several lines contradict each
    other about, or of which less is told than makes a cursor that proves something, none."""
    cursors: dict[bytes, Cursor | None] = {}
    for data in told:
        if data.name == "STATUS" and len(data.values) == 2:
            name, items = data.values
            if isinstance(name, bytes) and isinstance(items, list):
                raw, cursor = canonical(name), _status_cursor(items)
                cursors[raw] = cursor if cursors.get(raw, cursor) == cursor else None
    return {raw: cursor for raw, cursor in cursors.items() if cursor is not None}


def _status_cursor(items: Sequence[Value]) -> Cursor | None:
    told = pairs(items)
    names = (b"UIDVALIDITY", b"UIDNEXT", b"MESSAGES", b"HIGHESTMODSEQ")
    uidvalidity, uidnext, messages, highestmodseq = (number(told.get(name)) for name in names)
    if not uidvalidity or not uidnext or messages is None or not highestmodseq:
        return None
    return Cursor(uidvalidity, uidnext, messages, highestmodseq)


def item_key(uidvalidity: int, uid: int) -> str:
    return f"{uidvalidity}.{uid}"


def uid_of(key: str, epoch: str) -> int | None:
    """The UID in an item's key; None when the key is of another epoch or no key at all."""
    validity, _, uid = key.partition(".")
    return (number(uid.encode()) or None) if validity == epoch else None


class Found:
    """The UIDs that a SEARCH answered, perhaps over several untagged lines, or a FETCH: ascending, each once."""

    def __init__(self) -> None:
        self.answered = False
        self._uids = array("Q")

    def listen(self, event: Event) -> None:
        """Take an untagged response to a SEARCH."""
        if type(event) is Data and event.name == "SEARCH":
            self.answered = True
            self._add(event.values)

    def listen_to_fetch(self, event: Event) -> None:
        """Take an untagged response to a FETCH."""
        if type(event) is Data and event.name == "FETCH" and event.values and isinstance(event.values[0], list):
            self._add([pairs(event.values[0]).get(b"UID")])

    def _add(self, values: Sequence[Value]) -> None:
        self._uids.extend(uid for uid in map(number, values) if uid)
        if len(self._uids) > MOST_FOUND:
            raise ProtocolError(f"an answer has more than {MOST_FOUND} results")

    def uids(self) -> array[int]:
        if all(before < after for before, after in pairwise(self._uids)):
            return self._uids
        return array("Q", (uid for uid, _ in groupby(sorted(self._uids))))


class Stretch(NamedTuple):
    """The UIDs from ``first`` to ``last``, or all from there on, and those of them that are known, ascending."""

    first: int
    last: int | None
    known: Sequence[int]

    @property
    def uid_set(self) -> bytes:
        """As IMAP has it."""
        return b"%d:*" % self.first if self.last is None else b"%d:%d" % (self.first, self.last)

    def of(self, uids: Sequence[int]) -> Sequence[int]:
        """Those of these, which ascend, that lie in it."""
        return uids[bisect_left(uids, self.first) : bisect_right(uids, LARGEST_NUMBER if self.last is None else self.last)]


def stretches(uids: Sequence[int]) -> Iterator[Stretch]:
    """All UIDs that there can be, in stretches in which not too many of these lie, which ascend."""
    first = 1
    for end in range(STRETCH, len(uids), STRETCH):
        yield Stretch(first, uids[end] - 1, uids[end - STRETCH : end])
        first = uids[end]
    yield Stretch(first, None, uids[bisect_left(uids, first) :])


class Details:
    """What FETCH answered about the UIDs that are expected, until it is taken. All else is ignored."""

    def __init__(self) -> None:
        self._expected: dict[int, dict[bytes, Value]] = {}
        self._room = 0

    def expect_any(self, most: int) -> None:
        """Details of UIDs that are not known yet are being asked for, of so many at most."""
        self._room = most

    @property
    def uids(self) -> Set[int]:
        """The UIDs that are expected, or were answered where any were."""
        return self._expected.keys()

    def has(self, uids: Sequence[int]) -> bool:
        """Whether each of these was answered in full, and not only with flags that somebody changed."""
        return all(b"RFC822.SIZE" in self._expected.get(uid, ()) for uid in uids)

    def expect(self, uids: Sequence[int]) -> None:
        """Details of these are being asked for."""
        self._expected |= {uid: {} for uid in uids}

    def listen(self, event: Event) -> None:
        """Take an untagged response."""
        if type(event) is Data and event.name == "FETCH" and event.values and isinstance(event.values[0], list):
            items = pairs(event.values[0])
            uid = number(items.get(b"UID"))
            if uid and uid not in self._expected and len(self._expected) < self._room:
                self._expected[uid] = {}
            if uid in self._expected:
                self._expected[uid] |= items

    def take(self, uidvalidity: int, uids: Sequence[int], max_size: int | None) -> Sequence[RemoteItem]:
        """The items of these UIDs, newest first; those that were not answered, without details."""
        return [_item(uidvalidity, uid, self._expected.pop(uid), max_size) for uid in reversed(uids)]


def _item(uidvalidity: int, uid: int, items: dict[bytes, Value], max_size: int | None) -> RemoteItem:
    size = number(items.get(b"RFC822.SIZE"))
    return RemoteItem(
        key=item_key(uidvalidity, uid),
        ordinal=uid,
        size=size,
        flags=flags_of(items.get(b"FLAGS")),
        date=date_of(items.get(b"INTERNALDATE")),
        skip=too_large(size, max_size),
    )


def _tells_of_flags(values: Sequence[Value]) -> bool:
    """Whether a FETCH response says that flags have changed: nobody asks for the flags of an item without its size."""
    if not values or not isinstance(values[0], list):
        return False
    if b"RFC822.SIZE" in values[0]:  # as a listing is answered, a thousand times a page
        return False
    items = pairs(values[0])
    return b"FLAGS" in items and b"RFC822.SIZE" not in items


def too_large(size: int | None, limit: int | None) -> str | None:
    """Why an item of that size is not downloaded; None when it is."""
    if size is None or limit is None or size <= limit:
        return None
    return f"too large: {size} bytes, the limit is {limit}"


# --- flags and dates -----------------------------------------------------------------------------------------------

MOST_FLAGS = 128
LONGEST_FLAG = 128
"""Flags beyond these are left out: no program that reads the copy could show them."""

_SYSTEM_FLAGS = {flag.upper(): flag for flag in (r"\Answered", r"\Flagged", r"\Deleted", r"\Seen", r"\Draft")}


def flags_of(value: Value) -> tuple[str, ...]:
    r"""Flags in the server's order, system flags in their usual case; ``\Recent`` is the connection's, not the item's."""
    if not isinstance(value, list):
        return ()
    flags = [flag for flag in value if isinstance(flag, bytes) and len(flag) <= LONGEST_FLAG]
    return _flags(tuple(flags[: MOST_FLAGS + 1]))


@lru_cache(maxsize=256)
def _flags(value: tuple[bytes, ...]) -> tuple[str, ...]:
    """The same few are on most messages."""
    texts = (flag.decode("utf-8", "backslashreplace") for flag in value)
    flags = [_SYSTEM_FLAGS.get(text.upper(), text) for text in texts if text.upper() != r"\RECENT"]
    return tuple(dict.fromkeys(flags[:MOST_FLAGS]))


_DATE = re.compile(rb" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS = {month: n for n, month in enumerate(b"JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
_FIRST_YEAR, _LAST_YEAR = 1970, 2100


def date_of(value: Value) -> int | None:
    """INTERNALDATE as Unix milliseconds; None where it makes no sense."""
    parsed = _DATE.fullmatch(value) if isinstance(value, bytes) else None
    if parsed is None:
        return None
    day, month, year, hours, minutes, seconds, sign, zone_hours, zone_minutes = parsed.groups()
    midnight = _midnight(int(year), month.upper(), int(day))
    hour, minute, east_hours, east_minutes = int(hours), int(minutes), int(zone_hours), int(zone_minutes)
    if midnight is None or hour > 23 or minute > 59 or east_hours > 14 or east_minutes > 59:
        return None
    east = (east_hours * 60 + east_minutes) * (60 if sign == b"+" else -60)
    return (midnight + hour * 3600 + minute * 60 + min(int(seconds), 59) - east) * 1000


@lru_cache(maxsize=1024)
def _midnight(year: int, month: bytes, day: int) -> int | None:
    """Seconds from 1970 to the beginning of that day, on which many messages may come; None where there is no such day, or not
    in our time."""
    if month not in _MONTHS or not _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    try:
        return (date(year, _MONTHS[month], day) - date(1970, 1, 1)).days * 86400
    except ValueError:
        return None
