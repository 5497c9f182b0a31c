"""Giving memory back that is not used any more.

The C library keeps what was freed for the next time, and after hundreds of connections that came and went that is more than
what is in use. Telling it to be less greedy from the start costs an import twice its CPU time; asking for it at a quiet moment
costs some milliseconds.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return what is free to the system (malloc_trim(3)); where the C library cannot, nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
