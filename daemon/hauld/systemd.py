"""Telling systemd how the daemon is (sd_notify(3)), where it runs under systemd; elsewhere nothing happens.

Around sdnotify, because a notification must never block the daemon, and because sdnotify encodes Latin-1 and swallows what it
cannot encode: a folder's name in the text would make the whole datagram vanish.
"""

from __future__ import annotations

import os
import re

import sdnotify


class Notifier:
    """Each fact is a datagram of its own, so that no other can take it along when it gets lost."""

    def __init__(self) -> None:
        self._systemd = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.setblocking(False)

    def ready(self) -> None:
        """The socket answers."""
        self._tell("READY=1")

    def extend(self, seconds: float) -> None:
        """Starting takes longer than the unit allows, but no longer than that from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def stopping(self) -> None:
        """The shutdown has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; what systemd could not take is replaced."""
        self._tell("STATUS=" + re.sub(r"[^ -~]", "?", text))

    def close(self) -> None:
        """Let go of the socket."""
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.close()

    def _tell(self, fact: str) -> None:
        if self._systemd is not None:
            self._systemd.notify(fact)
