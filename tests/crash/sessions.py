"""How many bodies a server gave, by its log: only of the sessions that began after a moment.

``Dovecot.bodies_fetched`` reads the whole log, which has a million lines after some thousand runs; and a client that was killed
while it signed in may leave a session that never says how it ended.
"""

from __future__ import annotations

import re
import time

from support.dovecot import Dovecot, User

PATIENCE = 3.0
"""Seconds until a session that has not told how it ended never will."""


class Sessions:
    """The sessions of one server, from its log."""

    def __init__(self, dovecot: Dovecot) -> None:
        self._dovecot = dovecot
        self._log = dovecot.directory / "dovecot.log"
        self._marker = dovecot.add_user()

    def now(self) -> int:
        """A moment: all that has begun by now, began before it."""
        since = self._log.stat().st_size
        self._pass(since)
        return self._log.stat().st_size

    def bodies_fetched(self, user: User, since: int) -> int | None:
        """By all sessions of the user that began after that moment; None where one does not tell."""
        self._pass(self._log.stat().st_size)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            begun, ended = self._told(user, since)
            if begun == len(ended):
                return sum(ended)
            time.sleep(0.005)
        return None

    def _pass(self, since: int) -> None:
        """A session of our own, from its beginning to its end in the log: what began before it is there by then."""
        with self._dovecot.client(self._marker):
            pass
        deadline = time.monotonic() + PATIENCE
        while self._told(self._marker, since) != (1, [0]) and time.monotonic() < deadline:
            time.sleep(0.005)

    def _told(self, user: User, since: int) -> tuple[int, list[int]]:
        """How many sessions have begun, and of each of these that has ended how many bodies it fetched. One that began earlier
        may end late."""
        with self._log.open("rb") as log:
            log.seek(since)
            text = log.read().decode("utf-8", "replace")
        name = re.escape(user.name)
        begun = re.findall(rf"imap-login: Info: Login: user=<{name}>.* session=<([^>]+)>", text)
        ended = dict(re.findall(rf"imap\({name}\)<\d+><([^>]+)>.*\bbody_count=(\d+)", text))
        return len(begun), [int(ended[session]) for session in begun if session in ended]
