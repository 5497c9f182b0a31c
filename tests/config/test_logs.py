"""Logs: readable on a terminal, JSON elsewhere, and never in the way (L20)."""

from __future__ import annotations

import io
import json
import logging
import os
import select
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
