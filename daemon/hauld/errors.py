"""Errors named by the next step, so that one place can decide what to do.

    HaulError
    ├── Transient         the same again, with backoff; never costs a job or an item anything
    │   └── Throttled     the same again, at the moment the origin named
    ├── NeedsAttention    a person has to act; the account stops until then
    ├── StaleCursor       the folder's keys changed their meaning: list afresh
    ├── ItemRejected      record this item and go on
    ├── Refused           the caller asked for what cannot be: not found, wrong state, ambiguous, ...
    └── Fatal             the daemon cannot go on; carries the exit code

Foreign exceptions are translated once, at the border, with the original as ``__cause__``. ``retry.decide`` is the one
place that decides about trying again.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class HaulError(Exception):
    """``kind`` is a stable word for scripts, ``message`` says what failed, on what and why; ``hint`` says what to do.
    None of them ever holds a secret, and the message may name any file."""

    def __init__(self, kind: str, message: str, *, hint: str | None = None) -> None:
        message = tellable(message)
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint


class Transient(HaulError):
    """Network, server unavailable, disk full: tried again with backoff, ``at_least`` seconds from now."""

    def __init__(self, kind: str, message: str, *, hint: str | None = None, at_least: float = 0.0) -> None:
        super().__init__(kind, message, hint=hint)
        self.at_least = at_least


class Throttled(Transient):
    """The origin asks for patience: tried again after ``wait`` seconds, neither sooner nor with backoff."""

    def __init__(self, message: str, *, wait: float, hint: str | None = None) -> None:
        super().__init__("throttled", message, hint=hint, at_least=wait)
        self.wait = wait


class NeedsAttention(HaulError):
    """A person has to act. ``tries`` is how often it must be seen before it is believed (a refused password: three times)."""

    def __init__(self, kind: str, message: str, *, hint: str | None = None, tries: int = 1) -> None:
        super().__init__(kind, message, hint=hint)
        self.tries = tries


class StaleCursor(HaulError):
    """The folder's epoch is not the one that was asked for: nothing was fetched, list afresh."""

    def __init__(self, message: str, *, epoch: str | None = None) -> None:
        super().__init__("stale", message)
        self.epoch = epoch


class ItemRejected(HaulError):
    """One item cannot be had or kept; the others can."""


class Refused(HaulError):
    """The caller asked for what cannot be. ``kind`` is one of ``haulapi.faults.FAULTS``."""

    def __init__(self, kind: str, message: str, *, hint: str | None = None, candidates: Sequence[str] = ()) -> None:
        super().__init__(kind, message, hint=hint)
        self.candidates = list(candidates)


class Fatal(HaulError):
    """The daemon cannot go on; ``exit_code`` is from ``haulapi.faults.Exit``."""

    def __init__(self, kind: str, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(kind, message, hint=hint)
        self.exit_code = exit_code


def out_of_files(error: OSError, message: str) -> Transient | None:
    """For an error that says that no file or connection can be opened just now, whichever it is: trouble that passes, of kind
    ``files``. None for any other error."""
    hint = {
        errno.EMFILE: "Raise the limit of open files (LimitNOFILE= in the unit, or ulimit -n); work goes on by itself.",
        errno.ENFILE: "Too many files are open on this machine: raise fs.file-max; work goes on by itself.",
    }.get(error.errno or 0)
    return None if hint is None else Transient("files", message, hint=hint)


def tellable(text: str) -> str:
    r"""The text as it goes to people, over the wire and into the ledger. A byte of a file's name that is no UTF-8 (PEP 383 has
    it as half of a surrogate pair, which nothing can write) is shown as ``\xNN``."""
    return _HALF_A_CHARACTER.sub(_escaped, text)


def _escaped(half: re.Match[str]) -> str:
    code = ord(half[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
