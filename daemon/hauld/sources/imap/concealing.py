"""Keeping a secret out of what a server says: some repeat the command that they refuse, or what they told a backend.

While a secret is on its way, nothing is passed on but text without it, and codes that everybody knows. From then on, for as
long as the connection lasts, what a server says goes on meaning what it means, and only its words are shown without the secret.
What is looked through are the few words of an answer; bodies, flags and names never are.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from hauld.sources.imap.grammar import Status

ENOUGH = 8
"""Characters of the beginning of a secret that tell it: whoever repeats a command may cut it off."""

SHORT = 4
"""Characters, below which a secret is hidden where it is a word by itself, once signing in is over: any text has an a."""

NEVER = re.compile("(?!)")
"""Found nowhere."""

CODES = frozenset(
    {"ALERT", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CLIENTBUG", "CONTACTADMIN", "EXPIRED", "INUSE", "LIMIT"}
    | {"NOPERM", "PRIVACYREQUIRED", "SERVERBUG", "THROTTLED", "UNAVAILABLE"}
)
"""The response codes that a server may have a reason for while somebody signs in (RFC 3501, 7.1; RFC 5530, 3)."""

LATER_CODES = CODES | frozenset(
    {"CAPABILITY", "CLOSED", "HIGHESTMODSEQ", "MAILBOXID", "NOMODSEQ", "NONEXISTENT", "OVERQUOTA", "PARSE", "PERMANENTFLAGS"}
    | {"READ-ONLY", "READ-WRITE", "TRYCREATE", "UIDNEXT", "UIDNOTSTICKY", "UIDVALIDITY", "UNSEEN"}
)
"""Those that tell nothing by themselves, even where somebody's password is such a word."""


class Concealment:
    """What must not be shown, in the forms in which it could come back. Nothing, to begin with. ``is_strict`` while a secret is
    on its way, so that nothing a server says may be quoted as it is."""

    def __init__(self) -> None:
        self.is_strict = False
        self._forms: set[str] = set()
        self._beginnings = NEVER

    def add(self, *secrets: str) -> None:
        """From here on none of these is shown."""
        self._forms.update(form for secret in filter(None, secrets) for form in _forms(secret))
        self.is_strict = bool(self._forms)
        self._beginnings = _any_of(re.escape(form[:ENOUGH]) for form in self._forms)

    def relax(self) -> None:
        """What was secret stays so, and nothing else is held back."""
        self.is_strict = False
        self._beginnings = _any_of(
            re.escape(form[:ENOUGH]) if len(form) >= SHORT else rf"(?<!\w){re.escape(form)}(?!\w)" for form in self._forms
        )

    def text(self, text: str) -> str:
        """The text with asterisks in the place of secrets and of their beginnings."""
        shown, done = [], 0
        while found := self._beginnings.search(text, done):
            shown += [text[done : found.start()], "***"]
            longest = max(_common(form, text[found.start() :]) for form in self._forms)
            done = max(found.end(), found.start() + longest)
        return "".join((*shown, text[done:]))

    def status(self, status: Status) -> Status:
        """The answer without secrets. A code may be one as well: one that nobody has defined, while a secret is on its way, and
        later one that holds it."""
        if not self._forms:
            return status
        known = CODES if self.is_strict else LATER_CODES
        code = status.code
        if code not in known and (self.is_strict or self.text(code) != code):
            code = ""
        return status._replace(code=code, argument=status.argument if code else b"", text=self.text(status.text))


def _common(one: str, other: str) -> int:
    """How many characters the two begin with in common, in whatever case."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a.lower() != b.lower()), min(len(one), len(other)))


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Case is not minded: codes are shown in upper case."""
    return re.compile("|".join(patterns) or NEVER.pattern, re.IGNORECASE)


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
