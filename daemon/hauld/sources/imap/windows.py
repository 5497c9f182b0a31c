"""One large body, window by window (RFC 3501, 6.4.5: ``BODY.PEEK[]<offset.length>``), so that a fetch goes on at the byte.

``Windows`` says which window to ask for next and takes what comes; ``session`` sends the commands, two at a time, so that a
round trip costs nothing. What a server makes of such a question is checked: each window begins with bytes that are there
already, and has exactly the length that follows from RFC822.SIZE, which is asked for again with each. The last one reaches
beyond the end, where nothing may come. A body of which anything is otherwise is forgotten, and fetched whole.
"""

from __future__ import annotations

import re
from collections import deque

from hauld.model import OVERLAP, PartWriter
from hauld.sources.imap import answers
from hauld.sources.imap.fetching import Pace
from hauld.sources.imap.grammar import WHOLE, BodyChunk, BodyStart, Data, Event, Status, Value, is_part, number, pairs

IN_FLIGHT = 2
"""How many windows are asked for at once."""

PART = b"%d (UID RFC822.SIZE BODY.PEEK[]<%d.%d>)"
"""UID, first byte, and how many bytes."""

_PART_NAME = re.compile(rb"BODY\[\]<(\d+)>")


class Windows:
    """The windows, of ``window`` bytes each, of one item of ``size`` bytes. ``trouble`` says why they are of no use, as soon as
    one is not what it has to be; ``wrong`` is whether no other item of this server should be tried in windows, either."""

    def __init__(self, uid: int, size: int, window: int, writer: PartWriter, pace: Pace) -> None:
        self.trouble: str | None = None
        self.wrong = False
        self._uid = uid
        self._size = size
        self._window = window
        self._writer = writer
        self._pace = pace
        self._next = writer.offset  # the first new byte of the window to be asked for next
        self._asked: deque[_Window] = deque()
        self._coming: _Window | None = None
        self._position = 0  # of the byte of the body that comes next
        self._written = writer.offset
        self._tail = writer.tail
        self._whole = 0  # how many windows came as they have to be
        self._answered = 0

    @property
    def complete(self) -> bool:
        """Whether every byte has come, and none beyond the end."""
        return self.trouble is None and self._written == self._size and not self._asked and self._next > self._size

    def ask(self) -> bytes | None:
        """The arguments of the next UID FETCH; None where none is due now. Until the first window has come only one is."""
        if self.trouble is not None or self._next > self._size or len(self._asked) >= (IN_FLIGHT if self._whole else 1):
            return None
        start = max(0, self._next - OVERLAP)
        length = self._next - start + self._window
        self._asked.append(_Window(start, min(length, self._size - start)))
        self._next += self._window
        return PART % (self._uid, start, length)

    def answer(self, status: Status) -> None:
        """One more command was answered: its window has come, or does not come any more."""
        self._answered += 1
        if self._whole < self._answered:
            self.wrong |= status.condition == "BAD"
            self._give_up("it was left out" if status.condition == "OK" else f"the server said: {answers.words(status)}")

    def listen(self, event: Event) -> None:
        """Take an untagged response or a part of one."""
        if type(event) is BodyChunk:
            if self._coming is not None:
                self._take(event.data)
        elif type(event) is BodyStart:
            self._coming = None
            if event.name is not None and number(pairs(event.items).get(b"UID")) in (None, self._uid):
                self._begin(event.name, event.size)
        elif type(event) is Data and event.name == "FETCH" and event.values and isinstance(event.values[0], list):
            self._end(pairs(event.values[0]))

    # --- one window ------------------------------------------------------------------------------------------------

    def _begin(self, name: bytes, size: int) -> None:
        """A window comes. One of another length, too, counts as wanted: a server that answers with the whole body again and
        again is not to be believed, but one that does so once is to be asked for it."""
        if self.trouble is not None:
            return
        self._pace.expect_body(size)
        due = self._asked[0] if self._asked else None
        part = _PART_NAME.fullmatch(name)
        if due is None or part is None or number(part[1]) != due.start or size != due.length:
            self._refuse(f"it answered with {size} bytes as {name[:40].decode('latin-1')}")
            return
        self._coming = due
        self._position = due.start

    def _take(self, data: memoryview | bytes) -> None:
        """What is there already has to be the same; what is not is written."""
        again = min(len(data), self._written - self._position)
        if again > 0:
            known = self._position - (self._written - len(self._tail))
            if data[:again] != self._tail[known : known + again]:
                self._refuse("bytes that it gave a second time are others")
                return
            self._position += again
            data = data[again:]
        if data:
            self._position += len(data)
            self._written = self._position
            self._tail = (self._tail + bytes(data[-OVERLAP:]))[-OVERLAP:]
            if not self._writer.write(data):
                self._pace.pause_until_ready(self._writer)

    def _end(self, items: dict[bytes, Value]) -> None:
        """A FETCH response is over."""
        uid, name = number(items.get(b"UID")), next(filter(is_part, items), None)
        if WHOLE in items and uid == self._uid:
            self._refuse("it answered with the whole body")
        if name is None or self.trouble is not None:
            return
        value = items[name]
        if isinstance(value, bytes):
            self._begin(name, len(value))
            if self._coming is not None:
                self._take(value)
        if value is None:
            self._give_up("it says that a part of it is not available")
        elif uid != self._uid or number(items.get(b"RFC822.SIZE")) != self._size:
            self._refuse("it told another UID or size")
        elif self._coming is not None:
            self._coming = None
            self._whole += 1
            self._asked.popleft()

    # --- trouble ---------------------------------------------------------------------------------------------------

    def _refuse(self, trouble: str) -> None:
        self.wrong = True
        self._give_up(trouble)

    def _give_up(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble
        self._coming = None
        self._asked.clear()


class _Window:
    """What was asked for: ``length`` bytes from ``start`` on, fewer than in the question where the body ends before."""

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.length = length
