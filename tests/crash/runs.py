"""One run of hauld from its start to its end, with a client at its side, in a process that may die or whose disk may fail.

The daemon is the real one: ``hauld.app.run`` on a real configuration. The client asks for an import, again and again under the
same idempotency key where it is told no, and has the daemon stopped when the job has ended, or, in a run that is not
``patient``, as soon as anybody could see that something is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import threading
import traceback
from asyncio import StreamReader, StreamWriter
from concurrent.futures.thread import _threads_queues as pooled  # threads that end with the process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.injector import Fault, Injector
from hauld import app
from hauld.clock import SystemClock
from hauld.config import load
from hauld.errors import HaulError
from hauld.state.sqlite import SqliteState

LIMIT = 60
"""Seconds after which a run that has not ended is killed, and counts as one that hangs."""

PATIENCE = 20.0
SHORT_PATIENCE = 5.0
"""Seconds that a client waits for the end of a job, and for any sign of what is wrong in a run that is not patient. Nothing
that hauld does by itself here takes more than a fraction of that."""

WATCHED = 0.3
"""Seconds that a run which is not patient goes on after the first sign of what is wrong."""

BETWEEN_LOOKS = 0.004
"""Seconds. The client looks instead of following events: where the disk fails, none may be told."""


@dataclass(frozen=True)
class Order:
    """What to run. Changes below ``directory`` count; ``record`` is a file that they are written down in. With ``repair``, what
    is stored is verified and repaired after the import; with ``check``, the ledger is checked when the daemon has ended."""

    config: str
    directory: str
    key: str
    fault: Fault = Fault.NONE
    at: int = 0
    error: int = 0
    file_system: int = 0
    record: str | None = None
    patient: bool = True
    repair: bool = False
    check: bool = False


@dataclass
class Outcome:
    """How it went. ``sentence`` is what a person is told when the daemon ended by itself, ``defect`` a traceback nobody should
    ever see; ``job`` and ``verification`` are what the client saw last, ``told`` what it was refused with and what was logged
    as a warning or worse, ``wrong`` what the ledger's own check has to say."""

    counted: int = 0
    sentence: str | None = None
    defect: str | None = None
    job: dict[str, Any] | None = None
    verification: str | None = None
    told: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def status(self) -> str | None:
        return None if self.job is None else str(self.job["status"])

    @property
    def is_visible(self) -> bool:
        """Whether a person can see that something is wrong."""
        waits = self.job is not None and self.job["error"] is not None
        return waits or bool(self.sentence) or bool(self.told)


def carry_out(order: Order) -> Outcome:
    """In a process made for this run alone: it may not live to return."""
    signal.alarm(LIMIT)
    injector = Injector()
    outcome = Outcome()
    logging.getLogger().addHandler(_Listener(outcome))
    injector.pretend(order.file_system)
    injector.arm(Path(order.directory), order.fault, order.at, order.error)
    if order.record is not None:
        injector.record_to(os.open(order.record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    try:
        asyncio.run(_accompanied(order, outcome))
    except HaulError as error:
        outcome.sentence = f"{error} {error.hint or ''}"
    except BaseException:
        outcome.defect = traceback.format_exc()
    outcome.defect = outcome.defect or _kept_alive()
    outcome.counted = injector.counted()
    injector.disarm()
    if order.check:
        outcome.wrong = asyncio.run(_checked(order))
    return outcome


async def _accompanied(order: Order, outcome: Outcome) -> None:
    config = load(Path(order.config))
    stop = asyncio.Event()
    daemon = asyncio.create_task(app.run(config, stop=stop))
    client = asyncio.create_task(_client(config.daemon.socket, order, outcome))
    seen = asyncio.create_task(_seen(order, outcome))
    patience = PATIENCE if order.patient else SHORT_PATIENCE
    try:
        await asyncio.wait((daemon, client, seen), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        seen.cancel()
        client.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await client
    await daemon


async def _client(path: Path, order: Order, outcome: Outcome) -> None:
    """Ask for the import, and stay until it has ended."""
    reader, writer = await _connected(path)
    try:
        while outcome.job is None:
            answer = await _call(reader, writer, "jobs.create", account="a", live=False, idempotency_key=order.key)
            outcome.job = answer.get("result")
            if "error" in answer:
                outcome.told.append(answer["error"]["message"])
                if not order.patient:
                    return
                await asyncio.sleep(BETWEEN_LOOKS)
        Injector().mark("created")
        while outcome.status not in ("completed", "failed") and (order.patient or not outcome.is_visible):
            await asyncio.sleep(BETWEEN_LOOKS)
            answer = await _call(reader, writer, "jobs.get", job=outcome.job["id"])
            if "error" in answer:
                outcome.told.append(answer["error"]["message"])
            outcome.job = answer.get("result", outcome.job)
        Injector().mark(str(outcome.status))
        if order.repair and outcome.status == "completed":
            await _call(reader, writer, "verify.start", repair=True)
            while outcome.verification in (None, "running"):
                await asyncio.sleep(BETWEEN_LOOKS)
                answer = await _call(reader, writer, "verify.status")
                outcome.verification = answer["result"]["status"] if "result" in answer else "refused"
            Injector().mark(f"verification {outcome.verification}")
    finally:
        writer.close()


async def _seen(order: Order, outcome: Outcome) -> None:
    """What fails for good need not be watched for long once anybody can see it."""
    while order.patient or not outcome.is_visible:
        await asyncio.sleep(BETWEEN_LOOKS)
    await asyncio.sleep(WATCHED)


async def _connected(path: Path) -> tuple[StreamReader, StreamWriter]:
    while True:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return await asyncio.open_unix_connection(path)
        await asyncio.sleep(BETWEEN_LOOKS)


async def _call(reader: StreamReader, writer: StreamWriter, method: str, **params: Any) -> dict[str, Any]:
    writer.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
    line = await reader.readline()
    if not line:
        raise ConnectionResetError("the daemon has closed the connection")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _kept_alive() -> str | None:
    """What would keep the process from ending now that the daemon has."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon and thread not in pooled:
            thread.join(SHORT_PATIENCE)
            if thread.is_alive():
                return f"the thread {thread.name} does not end, and so the process does not"
    return None


async def _checked(order: Order) -> list[str]:
    """What is wrong with the ledger, by its own check."""
    state = SqliteState(load(Path(order.config)).daemon.state, SystemClock())
    await state.start()
    try:
        return list(await state.check())
    finally:
        await state.close()


class _Listener(logging.Handler):
    """Keeps what a person would be warned of."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(logging.WARNING)
        self._outcome = outcome

    def emit(self, record: logging.LogRecord) -> None:
        self._outcome.told.append(self.format(record))
