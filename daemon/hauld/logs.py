"""The diary: one line when a unit of work ends, readable on a terminal, with fields in systemd's journal, JSON elsewhere.

    log = logging.getLogger("hauld.engine")
    log.info("Stored 120 messages of INBOX.", extra={"event": "folder.listed", "account": "work", "items": 120})

``event`` is a stable word for machines, the message a sentence for people, everything else in ``extra`` a field. Writing is
left to a thread behind a bounded queue: a log pipe that is full, slow or closed costs lines, which are counted and
told of later, and never stops the daemon.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

from hauld import journal
from hauld.journal import JOURNAL

LEVELS = ("debug", "info", "warning", "error")

QUEUE_LINES = 2000
"""Lines that wait for a slow pipe; more are dropped."""

LONGEST_TEXT = 8192
"""Characters of a message, a field or a traceback; the rest is cut off."""

FLUSH_SECONDS = 1.0
"""How long the end of the program waits for its last lines."""

QUIET = ("aioimaplib", "aiosqlite", "asyncio")
"""Loggers that at debug tell bodies, passwords or statements with their values: never below info."""

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""What syslog(3) and the journal call the levels."""

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


Form = Callable[[logging.LogRecord], bytes]
"""How a record is written."""


class Destination(Protocol):
    """Where it is written to. ``put`` may wait; it raises ``OSError`` or ``ValueError`` when nothing went out."""

    def put(self, written: bytes) -> None: ...

    def close(self) -> None: ...


def configure(level: str, stream: TextIO, journal_socket: Path = JOURNAL) -> PatientHandler:
    """Send all logs of that level (one of ``LEVELS``) and above to the stream, or to the journal that it leads to. The handler
    replaces an earlier one."""
    handler = PatientHandler(*way_for(stream, journal_socket))
    root = logging.getLogger()
    for earlier in [handler for handler in root.handlers if isinstance(handler, PatientHandler)]:
        root.removeHandler(earlier)
        earlier.close()
    root.addHandler(handler)
    set_level(level)
    return handler


def set_level(level: str) -> None:
    """Send logs of that level (one of ``LEVELS``) and above from now on."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))


def way_for(stream: TextIO, journal_socket: Path) -> tuple[Form, Destination]:
    """How logs for that stream are written, and where to. A service in a root of its own may lead to a journal that it cannot
    reach: its lines then begin with their priority, which the journal takes off (sd-daemon(3))."""
    if not journal.leads_to(stream):
        return in_lines(ReadableLines() if stream.isatty() else JsonLines()), Stream(stream)
    if journal.is_there(journal_socket):
        return in_fields, journal.Journal(journal_socket)
    return in_lines(JsonLines(), with_priority=True), Stream(stream)


class PatientHandler(logging.Handler):
    """Writes in a thread of its own. ``lost`` counts the lines that could not be kept or written and were not told of yet."""

    def __init__(self, form: Form, destination: Destination) -> None:
        super().__init__()
        self.lost = 0
        self._counting = threading.Lock()
        self._form = form
        self._destination = destination
        self._lines: queue.Queue[bytes | threading.Event | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write_all, name="log writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line; never waits, never raises."""
        try:
            self._lines.put_nowait(self._form(record))
        except Exception:
            self._count_lost(1)

    def flush(self) -> None:
        """Wait, but not for long, until everything logged so far is written."""
        written = threading.Event()
        try:
            self._lines.put(written, timeout=FLUSH_SECONDS)
        except queue.Full:
            return
        written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """Write what is queued and end the thread; one that is stuck in a full pipe is left behind."""
        super().close()
        if not self._thread.is_alive():
            return
        try:
            self._lines.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            return
        self._thread.join(FLUSH_SECONDS)

    def _write_all(self) -> None:
        while (entry := self._lines.get()) is not None:
            if isinstance(entry, threading.Event):
                entry.set()
                continue
            lost = self.lost
            if lost and self._write(self._loss(lost)):
                self._count_lost(-lost)
            if not self._write(entry):
                self._count_lost(1)
        self._destination.close()

    def _count_lost(self, lines: int) -> None:
        with self._counting:
            self.lost += lines

    def _loss(self, lines: int) -> bytes:
        record = logging.LogRecord("hauld.logs", logging.WARNING, "", 0, "%d log lines were lost here.", (lines,), None)
        record.event = "log.lost"
        return self._form(record)

    def _write(self, line: bytes) -> bool:
        """Whether it went out."""
        try:
            self._destination.put(line)
        except (OSError, ValueError):
            return False
        return True


class Stream:
    """A stream of text, which stays its owner's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def put(self, written: bytes) -> None:
        """Straight to the descriptor where there is one: a thread stuck in a buffered write would hold the buffer's lock, and
        the interpreter could not end."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):
            self._stream.write(written.decode())
        else:
            _write_whole(descriptor, written)

    def close(self) -> None:
        """Nothing is ours."""


def in_lines(formatter: logging.Formatter, *, with_priority: bool = False) -> Form:
    """Lines as the formatter makes them."""

    def form(record: logging.LogRecord) -> bytes:
        priority = f"<{_priority(record)}>" if with_priority else ""
        return f"{priority}{formatter.format(record)}\n".encode()

    return form


def in_fields(record: logging.LogRecord) -> bytes:
    """An entry for the journal: the sentence, and what the call gave as fields ``HAUL_...``."""
    fields = _fields(record)
    trace = _trace(record)
    lines = (_cut(record.getMessage()), *trace.splitlines())
    entry = {
        "MESSAGE": "\n".join(map(printable, lines)),
        "PRIORITY": str(_priority(record)),
        "SYSLOG_IDENTIFIER": "hauld",
        "HAUL_EVENT": fields.pop("event", "log"),
        "HAUL_LOGGER": record.name,
    }
    entry.update({f"HAUL_{name}": str(value) for name, value in fields.items()})
    return journal.entry(entry)


class ReadableLines(logging.Formatter):
    """``12:03:04 warning  sentence  account=work``; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f"  {name}={value}" for name, value in _fields(record).items() if name != "event")
        line = printable(_cut(f"{time} {record.levelname.lower():<8} {record.getMessage()}{fields}"))
        trace = "".join(f"\n    {printable(part)}" for part in _trace(record).splitlines())
        return line + trace


class JsonLines(logging.Formatter):
    """One object a line: ``time``, ``level``, ``event``, ``message``, ``logger``, the call's own fields, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": fields.pop("event", "log"),
            "message": _cut(record.getMessage()),
            "logger": record.name,
        }
        trace = _trace(record)
        entry.update({name: value for name, value in fields.items() if name not in entry})
        return _escape(json.dumps(entry | ({"traceback": trace} if trace else {}), ensure_ascii=False, default=str))


def printable(text: str) -> str:
    """The text with control, format and other invisible characters as escapes, so that nothing in it drives a terminal
    or forges a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _escape(line: str) -> str:
    """The JSON text with such characters as JSON escapes; ``json`` itself leaves most of them alone."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _priority(record: logging.LogRecord) -> int:
    return PRIORITIES.get(record.levelname.lower(), PRIORITIES["info"])


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the call gave in ``extra``."""
    return {name: _cut(value) for name, value in vars(record).items() if name not in _ORDINARY}


def _trace(record: logging.LogRecord) -> str:
    """The traceback, its end rather than its beginning when it is long."""
    if not record.exc_info:
        return ""
    return logging.Formatter().formatException(record.exc_info)[-LONGEST_TEXT:]


def _cut(value: Any) -> Any:
    return f"{value[:LONGEST_TEXT]}…" if isinstance(value, str) and len(value) > LONGEST_TEXT else value


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
