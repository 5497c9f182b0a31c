"""Waiting for what a real daemon does: its events wake, its answers decide."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from support.daemon import PATIENCE, Hauld

LOOK_AGAIN = 0.1
"""Seconds; a ledger that cannot be written tells no events."""


def until(hauld: Hauld, job: str, true: Callable[[dict[str, Any]], bool], *, within: float = PATIENCE) -> dict[str, Any]:
    """The job, as soon as it is so."""
    deadline = time.monotonic() + within
    with socket.socket(socket.AF_UNIX) as following:
        following.connect(str(hauld.socket))
        request = {"jsonrpc": "2.0", "id": 1, "method": "events.follow", "params": {"job": job}}
        following.sendall(json.dumps(request).encode() + b"\n")
        while not true(seen := hauld.call("jobs.get", job=job)):
            assert time.monotonic() < deadline, f"it never came to that: {seen}\n{hauld.log()}"
            if select.select([following], [], [], LOOK_AGAIN)[0]:
                following.recv(1 << 20)
    return seen


def waits(seen: dict[str, Any]) -> bool:
    """Whether the job is in phase ``waiting``."""
    return bool(seen["phase"] == "waiting")


def is_done(seen: dict[str, Any]) -> bool:
    return bool(seen["status"] == "completed")


def listens(hauld: Hauld, account: str) -> bool:
    """Whether the account's inbox is listened to."""
    return any(each["state"] == "listening" for each in hauld.call("accounts.get", account=account)["listeners"])
