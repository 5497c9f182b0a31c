"""Waiting for something to read, in a way that Ctrl-C ends at any moment.

A blocking read can lose it: a signal that comes after Python has last looked for one and before the read has begun is noticed
only when the read is over. So the wait is for the descriptor and for the pipe that Python writes to when a signal comes.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


def readable(descriptor: int, patience: float | None = None) -> bool:
    """Whether there is something to read, or an end, within so many seconds; None for however long it takes. Raises
    ``KeyboardInterrupt`` for Ctrl-C."""
    end = None if patience is None else time.monotonic() + patience
    with _woken_by_signals() as woken:
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            ready = select.select([descriptor, *woken], [], [], left)[0]
            if descriptor in ready or not ready:
                return bool(ready)
            os.read(ready[0], 1)  # a signal that has no exception


@contextmanager
def _woken_by_signals() -> Iterator[list[int]]:
    """A descriptor that can be read from when a signal has come that Python handles; none in a thread to which none comes."""
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield [reading]
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
