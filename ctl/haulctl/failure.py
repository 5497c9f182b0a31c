"""Why a command ends without what it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from haulapi.faults import Exit


class Failure(Exception):
    """``message`` says what failed and why, ``hint`` what to do; ``exit`` is what the process ends with. ``kind`` is the
    daemon's word for it (``haulapi.faults``), or None where it never reached the daemon. ``retry_at`` is RFC 3339."""

    def __init__(
        self,
        exit: Exit,  # noqa: A002 - the word that haulapi.faults has for it
        message: str,
        *,
        hint: str | None = None,
        kind: str | None = None,
        retry_at: str | None = None,
        candidates: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.exit = exit
        self.message = message
        self.hint = hint
        self.kind = kind
        self.retry_at = retry_at
        self.candidates = candidates


class Unreachable(Failure):
    """The daemon cannot be spoken to now, though perhaps soon: it is not running, went away, or does not answer."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(Exit.UNREACHABLE, message, hint=hint)
