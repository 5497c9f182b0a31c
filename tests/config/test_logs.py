"""Logs: readable on a terminal, fields in the journal, JSON elsewhere, and never in the way (L20)."""

from __future__ import annotations

import io
import json
import logging
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauld.journal import LONGEST_FIELD, entry
from hauld.logs import LONGEST_TEXT, QUEUE_LINES, JsonLines, PatientHandler, ReadableLines, configure, printable

log = logging.getLogger("hauld.test")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, quiet = root.level, {name: logging.getLogger(name).level for name in ("aioimaplib", "aiosqlite", "asyncio")}
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, PatientHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def record(message: str, *args: object, exc_info=None, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("hauld.test", logging.INFO, "", 0, message, args, exc_info)
    vars(made).update(extra)
    return made


def failure():
    try:
        raise ValueError("what\nhappened\x1b[2J")
    except ValueError as error:
        return type(error), error, error.__traceback__


# --- lines ---------------------------------------------------------------------------------------------------------


def test_elsewhere_a_line_is_one_json_object_with_its_word_and_its_fields():
    stream = io.StringIO()
    handler = configure("info", stream)
    log.info("Stored %d messages.", 3, extra={"event": "folder.listed", "account": "work", "items": 3})
    handler.flush()
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "event": "folder.listed",
        "message": "Stored 3 messages.",
        "logger": "hauld.test",
        "account": "work",
        "items": 3,
    }


def test_on_a_terminal_a_line_is_a_sentence_with_its_fields():
    stream = Terminal()
    handler = configure("info", stream)
    log.warning("The disk is full.", extra={"event": "disk.full", "account": "work"})
    handler.flush()
    assert stream.getvalue()[8:] == " warning  The disk is full.  account=work\n"


def test_a_traceback_is_a_field_or_indented_lines():
    entry = json.loads(JsonLines().format(record("Odd.", exc_info=failure())))
    assert "ValueError: what\nhappened" in entry["traceback"]
    lines = ReadableLines().format(record("Odd.", exc_info=failure())).splitlines()
    assert lines[0].endswith("Odd.")
    assert lines[-1] == "    happened\\x1b[2J"


@given(st.text(st.characters(exclude_categories=[])))
def test_C12_nothing_in_a_line_drives_a_terminal_or_forges_another(text):
    readable = ReadableLines().format(record("%s", text, field=text))
    assert readable.isprintable()
    structured = JsonLines().format(record("%s", text, field=text))
    assert structured.isprintable()
    structured.encode()
    entry = json.loads(structured)
    assert entry["message"] == entry["field"] == text


def test_C12_escape_sequences_are_shown_as_what_they_are():
    assert printable("Grüße\x1b[31m\x9b\u202e\ud800\n") == "Grüße\\x1b[31m\\x9b\\u202e\\ud800\\n"


def test_a_fields_name_never_hides_the_lines_own():
    entry = json.loads(JsonLines().format(record("Real.", level="forged", time="never", event="word")))
    assert (entry["level"], entry["message"], entry["event"]) == ("info", "Real.", "word")
    assert entry["time"] != "never"


def test_what_json_cannot_say_is_said_as_text():
    assert json.loads(JsonLines().format(record("Seen.", where=os.sep.__class__)))["where"] == "<class 'str'>"


def test_a_long_text_is_cut():
    entry = json.loads(JsonLines().format(record("x" * 100_000)))
    assert entry["message"] == "x" * LONGEST_TEXT + "…"


# --- the journal ---------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that the journal listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(10)
        yield listening


@pytest.fixture
def stderr(pipe, monkeypatch) -> io.TextIOWrapper:
    """Standard error as systemd connects it with the journal."""
    _, stream = pipe
    found = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    return stream


def fields(data: bytes) -> dict[str, str]:
    """What an entry says, read as the journal reads it."""
    found: dict[str, str] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, plain, value = line.partition(b"=")
        if not plain:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data.startswith(b"\n")
            data = data[1:]
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


def test_under_systemd_an_entry_has_its_word_and_its_fields(stderr, journal):
    configure("info", stderr, Path(journal.getsockname()))
    log.warning("The disk is %s.", "full", extra={"event": "disk.full", "account": "work", "items": 3})
    assert fields(journal.recv(1 << 20)) == {
        "MESSAGE": "The disk is full.",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "hauld",
        "HAUL_EVENT": "disk.full",
        "HAUL_LOGGER": "hauld.test",
        "HAUL_ACCOUNT": "work",
        "HAUL_ITEMS": "3",
    }


def test_a_traceback_follows_its_sentence(stderr, journal):
    configure("info", stderr, Path(journal.getsockname()))
    log.error("Odd.", exc_info=failure())
    first, *trace = fields(journal.recv(1 << 20))["MESSAGE"].splitlines()
    assert first == "Odd."
    assert trace[-2:] == ["ValueError: what", "happened\\x1b[2J"]


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=[]))))
def test_C12_no_value_adds_a_field_to_an_entry_and_no_name_is_one_that_the_journal_keeps_to_itself(values):
    values = {f"{number}{name}": value for number, (name, value) in enumerate(values.items())}
    for name, value in values.items():
        [(said, told)] = fields(entry({name: value})).items()
        assert said[0].isalpha()
        assert set(said) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
        assert told == value.encode(errors="backslashreplace").decode()


def test_a_long_field_is_cut_so_that_the_entry_fits_into_a_datagram(stderr, journal):
    configure("info", stderr, Path(journal.getsockname()))
    log.info("€" * 100_000, extra={"names": ["€" * 100_000], "account": "work"})
    told = fields(journal.recv(1 << 20))
    assert max(len(value.encode()) for value in told.values()) <= LONGEST_FIELD
    assert told["HAUL_ACCOUNT"] == "work"


def test_a_journal_that_cannot_be_reached_gets_lines_with_their_priority(stderr, pipe, tmp_path):
    reading, _ = pipe
    configure("info", stderr, tmp_path / "none")
    log.error("loud")
    line = os.read(reading, 65536)
    assert line.startswith(b"<3>{")
    assert json.loads(line[3:])["message"] == "loud"


def test_a_stream_that_is_not_the_one_systemd_connected_gets_lines(pipe, journal, monkeypatch):
    reading, stream = pipe
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    configure("info", stream, Path(journal.getsockname()))
    log.info("hello")
    assert drained(reading, "hello")[0]["message"] == "hello"


def test_L20_a_journal_that_does_not_read_costs_entries_and_tells_how_many_but_never_waits(stderr, journal):
    handler = configure("info", stderr, Path(journal.getsockname()))
    count = QUEUE_LINES + 2000
    for number in range(count):
        handler.handle(record("entry %d", number))
    assert handler.lost > 0
    seen = 0
    while seen < count - handler.lost:
        seen += told(journal)
    handler.handle(record("and on it goes"))
    while seen < count + 1:
        seen += told(journal)
    assert handler.lost == 0


def told(journal: socket.socket) -> int:
    """How many entries the next one tells of."""
    said = fields(journal.recv(1 << 20))
    return int(said["MESSAGE"].split()[0]) if said["HAUL_EVENT"] == "log.lost" else 1


def test_L20_a_journal_that_is_gone_costs_entries_until_it_is_back(stderr, tmp_path):
    place = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first:
        first.bind(str(place))
        handler = configure("info", stderr, place)
    place.unlink()
    log.info("lost")
    handler.flush()
    assert handler.lost == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
        second.bind(str(place))
        second.settimeout(10)
        log.info("back")
        told = [fields(second.recv(1 << 20))["MESSAGE"] for _ in range(2)]
    assert told == ["1 log lines were lost here.", "back"]


# --- levels --------------------------------------------------------------------------------------------------------


def test_what_is_below_the_level_is_not_written():
    stream = io.StringIO()
    handler = configure("warning", stream)
    log.info("quiet")
    log.error("loud")
    handler.flush()
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_the_libraries_that_tell_secrets_at_debug_stay_at_info():
    configure("debug", io.StringIO())
    assert log.isEnabledFor(logging.DEBUG)
    for name in ("aioimaplib", "aioimaplib.aioimaplib", "aiosqlite", "asyncio"):
        assert logging.getLogger(name).getEffectiveLevel() == logging.INFO
    configure("error", io.StringIO())
    assert logging.getLogger("aioimaplib").getEffectiveLevel() == logging.ERROR


def test_a_second_configuration_replaces_the_first():
    first, second = io.StringIO(), io.StringIO()
    configure("info", first)
    handler = configure("info", second)
    log.info("once")
    handler.flush()
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


# --- trouble with the pipe -----------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """The reading descriptor and the writing stream of a pipe."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    for close in (lambda: os.close(reading), stream.close):
        try:
            close()
        except OSError:
            continue


def drained(reading: int, until: str) -> list[dict[str, object]]:
    """Everything in the pipe up to the line with that message."""
    data = b""
    while until.encode() not in data or not data.endswith(b"\n"):
        assert select.select([reading], [], [], 10)[0], f"{until!r} did not come"
        data += os.read(reading, 65536)
    return [json.loads(line) for line in data.splitlines()]


def test_L20_a_full_pipe_costs_lines_and_tells_how_many_but_never_waits(pipe):
    reading, stream = pipe
    handler = configure("info", stream)
    count = QUEUE_LINES + 2000
    for number in range(count):
        handler.handle(record("line %d %s", number, "x" * 200))
    assert handler.lost > 0
    seen: list[dict[str, object]] = []
    while sum(line["event"] == "log" for line in seen) < count - handler.lost - told_lost(seen):
        seen += drained(reading, "\n")
    handler.handle(record("and on it goes"))
    seen += drained(reading, "and on it goes")
    assert sum(line["event"] == "log" for line in seen) + told_lost(seen) == count + 1
    assert handler.lost == 0


def told_lost(lines: list[dict[str, object]]) -> int:
    """How many lines the log itself says were lost."""
    return sum(int(str(line["message"]).split()[0]) for line in lines if line["event"] == "log.lost")


def test_L20_a_closed_pipe_costs_lines_but_never_raises(pipe):
    reading, stream = pipe
    handler = configure("info", stream)
    os.close(reading)
    for number in range(10):
        log.info("line %d", number)
    handler.flush()
    assert handler.lost == 10


def test_L20_a_stream_that_was_closed_here_costs_lines_but_never_raises():
    stream = io.StringIO()
    handler = configure("info", stream)
    stream.close()
    log.info("nobody reads this")
    handler.flush()
    assert handler.lost == 1


def test_L20_the_end_of_the_program_does_not_wait_for_a_full_pipe(pipe, monkeypatch):
    monkeypatch.setattr("hauld.logs.FLUSH_SECONDS", 0.05)
    _, stream = pipe
    handler = configure("info", stream)
    for _ in range(QUEUE_LINES + 1000):
        handler.handle(record("x" * 200))
    handler.flush()
    handler.close()


def test_a_line_that_cannot_be_made_is_counted_and_the_next_one_written():
    stream = io.StringIO()
    handler = configure("info", stream)
    handler.handle(record("%d", "no number"))
    handler.handle(record("next"))
    handler.flush()
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["1 log lines were lost here.", "next"]


def test_the_last_lines_are_written_before_the_end():
    stream = io.StringIO()
    handler = configure("info", stream)
    log.info("last")
    handler.close()
    handler.close()
    assert "last" in stream.getvalue()
