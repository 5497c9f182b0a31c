"""The fault injector from Python's side: built by gcc, given its orders by ctypes, its records read back.

What it does is told in ``injector.c``; the numbers here are those of its lists.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("injector.c")
EXT4 = 0xEF53
TMPFS = 0x01021994
"""File systems that the injector can pretend to: statfs(2). On the first the daemon syncs the whole, on the second not."""


class NoCompiler(RuntimeError):
    """There is no gcc on this machine."""

    def __init__(self) -> None:
        super().__init__("The fault injector needs gcc and the C library's headers. As root: apt-get install gcc libc6-dev.")


class Kind(IntEnum):
    """What is done to the disk."""

    OPEN = 0
    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC_FILE = 4
    SYNC_DIRECTORY = 5
    SYNC_ALL = 6
    RENAME = 7
    LINK = 8
    UNLINK = 9
    MKDIR = 10
    RMDIR = 11
    ATTRIBUTE = 12
    BIND = 13
    MARK = 14


class Fault(IntEnum):
    """What happens at the chosen call."""

    NONE = 0
    DIE_BEFORE = 1
    DIE_AFTER = 2
    FAIL_ONCE = 3
    FAIL_FOR_GOOD = 4


@dataclass(frozen=True)
class Change:
    """One thing that was done to the disk, with the file's inode afterwards (0: it is gone). ``other`` is where a rename or a
    link went; ``offset`` is where bytes were written, or the size that a file was cut to."""

    kind: Kind
    path: str
    other: str
    offset: int
    inode: int
    data: bytes


def build(directory: Path) -> Path:
    """The injector, compiled into that directory."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise NoCompiler
    library = directory / "injector.so"
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "stdio.h: No such file" in done.stderr:
        raise NoCompiler
    if done.returncode != 0:
        raise RuntimeError(f"The fault injector cannot be built:\n{done.stderr}")
    return library


class Injector:
    """The injector of this process, which was started with it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.haul_counted.restype = ctypes.c_long

    def arm(self, directory: Path, fault: Fault, at: int, error: int = 0) -> None:
        """Number the changes below the directory from now on, and let it happen at the one of that number (from 1)."""
        self._library.haul_arm(bytes(directory), int(fault), ctypes.c_long(at), error)

    def disarm(self) -> None:
        self._library.haul_disarm()

    def record_to(self, descriptor: int) -> None:
        """Write down every change."""
        self._library.haul_record(descriptor)

    def mark(self, word: str) -> None:
        """Put a word between the changes that are written down."""
        self._library.haul_mark(word.encode())

    def pretend(self, file_system: int) -> None:
        """Let the process believe that it works on such a file system."""
        self._library.haul_pretend(ctypes.c_long(file_system))

    def counted(self) -> int:
        """How many calls were numbered."""
        return int(self._library.haul_counted())


HEAD = struct.Struct("=IIIIqQ")


def read_records(path: Path) -> Iterator[Change]:
    """What was written down, in its order."""
    data = path.read_bytes()
    position = 0
    while position < len(data):
        kind, path_size, other_size, data_size, offset, inode = HEAD.unpack_from(data, position)
        position += HEAD.size
        parts = []
        for size in (path_size, other_size, data_size):
            parts.append(data[position : position + size])
            position += size
        yield Change(Kind(kind), parts[0].decode(), parts[1].decode(), offset, inode, parts[2])
