"""Keyring backends at the border: one that keeps, and some that trouble people."""

from __future__ import annotations

import errno
import threading
from typing import ClassVar

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class Memory(KeyringBackend):
    """Keeps passwords for the length of a test."""

    priority = 0.1
    kept: ClassVar[dict[tuple[str, str], str]] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


class Forgetful(Memory):
    """Says that it keeps, and does not."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class Locked(Memory):
    """Refuses, and blurts out what it was asked to keep."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("canary-in-a-keyring-error")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(f"cannot keep {password}")


class Crowded(Memory):
    """Can open nothing, and blurts out what it was asked to keep."""

    def get_password(self, service: str, username: str) -> str | None:
        raise OSError(errno.EMFILE, "canary-4e1c")


class Stuck(Memory):
    """Waits for somebody to unlock it, until ``released``."""

    released = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.released.wait(30)
        return None
