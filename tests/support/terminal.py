"""A terminal of the test's own: its two ends, and one that runs programs and knows what a person would see."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from support.unmeasured import unmeasured

PATIENCE = 60.0
"""Seconds until something that does not show is a failure."""


def open_terminal() -> tuple[int, int]:
    """The two ends of a pseudo-terminal: ours, and the program's."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be had here ({error}); is /dev/pts mounted?")


class Display:
    """What is to be seen of what was written, as far as haulctl's programs write: text, line ends, colours (not kept), and
    moving up over lines that are written again (ECMA-48). It has as many lines as were written."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.wrapped = 0
        self._lines: list[list[str]] = [[]]
        self._row = 0
        self._column = 0
        self._rest = ""

    @property
    def text(self) -> str:
        """The lines, without what is empty at the end of each and of all."""
        return "\n".join("".join(line).rstrip() for line in self._lines).rstrip()

    def write(self, text: str) -> None:
        text = self._rest + text
        whole = re.fullmatch(r"(.*?)(\x1b(?:\[[0-9;?]*)?)?", text, re.DOTALL)
        assert whole is not None
        self._rest = whole[2] or ""
        for control, char in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|(.)", whole[1], re.DOTALL):
            if control:
                self._obey(control)
            else:
                self._show(char)

    def _show(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._down()
        elif char.isprintable():
            if self._column == self.columns:
                self.wrapped += 1
                self._down()
                self._column = 0
            line = self._lines[self._row]
            line.extend(" " * (self._column + 1 - len(line)))
            line[self._column] = char
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])

    def _obey(self, control: str) -> None:
        number, what = control[:-1], control[-1]
        if what == "A":
            self._row = max(0, self._row - int(number or 1))
        elif what == "K":
            self._lines[self._row] = [] if number == "2" else self._lines[self._row][: self._column]
        elif what not in "mhl":  # colours, and whether the cursor is to be seen
            raise AssertionError(f"a program wrote ESC [ {control}, which this terminal does not know")


class Running:
    """A program on a terminal, so many columns wide. Leaving it waits for its end."""

    def __init__(self, command: Sequence[str | Path], columns: int, environment: Mapping[str, str] | None = None) -> None:
        self.display = Display(columns)
        self._ours, theirs = open_terminal()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        variables = {name: value for name, value in unmeasured().items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # so that keys which interrupt do
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**variables, "TERM": "xterm-256color", **(environment or {})},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def until(self, true: Callable[[str], object]) -> str:
        """What is to be seen as soon as it is so."""
        with self._changed:
            assert self._changed.wait_for(lambda: true(self.display.text) or self._ended, PATIENCE), self.display.text
            assert true(self.display.text), self.display.text
            return self.display.text

    def type(self, keys: str) -> None:
        """What a person types. ``\\x03`` interrupts."""
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Wait until it ends; its exit code."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self.end()
        os.close(self._ours)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # EIO: the program has closed its end
                data = b""
            with self._changed:
                self.display.write(decoder.decode(data))
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return
