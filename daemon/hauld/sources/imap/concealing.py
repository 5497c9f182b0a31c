"""Keeping a secret out of what a server says while it is told one: some repeat the command that they refuse."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

from hauld.sources.imap.grammar import Status

ENOUGH = 8
"""Characters of the beginning of a secret that tell it: whoever repeats a command may cut it off."""

NEVER = re.compile("(?!)")
"""Found nowhere."""

CODES = frozenset(
    {"ALERT", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CLIENTBUG", "CONTACTADMIN", "EXPIRED", "INUSE", "LIMIT"}
    | {"NOPERM", "PRIVACYREQUIRED", "SERVERBUG", "THROTTLED", "UNAVAILABLE"}
)
"""The response codes that a server may have a reason for then (RFC 3501, 7.1; RFC 5530, 3)."""


class Concealment:
    """What must not be shown now, in the forms in which it could come back. Nothing, to begin with."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._beginnings = NEVER

    @property
    def is_on(self) -> bool:
        """Whether there is a secret just now, so that nothing a server says may be quoted as it is."""
        return bool(self._forms)

    def add(self, *secrets: str) -> None:
        """From here on none of these is shown."""
        self._forms.update(form for secret in filter(None, secrets) for form in _forms(secret))
        self._beginnings = re.compile("|".join(re.escape(form[:ENOUGH]) for form in self._forms) or NEVER.pattern)

    def forget(self) -> None:
        """Nothing is secret any more."""
        self._forms.clear()
        self._beginnings = NEVER

    def text(self, text: str) -> str:
        """The text with asterisks in the place of secrets and of their beginnings."""
        shown, done = [], 0
        while found := self._beginnings.search(text, done):
            shown += [text[done : found.start()], "***"]
            done = found.start() + max(_common(form, text[found.start() :]) for form in self._forms)
        return "".join((*shown, text[done:]))

    def status(self, status: Status) -> Status:
        """The answer without secrets, and without a code that nobody has defined: it may be one as well."""
        if not self.is_on:
            return status
        code = status.code if status.code in CODES else ""
        return status._replace(code=code, argument=status.argument if code else b"", text=self.text(status.text))


def _common(one: str, other: str) -> int:
    """How many characters the two begin with in common."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _forms(secret: str) -> Iterator[str]:
    """The secret as it is, in quotes as IMAP, JSON and Python write them, in base64, and as a part of a URL."""
    yield secret
    yield secret.replace("\\", "\\\\").replace('"', '\\"')
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield repr(secret.encode())[2:-1]
    yield binascii.b2a_base64(secret.encode(), newline=False).decode("ascii")
    yield quote(secret)
    yield quote(secret, safe="")
