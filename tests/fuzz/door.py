"""Send the control socket a great many wrong frames: ``python tests/fuzz/door.py --count 100000``.

Each input is a request as clients send it, with a few wrong bytes or with odd values in it, sent to the real server on a real
socket. Every line must be answered in the documented way, or be one that asks for no answer, or end the connection; the
daemon never speaks of an error of its own, goes on answering others, and its memory stays flat.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutation import LONGEST, Figures, dice_of, judge_memory, main, memory, mutated
from haulapi.calls import (
    CALLS,
    DeleteParams,
    FolderList,
    FolderListParams,
    ItemList,
    ItemListParams,
    Job,
    JobList,
    JobListParams,
    JobParams,
)
from haulapi.faults import FAULTS
from haulapi.frames import MAX_LINE
from hauld.rpc.server import Limits
from hauld.rpc.turns import Rate
from support.door import Answers, serving

FRAMES_A_VISIT = 40
"""Frames sent on one connection."""

PATIENCE = 20.0
"""Seconds until a frame without an answer is a finding."""

PARAMS: dict[str, list[dict[str, Any]]] = {
    "daemon.hello": [{}, {"client": "haulctl", "version": "0.1.0", "protocol": "1.0"}],
    "jobs.create": [{"account": "work", "strategy": {"kind": "full"}, "live": False, "priority": 2, "dry_run": True}],
    "jobs.list": [{"status": "running", "account": "work", "limit": 10, "after": None}, {}],
    "jobs.delete": [{"job": "job_k3x9q2m4v8zt", "purge": True}],
    "jobs.retry": [{"job": "job_k3x9", "items": [1, 2, 3]}],
    "folders.list": [{"job": "job_k3x9"}, {"account": "work", "limit": 2, "after": "1"}],
    "items.list": [{"job": "job_k3x9", "folder": "INBOX", "status": "failed", "limit": 5, "after": "3"}],
    "events.follow": [{"since": {"stream": "5eed5eed5eed5eed", "number": 0}, "job": "job_k3x9"}, {}],
    "events.list": [{"since": {"stream": "5eed5eed5eed5eed", "number": 0}, "limit": 3}],
    "verify.start": [{"account": "work", "repair": True}],
}

WORDS = [
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\x00", b"\xff", b"\r\n", b"\n", b" ", b"null", b"true", b"-0", b"NaN"),
    *(b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"[" * 200, b'{"a":' * 60, b"9" * 500, b"1e999", b'"id":1,', b'"id":"1"'),
    *(b'"jsonrpc":"1.0"', b'"method":"events.follow"', b'"method":"daemon.reload"', b'"params":[]', b'"limit":-1', b"/*"),
    *(b'"job":"\x1b[31m"', b'"account":"../../etc"', b'"items":[9223372036854775808]', "\u202e\U0001f4ec".encode()),
]


KEYS = ["id", "job", "account", "limit", "after", "since", "strategy", "items", "live", "priority", "attempts", "x" * 300]
ODD: list[Any] = [
    *(
        None,
        True,
        0,
        1,
        -1,
        2**31,
        2**63 - 1,
        2**63,
        -(2**64),
        0.5,
        1e300,
        "",
        "0",
        "work",
        "job_",
        "job_k3x9",
        "\0",
        "\x1b[31m",
    ),
    *("../../etc/passwd", "\u202e\U0001f4ec", "x" * 5000, "*" * 500, "[" * 100, "2026-02-30", "full", "events.follow"),
    *(
        [],
        {},
        [[]],
        [{}],
        [1] * 200,
        [None],
        {"": None},
        {"kind": "search"},
        {"stream": "", "number": 2**53},
        [{"id": 1}] * 101,
    ),
]


def frames() -> list[bytes]:
    """A request for every method, with and without what it may be asked, a notification, and batches."""
    requests = []
    for method in sorted(CALLS):
        account_or_job = {"account": "work"} if method.startswith("accounts.") else {"job": "job_k3x9"}
        for params in PARAMS.get(method, [account_or_job if method.startswith(("accounts.", "jobs.")) else {}]):
            requests.append({"jsonrpc": "2.0", "id": len(requests), "method": method, "params": params})
    silent = {key: value for key, value in requests[0].items() if key != "id"}
    return [json.dumps(message).encode() for message in [*requests, silent, requests[:5], [silent, requests[1]], [silent] * 3]]


def fuzz(count: int, seed: str, first: int = 0) -> Figures:
    """Try so many frames of that seed."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(visit_all(Path(directory) / "haul.sock", count, seed, first))


async def visit_all(path: Path, count: int, seed: str, first: int) -> Figures:
    """Connection after connection, and one that stays and must be answered all the while."""
    figures = Figures(seed, inputs=count)
    known = frames()
    answers = Patient()
    began = time.perf_counter()
    with Complaints(figures):
        async with serving(path, answers, limits=Limits(together=Rate(1e9, 1e9))), visiting(path) as resident:
            warm = memory()
            for start in range(first, first + count, FRAMES_A_VISIT):
                numbers = range(start, min(start + FRAMES_A_VISIT, first + count))
                async with visiting(path) as guest:
                    for number in numbers:
                        await try_one(guest, frame_of(dice_of(seed, number), known), figures, number)
                        if guest.closed:
                            break
                await ask_politely(resident, figures, start)
                answers.forget()
                if start - first <= count // 10:
                    warm = memory()
    figures.seconds = time.perf_counter() - began
    judge_memory(figures, warm)
    return figures


def frame_of(dice: random.Random, known: list[bytes]) -> bytes:
    """One input: JSON gone wrong, or sound JSON that says odd things; a few are far too long for a line."""
    good = dice.choice(known)
    is_sound = dice.random() < 0.5
    frame = json.dumps(odd(dice, json.loads(good))).encode() if is_sound else mutated(dice, good, WORDS, known)
    return frame + b"x" * (2 * MAX_LINE) if dice.random() < 0.0003 else frame


def odd(dice: random.Random, value: Any) -> Any:
    """The value with something odd somewhere in it: another value, a key more, a key less."""
    if dice.random() < 0.2 or not value or not isinstance(value, dict | list):
        return dice.choice(ODD)
    if isinstance(value, list):
        place = dice.randrange(len(value))
        return [*value[:place], odd(dice, value[place]), *value[place + 1 :]]
    key = dice.choice(list(value))
    match dice.randrange(6):
        case 0:
            return {name: value[name] for name in value if name != key}
        case 1:
            return {**value, dice.choice(KEYS): dice.choice(ODD)}
        case _:
            return {**value, key: odd(dice, value[key])}


async def try_one(guest: Guest, frame: bytes, figures: Figures, number: int) -> None:
    """Send one frame, and a request behind it that shows that nothing more is coming."""
    started = time.perf_counter()
    due = [line for line in frame.split(b"\n") if not asks_for_silence(line)]
    try:
        async with asyncio.timeout(PATIENCE):
            figures.refused += await guest.converse(frame, len(due), f"after {number}")
    except (AssertionError, TimeoutError, ValueError) as error:
        figures.findings.append(f"frame {number}, {frame[:2000]!r}: {type(error).__name__}: {error}")
        guest.closed = True
    took = time.perf_counter() - started
    figures.slowest = max(figures.slowest, took)
    if took > LONGEST:
        figures.findings.append(f"frame {number} took {took:.1f} s")


async def ask_politely(guest: Guest, figures: Figures, number: int) -> None:
    """A client that does nothing wrong must not notice."""
    async with asyncio.timeout(PATIENCE):
        await guest.converse(b"", 0, f"resident {number}")
    if guest.closed:
        figures.findings.append(f"somebody else's connection was closed after frame {number}")


def asks_for_silence(line: bytes) -> bool:
    """Whether the line may go without an answer: a notification, or a batch that could be of them."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (isinstance(message, dict) and "id" not in message) or (isinstance(message, list) and bool(message))


class Guest:
    """A client that checks every answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = False
        self._reader = reader
        self._writer = writer

    async def converse(self, frame: bytes, due: int, last: str) -> bool:
        """Send the frame and read until its answers and that of one more request are there; whether anything was refused."""
        request = json.dumps({"jsonrpc": "2.0", "id": last, "method": "accounts.list"}).encode()
        self._writer.write((frame + b"\n" if due or frame else b"") + request + b"\n")
        due += 1
        refused = done = False
        while due > 0 or not done:
            line = await self._line()
            if not line:
                assert refused, "the connection was closed without a word"
                self.closed = True
                return refused
            answer = json.loads(line)
            for each in answer if isinstance(answer, list) else [answer]:
                if "method" in each:
                    assert each["method"] == "event", each
                    due += 1  # nobody asked for it just now
                else:
                    refused |= check_answer(each)
                    done |= each["id"] == last
            due -= 1
        return refused

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""


def check_answer(answer: Mapping[str, Any]) -> bool:
    """A reply, or an error of the documented ones; which of the two."""
    assert answer["jsonrpc"] == "2.0", answer
    assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), answer
    if "result" in answer:
        return False
    error = answer["error"]
    kind = error["data"]["kind"]
    assert FAULTS[kind].code == error["code"], error
    assert kind != "internal", error
    assert "Traceback" not in error["message"], error
    return True


@asynccontextmanager
async def visiting(path: Path) -> AsyncIterator[Guest]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2 * MAX_LINE)
    try:
        yield Guest(reader, writer)
    finally:
        writer.transport.abort()


class Complaints(logging.Handler):
    """Whatever the daemon has to complain of is a finding."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(logging.WARNING)
        self._figures = figures

    def emit(self, record: logging.LogRecord) -> None:
        self._figures.findings.append(f"the daemon logs: {record.getMessage()}")

    def __enter__(self) -> None:
        logging.getLogger("hauld").addHandler(self)
        logging.getLogger("asyncio").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("hauld").removeHandler(self)
        logging.getLogger("asyncio").removeHandler(self)


class Patient(Answers):
    """Commands that stay as they are, whatever they are asked: nothing is deleted, and pages come from the beginning."""

    async def jobs_delete(self, params: DeleteParams) -> Job:
        return self._job(params.job)

    async def jobs_list(self, params: JobListParams) -> JobList:
        return JobList(jobs=self.jobs)

    async def jobs_pause(self, params: JobParams) -> Job:
        return self._job(params.job)

    async def jobs_cancel(self, params: JobParams) -> Job:
        return self._job(params.job)

    async def jobs_sync(self, params: JobParams) -> Job:
        self.told.tell("job.status", job=self.jobs[0].id)
        return self._job(params.job)

    async def folders_list(self, params: FolderListParams) -> FolderList:
        return FolderList(folders=self.folders)

    async def items_list(self, params: ItemListParams) -> ItemList:
        return ItemList(items=self.items)

    def forget(self) -> None:
        """What it was asked, and what it told."""
        self.asked.clear()
        self.told.forget(self.told.tell("job.status", job=self.jobs[0].id))


if __name__ == "__main__":
    main(__doc__, 100_000, fuzz)
