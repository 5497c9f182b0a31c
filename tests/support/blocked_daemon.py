"""hauld as its command runs it, but that SIGUSR1 blocks its event loop for good, as a mistake in it could."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from hauld.cli import main

if TYPE_CHECKING:
    from support.daemon import Hauld

BLOCKED = "the loop is blocked now"
"""What it says then."""

LONG = 600.0
PATIENCE = 60.0
"""Seconds."""


def start_to_be_blocked(hauld: Hauld) -> Hauld:
    """Start a daemon that ``block_loop`` can block."""
    hauld.launcher = [sys.executable, __file__]
    return hauld.start()


def block_loop(hauld: Hauld) -> None:
    """Its loop is blocked when this returns."""
    os.kill(hauld.pid, signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE
    while BLOCKED not in hauld.log():
        assert time.monotonic() < deadline, hauld.log()
        time.sleep(0.01)


def block(*_: object) -> None:
    os.write(sys.stderr.fileno(), f"{BLOCKED}\n".encode())
    time.sleep(LONG)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, block)
    sys.argv = sys.argv[1:]
    main()
