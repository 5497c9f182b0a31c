"""A terminal of the test's own."""

from __future__ import annotations

import pty

import pytest


def open_terminal() -> tuple[int, int]:
    """The two ends of a pseudo-terminal: ours, and the program's."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be had here ({error}); is /dev/pts mounted?")
