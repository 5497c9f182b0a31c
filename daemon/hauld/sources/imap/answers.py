"""What a server's NO, BAD or BYE means for the next step (RFC 5530, and what large providers say instead)."""

from __future__ import annotations

import re

from hauld.errors import HaulError, NeedsAttention, Throttled, Transient
from hauld.sources.imap.grammar import Status

DEFAULT_THROTTLE = 60.0
"""Seconds to wait when a server asks for patience and does not say how long."""

SIGN_IN_TRIES = 3
"""How often a password must be refused before a person is asked: servers refuse good ones on bad days."""

_BACKOFF = re.compile(r"backoff time:?\s*(\d{1,12})\s*milliseconds", re.IGNORECASE)
_THROTTLED = re.compile(r"\bthrottl|bandwidth limit", re.IGNORECASE)
_TOO_MANY = re.compile(r"too many\b.{0,40}\bconnections|maximum number of connections|connection limit", re.IGNORECASE)
_DISABLED = re.compile(
    r"not enabled for imap|imap (?:access )?is (?:disabled|off)"
    r"|(?:log-?in|account|basic ?auth) ?(?:is )?(?:disabled|blocked|locked)",
    re.IGNORECASE,
)
_OUTDATED = re.compile(r"(?:password|token|credential)s? (?:has |have |is )?expired", re.IGNORECASE)
_OWN_PASSWORD = re.compile(r"app(?:lication)?[- ]specific password", re.IGNORECASE)
_LONGEST_QUOTE = 300


def words(status: Status) -> str:
    """What the server said, for people: one printable line of reasonable length."""
    text = f"[{status.code}] {status.text}" if status.code else status.text
    return printable(text) or status.condition


def printable(text: str) -> str:
    """A server's text, fit to be shown."""
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_QUOTE]).strip()


def setback(where: str, status: Status) -> Transient | None:
    """Why the server cannot just now, where its answer says so; None when it concerns only what was asked."""
    said = words(status)
    if status.code == "THROTTLED" or _THROTTLED.search(status.text) or _BACKOFF.search(status.text):
        named = _BACKOFF.search(status.text)
        wait = int(named[1]) / 1000 if named else DEFAULT_THROTTLE
        return Throttled(f"{where} asks for patience: {said}", wait=wait)
    if status.code == "LIMIT" or _TOO_MANY.search(status.text):
        return Transient("too-many-connections", f"{where} has too many connections: {said}")
    if status.code == "UNAVAILABLE":
        return Transient("unavailable", f"{where} is not available: {said}")
    return None


def farewell(where: str, status: Status) -> Transient:
    """Why a connection ends that the server ended with BYE."""
    return setback(where, status) or Transient("network", f"{where} ended the connection: {words(status)}")


def refusal(where: str, status: Status) -> HaulError:
    """Why signing in did not succeed."""
    if temporary := setback(where, status):
        return temporary
    said = words(status)
    if status.code in ("SERVERBUG", "INUSE"):
        return Transient("unavailable", f"{where} cannot sign in now: {said}")
    if status.code == "CONTACTADMIN":
        return NeedsAttention("sign-in", f"{where} refused to sign in: {said}", hint="Ask the server's administrator.")
    if _expired(status):
        return NeedsAttention(
            "sign-in", f"{where}: the password has expired: {said}", hint="Set a new password at the provider."
        )
    if _OWN_PASSWORD.search(status.text):
        return NeedsAttention(
            "sign-in",
            f"{where} wants a password made for this application: {said}",
            hint="Make one at the provider, and give it instead of your own.",
        )
    if status.code == "AUTHORIZATIONFAILED" or _DISABLED.search(status.text):
        return NeedsAttention(
            "sign-in", f"{where}: access is not allowed: {said}", hint="Check that IMAP is enabled for this user."
        )
    if status.code == "PRIVACYREQUIRED":
        return NeedsAttention(
            "configuration", f"{where} wants an encrypted connection: {said}", hint='Set tls = "implicit" or "starttls".'
        )
    return NeedsAttention(
        "sign-in",
        f"{where} refused to sign in: {said}",
        hint="Check user and password; some providers want a password made for this application.",
        tries=SIGN_IN_TRIES,
    )


def blames_the_secret(status: Status, error: NeedsAttention) -> bool:
    """Whether that ``refusal`` may be one of this password or token, so that another would be welcome."""
    return error.tries == SIGN_IN_TRIES or _expired(status)


def _expired(status: Status) -> bool:
    return status.code == "EXPIRED" or _OUTDATED.search(status.text) is not None
