"""The demo's processes: each is started, waited for until it answers, and ended by whoever started it."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hauld.errors import Fatal

PATIENCE = 30.0
"""Seconds until a child that does not answer, or does not end, is a failure."""


@dataclass(frozen=True)
class MailServer:
    """Where the demo's mail is, and who may read it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)


@contextmanager
def mail_server(messages: int, log: Path) -> Iterator[MailServer]:
    """The server of ``hauld.demo.server``, filled and listening."""
    password = secrets.token_urlsafe(12)
    command = [sys.executable, "-P", "-m", "hauld.demo.server", str(messages)]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    with process, _ended(process):
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already: then there is no answer
            process.stdin.write(f"{password}\n".encode())
        answer = process.stdout.readline()
        if not answer:
            raise _failure("The demo's mail server did not start.", log)
        yield MailServer(**json.loads(answer), password=password)


@contextmanager
def daemon(config: Path, address: Path, log: Path) -> Iterator[None]:
    """``hauld run`` with that configuration, answering on its socket."""
    with log.open("wb") as output:
        process = subprocess.Popen([program("hauld"), "run", "--config", config], stdout=output, stderr=output)
    with _ended(process):
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise _failure("hauld did not start.", log)
            time.sleep(0.05)
        yield


def program(name: str) -> str:
    """Where ``hauld`` or ``haulctl`` of this installation is."""
    here = Path(sys.executable).parent / name
    found = str(here) if here.exists() else shutil.which(name)
    if found is None:
        raise Fatal("failed", f"{name} is neither beside {sys.executable} nor on the PATH.", hint="Install haul as a whole.")
    return found


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leaving ends the process, whatever happened."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(address))
        except OSError:
            return False
        return True


def _failure(what: str, log: Path) -> Fatal:
    said = log.read_text("utf-8", "replace").strip().splitlines()[-5:]
    return Fatal("failed", "\n".join([what, *said]), hint=f"All of its words are in {log}.")
