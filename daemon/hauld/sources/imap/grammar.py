"""What an IMAP server says, as values: bytes in, events out, no I/O (RFC 3501 section 9).

``Parser.feed`` takes bytes in whatever pieces they come and yields the same events for every cutting. A message's body
is never collected: its literal is handed on as ``BodyStart``, ``BodyChunk`` (views into what was fed) and ``BodyEnd``,
and the ``Data`` of the whole FETCH follows with ``BODY`` in its place. So is a part of a body (``BODY[]<offset>``), unless it
is small. What most servers say of a small message, all of it in one piece, is one ``WholeBody``, which stands for these four.

Servers differ, so the parser is lenient in what does not matter (bare LF, lower case, missing text, a parenthesis too
many) and stern in what would cost memory or the framing: every line, list and literal has a limit in ``Limits``, and
what goes beyond is a ``ProtocolError``, after which nothing more may be fed.

What is done with the events is in ``protocol``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias


class ProtocolError(Exception):
    """The server sent what cannot be understood safely; the conversation is over."""


class StreamedBody:
    """Stands in a response where its body was, after the body has been handed on."""


BODY: Final = StreamedBody()

Value: TypeAlias = "bytes | StreamedBody | list[Value] | None"
"""An atom, number or string as its bytes; None for NIL; a list."""


class Status(NamedTuple):
    """``tag OK [CODE argument] text``; the tag is ``*`` when untagged. Condition and code are upper case."""

    tag: bytes
    condition: str
    code: str = ""
    argument: bytes = b""
    text: str = ""


class Continuation(NamedTuple):
    """``+ text``: the server waits for the rest of a command."""

    text: bytes


class Data(NamedTuple):
    """Any other untagged response: ``* number NAME values``, the name in upper case."""

    name: str
    number: int | None
    values: Sequence[Value]


class BodyStart(NamedTuple):
    """A message's body of ``size`` bytes begins, or a part of it, which then has a ``name``; ``items`` came before it in the
    same FETCH response."""

    number: int
    items: Sequence[Value]
    size: int
    name: bytes | None = None


class BodyChunk(NamedTuple):
    """Bytes of the body, valid until the next event is asked for."""

    data: memoryview


class BodyEnd(NamedTuple):
    """The body is complete; the rest of its FETCH response follows as ``Data``."""


class WholeBody(NamedTuple):
    """A FETCH response with the UID, the size and the body of a message and nothing else, all of which came at once. ``data``
    is valid until the next event is asked for."""

    number: int
    uid: bytes
    listed_size: bytes
    data: memoryview

    def parts(self) -> tuple[BodyStart, BodyChunk, BodyEnd, Data]:
        """The events it stands for."""
        items: list[Value] = [b"UID", self.uid, b"RFC822.SIZE", self.listed_size]
        whole: list[Value] = [[*items, b"BODY[]", BODY]]
        return BodyStart(self.number, items, len(self.data)), BodyChunk(self.data), BodyEnd(), Data("FETCH", self.number, whole)


Event: TypeAlias = Status | Continuation | Data | BodyStart | BodyChunk | BodyEnd | WholeBody

LARGEST_LITERAL = 2**32 - 1
"""What RFC 3501 allows a literal to announce."""

LARGEST_NUMBER = 2**63 - 1
"""Sizes, UIDs and mod-sequences above this are not believed (RFC 9051 stops here, and so does SQLite)."""


@dataclass(frozen=True)
class Limits:
    """``line``: bytes of a line; ``depth``: lists in lists; ``tokens`` and ``collected``: values, and bytes of literals
    other than bodies, in one response; ``part``: bytes of a part of a body that is collected."""

    line: int = 1024 * 1024
    depth: int = 64
    tokens: int = 100_000
    collected: int = 1024 * 1024
    part: int = 64 * 1024


class Parser:
    """Turns what a server sends into events."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._line_so_far = bytearray()
        self._response: _Response | None = None
        self._literal: _Literal | None = None
        self.unread = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that ``data`` completes. Must be exhausted before the next call. Raises ``ProtocolError``.

        When a ``Status`` comes, ``unread`` is how many bytes of ``data`` are behind it."""
        position = 0
        while True:
            if self._literal is not None:
                taken = min(self._literal.left, len(data) - position)
                if taken and self._literal.streamed:
                    yield BodyChunk(memoryview(data)[position : position + taken])
                elif taken:
                    self._literal.collected += memoryview(data)[position : position + taken]
                position += taken
                self._literal.left -= taken
                if self._literal.left:
                    return
                if self._literal.streamed:
                    yield BodyEnd()
                self._finish_literal()
            while self._response is None and not self._line_so_far and (usual := _usual(data, position)):
                yield usual[0]
                position = usual[1]
            newline = data.find(b"\n", position)
            if newline < 0:
                if (event := self._keep(data[position:])) is not None:
                    yield event
                return
            line = self._whole_line(data, position, newline)
            position = newline + 1
            self.unread = len(data) - position
            if (event := self._take_line(line)) is not None:
                yield event

    # --- lines -----------------------------------------------------------------------------------------------------

    def _whole_line(self, data: bytes, start: int, newline: int) -> bytes:
        """The line that ends at ``newline``, with what had come of it before, without its line end."""
        if self._line_so_far:
            self._line_so_far += memoryview(data)[start:newline]
            line = bytes(self._line_so_far)
            self._line_so_far = bytearray()
        else:
            line = data[start:newline]
        return line[:-1] if line.endswith(b"\r") else line

    def _keep(self, beginning: bytes) -> Event | None:
        """Remember the beginning of a line. Of a list of search results, which no limit bounds, hand on what is there."""
        self._line_so_far += beginning
        if len(self._line_so_far) <= self._limits.line + 1:  # the last byte may be the CR of the line's end
            return None
        found: Event | None = None
        if self._response is None and _is_search(self._line_so_far):
            last = self._line_so_far.rfind(b" ")
            found = _search(bytes(self._line_so_far[:last]))
            self._line_so_far[len(_SEARCH) - 1 : last] = b""
        self._check_length(self._line_so_far)
        return found

    def _check_length(self, line: bytes | bytearray) -> None:
        if len(line) > self._limits.line:
            raise ProtocolError(f"a line is longer than {self._limits.line} bytes")

    def _take_line(self, line: bytes) -> Event | None:
        """What one whole line says; None for an empty one, and for one whose response goes on behind a literal."""
        if self._response is not None:
            if line == b")" and len(self._response.open_lists) == 2:
                return self._end_response(self._response)
            self._check_length(line)
            return self._parse(self._response, line, 0)
        if _is_search(line):
            return _search(line)
        self._check_length(line)
        if line.startswith(b"* "):
            return self._untagged(line)
        if line.startswith(b"+"):
            return Continuation(line[1:].strip())
        if tagged := _TAGGED.match(line):
            return _status(tagged[1], line[tagged.end(1) + 1 :])
        if not line.strip() or line.startswith(b"["):  # Exchange sends response codes on lines of their own
            return None
        raise ProtocolError(f"a line makes no sense: {line[:60]!r}")

    def _untagged(self, line: bytes) -> Event | None:
        head = _UNTAGGED.match(line)
        if head is None:
            raise ProtocolError(f"an untagged response makes no sense: {line[:60]!r}")
        if head[1] is None and (status := _status(b"*", line[head.start(2) :])):
            return status
        self._response = _Response(head[2].decode("latin-1").upper(), number(head[1]))
        return self._parse(self._response, line, head.end())

    # --- values ----------------------------------------------------------------------------------------------------

    def _parse(self, response: _Response, line: bytes, start: int) -> Event | None:
        """Add a line's values to its response. An event when that completes the response, or when a body begins."""
        literal = _LITERAL.search(line, start) if line.rstrip().endswith(b"}") else None
        tokens = _TOKEN.findall(line, start, literal.start() if literal else len(line))
        response.tokens += len(tokens) + 1
        if response.tokens > self._limits.tokens:
            raise ProtocolError(f"a response has more than {self._limits.tokens} values")
        lists = response.open_lists
        for token in tokens:
            first = token[0]
            if first == _OPEN:
                if len(lists) > self._limits.depth:
                    raise ProtocolError(f"a response has lists in lists more than {self._limits.depth} deep")
                inner: list[Value] = []
                lists[-1].append(inner)
                lists.append(inner)
            elif first == _CLOSE:
                if len(lists) > 1:
                    lists.pop()
            elif first == _QUOTE:
                lists[-1].append(_unquote(token))
            else:
                lists[-1].append(None if len(token) == 3 and token.upper() == b"NIL" else token)
        return self._begin_literal(response, literal[1]) if literal else self._end_response(response)

    def _end_response(self, response: _Response) -> Event:
        self._response = None
        return Data(response.name, response.number, response.values)

    def _begin_literal(self, response: _Response, announced: bytes) -> Event | None:
        size = number(announced)
        if size is None or size > LARGEST_LITERAL:
            raise ProtocolError(f"a literal of {announced[:24].decode('latin-1')} bytes is announced")
        name = response.expected()
        if name == WHOLE or (size > self._limits.part and is_part(name)):
            self._literal = _Literal(size, streamed=True)
            return BodyStart(response.number or 0, response.open_lists[-1][:-1], size, None if name == WHOLE else name)
        response.collected += size
        if response.collected > self._limits.collected:
            raise ProtocolError(f"a response has more than {self._limits.collected} bytes of literals outside of bodies")
        self._literal = _Literal(size, streamed=False)
        return None

    def _finish_literal(self) -> None:
        assert self._literal is not None
        assert self._response is not None
        value = BODY if self._literal.streamed else bytes(self._literal.collected)
        self._response.open_lists[-1].append(value)
        self._literal = None


class _Response:
    """An untagged response on its way; ``open_lists`` leads from its values to the innermost list that is open."""

    __slots__ = ("collected", "name", "number", "open_lists", "tokens", "values")

    def __init__(self, name: str, number: int | None) -> None:
        self.name = name
        self.number = number
        self.values: list[Value] = []
        self.open_lists: list[list[Value]] = [self.values]
        self.tokens = 0
        self.collected = 0

    def expected(self) -> bytes:
        """The name of the FETCH item whose value comes next, in upper case; empty where none does. Only the first list of a
        response tells of its message."""
        items = self.open_lists[-1]
        if self.name != "FETCH" or len(self.open_lists) != 2 or len(self.values) != 1 or len(items) % 2 == 0:
            return b""
        name = items[-1]
        return name.upper() if isinstance(name, bytes) else b""


class _Literal:
    """A literal on its way."""

    __slots__ = ("collected", "left", "streamed")

    def __init__(self, size: int, *, streamed: bool) -> None:
        self.left = size
        self.streamed = streamed
        self.collected = bytearray()


# --- reading values ------------------------------------------------------------------------------------------------

WHOLE: Final = b"BODY[]"
"""The name of a whole body in a FETCH response."""


def is_part(name: bytes) -> bool:
    """Whether a name in a FETCH response, in upper case, is that of a part of a body, as ``BODY[]<8388608>``."""
    return name.startswith(b"BODY[]<")


def number(value: Value) -> int | None:
    """A number as the server wrote it; None for what is none, negative or beyond 63 bits."""
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 20:
        return None
    n = int(value)
    return n if n <= LARGEST_NUMBER else None


def pairs(values: Sequence[Value]) -> dict[bytes, Value]:
    """``NAME value NAME value``, as in FETCH, by upper-case name; of a name that comes twice, the first."""
    found: dict[bytes, Value] = {}
    for name, value in zip(values[::2], values[1::2], strict=False):
        if isinstance(name, bytes):
            found.setdefault(name.upper(), value)
    return found


# --- grammar -------------------------------------------------------------------------------------------------------

_OPEN, _CLOSE, _QUOTE = b'()"'

_TAGGED = re.compile(rb"([A-Za-z0-9.]+) (?:OK|NO|BAD)(?: |$)", re.IGNORECASE)
_UNTAGGED = re.compile(rb"\* +(?:(\d{1,20}) +)?([^\s()]+) *")
_STATUS = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: +\[([^\] ]++) *+([^\]]*+)\])?(?: +(.*))?$", re.IGNORECASE | re.DOTALL)
_USUAL_BODY = re.compile(rb"\* ([1-9]\d{0,17}) FETCH \(UID (\d{1,18}) RFC822\.SIZE (\d{1,18}) BODY\[\] \{(\d{1,9})\}\r\n")
_USUAL_DETAILS = re.compile(
    rb"\* ([1-9]\d{0,17}) FETCH \(UID (\d{1,18}) FLAGS \(([A-Za-z0-9$_\\ -]{0,80})\)"
    rb' INTERNALDATE "([A-Za-z0-9:+ -]{1,40})" RFC822\.SIZE (\d{1,18})\)\r\n'
)
_LITERAL = re.compile(rb"(?:(?<=[ (])|^)~?\{(-?\d+)\+?\}\s*$")

# A parenthesis; a quoted string (one that never closes runs to the end of its line); a section with what it holds, as
# BODY[HEADER.FIELDS (DATE)]; or an atom. Possessive and bounded, so that no line takes more than linear time.
_TOKEN = re.compile(
    rb'[()]|"(?:[^"\\]++|\\.)*+"?|(?:BODY|BINARY)\[[^\]]{0,1000}+\][^\s()]*|[^\s()]+',
    re.IGNORECASE | re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

_SEARCH = b"* SEARCH "
_LONGEST_RESULT = 32


def _usual(data: bytes, position: int) -> tuple[Event, int] | None:
    """A response that begins there, comes once for each message, and says it as most servers do; and where the next begins."""
    if details := _USUAL_DETAILS.match(data, position):
        place, uid, flags, date, size = details.groups()
        if b"nil" not in flags.lower():
            listed: list[Value] = [*flags.split()]
            items: list[Value] = [b"UID", uid, b"FLAGS", listed, b"INTERNALDATE", date, b"RFC822.SIZE", size]
            return Data("FETCH", int(place), [items]), details.end()
    elif body := _USUAL_BODY.match(data, position):
        start = body.end()
        end = start + int(body[4])
        if start < end and data[end : end + 3] == b")\r\n":
            return WholeBody(int(body[1]), body[2], body[3], memoryview(data)[start:end]), end + 3
    return None


def _is_search(line: bytes | bytearray) -> bool:
    return line[: len(_SEARCH)].upper() == _SEARCH


def _search(line: bytes) -> Data:
    """Search results: perhaps millions, and a list of them may come in several responses."""
    results = line[len(_SEARCH) :].split()
    if results and max(map(len, results)) > _LONGEST_RESULT:
        raise ProtocolError("a search result is no number")
    return Data("SEARCH", None, results)


def _status(tag: bytes, text: bytes) -> Status | None:
    parsed = _STATUS.match(text)
    if parsed is None:
        return None
    condition, code, argument, words = (group or b"" for group in parsed.groups())
    return Status(
        tag,
        condition.decode("ascii").upper(),
        code.decode("latin-1").upper(),
        argument,
        words.decode("utf-8", "backslashreplace").strip(),
    )


def _unquote(token: bytes) -> bytes:
    inner = token[1:-1] if len(token) > 1 and token.endswith(b'"') else token[1:]
    return _ESCAPED.sub(rb"\1", inner) if b"\\" in inner else inner
