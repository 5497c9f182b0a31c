"""What is wrong with a configuration, all of it at once.

No value is ever repeated in an error, since any of them may be a secret in the wrong place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from haulapi.faults import Exit
from hauld.errors import Fatal
from hauld.logs import printable


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which account (None: in none of them), at which key, and what to do instead. ``file`` is None
    for the main one."""

    account: str | None
    key: str
    message: str
    file: Path | None = None

    def line(self, path: Path) -> str:
        """For people, on one line; ``path`` is the main file."""
        where = [str(self.file or path), f"account {self.account}" if self.account else "", self.key]
        return printable(": ".join([*filter(None, where), self.message]))


class ConfigurationError(Fatal):
    """The configuration cannot be used; ``problems`` holds all that is wrong with it, the message says each on a line."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        super().__init__(
            "configuration",
            "\n".join(problem.line(path) for problem in problems),
            hint="Once that is mended, 'hauld check-config' tells whether all is well.",
            exit_code=Exit.CONFIGURATION,
        )
        self.problems = list(problems)
