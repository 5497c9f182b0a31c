"""The disk as rescue and copies use it: a few steps that change it, so that a test can break off before each."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


class Files:
    """Each step is durable when it returns, but for names: those are with ``sync_directory``."""

    def replace_text(self, path: Path, text: str) -> None:
        """The file has this text, or what it had before; durable by name, too."""
        new = path.with_name(path.name + ".new")
        self.write(new, text)
        self.rename(new, path)
        self.sync_directory(path.parent)

    def write(self, path: Path, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)

    def copy(self, source: Path, target: Path) -> None:
        """The bytes of one file in another, for its owner alone."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file, source.open("rb") as bytes_:
            shutil.copyfileobj(bytes_, file, 1024 * 1024)
            file.flush()
            os.fsync(descriptor)

    def make(self, path: Path) -> None:
        """An empty file, for its owner alone."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))

    def make_directory(self, path: Path) -> None:
        """The directory is there, for its owner alone."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def remove(self, path: Path) -> None:
        """It is gone, whether or not it was there."""
        path.unlink(missing_ok=True)

    def sync(self, path: Path) -> None:
        """The bytes of one file."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        """The names in one directory."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
