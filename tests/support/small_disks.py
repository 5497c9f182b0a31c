"""File systems of a few megabytes, mounted for a test that fills them or takes the right to write away."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, leaving: int = 0) -> None:
        """Only so many bytes are free, to the page."""
        with open(self._ballast, "ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(64 * 1024))
        with open(self._ballast, "ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        if leaving:
            os.truncate(self._ballast, self._ballast.stat().st_size - leaving)

    def free(self) -> None:
        """There is room again."""
        self._ballast.unlink()

    def room(self) -> int:
        """Bytes that are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def remount(self, access: str) -> None:
        """``ro`` or ``rw``, while nobody has a file open for writing there."""
        mounting("-o", f"remount,{access}", self.path)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written by name until left, whoever has files open there."""
        mounting("--bind", self.path, self.path)
        try:
            mounting("-o", "remount,bind,ro", self.path)
            yield
        finally:
            subprocess.run(["umount", self.path], check=True)


@contextmanager
def small_disk(path: Path, size: str = "4m") -> Iterator[SmallDisk]:
    """A new file system, gone after. The test is skipped where mounting is not possible."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        mounting("-t", "tmpfs", "-o", f"size={size},mode=0755", "none", path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems cannot be mounted here: {error}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def mounting(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
