"""An environment for processes whose coverage is not measured.

Measuring takes longer than a command of ``haulctl`` takes, and what is killed tells nothing. So it is left to those tests that
start a program themselves, and to what runs in their own process.
"""

from __future__ import annotations

import os


def unmeasured(**more: str) -> dict[str, str]:
    """The environment of this process and ``more``, without what has a new process measure itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")} | more
