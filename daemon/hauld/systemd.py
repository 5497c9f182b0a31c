"""What systemd and the daemon tell each other where it runs under systemd: how the daemon is (sd_notify(3)), how soon it must
have said so again (sd_watchdog_enabled(3)), and the socket that was made for it (sd_listen_fds(3)). Elsewhere nothing happens.

Around sdnotify, because a notification must never block the daemon, and because sdnotify encodes Latin-1 and swallows what it
cannot encode: a folder's name in the text would make the whole datagram vanish.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import MutableMapping

import sdnotify

from haulapi.faults import Exit
from hauld.errors import Fatal

LONGEST_STATUS = 500
"""Characters; systemd refuses datagrams that are too long."""

FIRST_PASSED = 3
"""The descriptor of the first socket that systemd passes (SD_LISTEN_FDS_START)."""


class Notifier:
    """Each fact is a datagram of its own, so that no other can take it along when it gets lost. One for which systemd has no
    room is kept, and sent before the next."""

    def __init__(self) -> None:
        self._owed: dict[str, str] = {}
        self._systemd = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.setblocking(False)
            self._systemd.debug = True  # it raises what it could not send

    @property
    def is_heard(self) -> bool:
        """Whether there is a systemd to tell."""
        return self._systemd is not None and self._systemd.socket is not None

    def ready(self) -> None:
        """The socket answers, or what was being reloaded is done with."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is read again; ``ready`` says that this is over, whether it was taken or not. The time belongs into
        the same datagram: by it systemd tells which ``ready`` is the answer."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def extend(self, seconds: float) -> None:
        """Starting takes longer than the unit allows, but no longer than that from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def watchdog(self) -> None:
        """All is well, until the watchdog's time is over again."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The shutdown has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; what systemd could not take is replaced."""
        self._tell("STATUS=" + re.sub(r"[^ -~]", "?", text)[:LONGEST_STATUS])

    def close(self) -> None:
        """Let go of the socket."""
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.close()

    def _tell(self, fact: str) -> None:
        """Say it, after what is still owed; of two facts of one name only the later one is."""
        if self._systemd is None or not self.is_heard:
            return
        name, _, _ = fact.partition("=")
        self._owed.pop(name, None)
        self._owed[name] = fact
        for name, fact in list(self._owed.items()):
            try:
                self._systemd.notify(fact)
            except OSError:
                return
            del self._owed[name]


def watchdog_seconds(environment: MutableMapping[str, str] = os.environ) -> float | None:
    """How long systemd waits for a word that all is well before it kills the daemon; None where it does not."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if re.fullmatch(r"[0-9]{1,18}", microseconds) and int(microseconds) else None


def passed_socket(environment: MutableMapping[str, str] = os.environ, first: int = FIRST_PASSED) -> int | None:
    """The descriptor of the socket that systemd listens on for us, None where there is none; it is the caller's. The variables
    that tell are removed, so that no helper command takes them for its own. Raises ``Fatal`` when there are several."""
    told = {name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid()) or not re.fullmatch(r"[0-9]{1,4}", told["LISTEN_FDS"]):
        return None
    count = int(told["LISTEN_FDS"])
    for descriptor in range(first, first + count):
        os.set_inheritable(descriptor, False)
    if count > 1:
        raise Fatal(
            "configuration",
            f"systemd passes {count} sockets to hauld ({told['LISTEN_FDNAMES']}); it can listen on one.",
            hint="Leave one ListenStream= in hauld.socket, that of [daemon] socket.",
            exit_code=Exit.CONFIGURATION,
        )
    return first if count else None
