"""Asking a person at the terminal, in a way that Ctrl-C ends at any moment.

``input`` can lose it: a signal that comes after Python has last looked for one and before the read has begun is noticed only
when the read is over. So the wait is for the terminal and for the pipe that Python writes to when a signal comes.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

LONGEST_ANSWER = 4096
"""Bytes; a terminal takes no longer line (N_TTY_BUF_SIZE of Linux)."""

ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def confirmed(question: str) -> bool:
    """Whether the answer is yes; no answer is no, and what is neither is asked about again. Asked on stderr, answered on stdin,
    both of which are a terminal. Raises ``KeyboardInterrupt`` for Ctrl-C and ``EOFError`` for Ctrl-D."""
    while (said := _answer(f"{question} [y/N]: ").strip().lower()) not in ANSWERS:
        click.echo("Please answer y or n.", err=True)
    return ANSWERS[said]


def _answer(prompt: str) -> str:
    """One line."""
    with _woken_by_signals() as woken:
        click.echo(prompt, err=True, nl=False)
        typed = sys.stdin.fileno()
        while typed not in select.select([typed, woken], [], [])[0]:
            os.read(woken, 1)  # a signal that has no exception
    line = os.read(typed, LONGEST_ANSWER)
    if not line:
        raise EOFError
    return line.decode(errors="replace")


@contextmanager
def _woken_by_signals() -> Iterator[int]:
    """A descriptor that can be read from when a signal has come that Python handles."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
