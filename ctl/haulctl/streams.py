"""The standard streams where they are closed or full: a command then ends with a sentence and an exit code, never with a
traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def complete() -> None:
    """Give a stream that was closed a file of its own, or the next one that is opened gets its number. Input is at its end
    then, results cannot be written, and words are lost."""
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


def abandon(stream: TextIO) -> None:
    """Have go nowhere what is still in the stream's buffer, or it would fail once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def words() -> Iterator[None]:
    """What is said on stderr within is lost where that cannot be written; result and exit code are not."""
    try:
        yield
    except OSError:
        abandon(sys.stderr)
