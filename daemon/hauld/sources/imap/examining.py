"""What is seen at each step of the way to an account, in words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from hauld.errors import Transient
from hauld.model import FolderKind
from hauld.sources.base import Finding
from hauld.sources.imap import dialling
from hauld.sources.imap.options import ImapOptions
from hauld.sources.imap.protocol import Connection
from hauld.sources.imap.session import ImapSession

SOON = 14.0
"""Days before its end when a certificate is worth a word."""

DAY = 24 * 3600.0
LIMITS = ("MESSAGELIMIT=", "SAVELIMIT=", "APPENDLIMIT=")
"""Capabilities that name a limit (RFC 9738, RFC 7889)."""

OF_ENCRYPTION = frozenset({"certificate", "tls", "tls-required"})
"""Kinds of errors that come only once there is a connection."""


async def addresses(options: ImapOptions) -> Finding:
    """The addresses of the host. Raises ``Transient`` where it has none."""
    try:
        found = await dialling.addresses(options.host)
    except OSError as error:
        raise Transient(
            "network",
            f"{options.host} has no address that could be found: {error.strerror or error}",
            hint="Check the spelling of host, and the network: is there a name server that answers?",
        ) from error
    return Finding("address", f"{options.host} is {', '.join(sorted(str(address[0]) for _, address in found))}")


def connected(options: ImapOptions) -> Finding:
    """Somebody is there."""
    return Finding("connection", f"{options.host} answers on port {options.port}")


def encryption(options: ImapOptions, connection: Connection) -> Finding:
    """How it is encrypted, and for how long its certificate is good."""
    spoken = connection.encryption
    if spoken is None:
        return Finding("encryption", "there is none; what is sent can be read on its way", hint=_plain_hint(options))
    certificate = spoken.getpeercert() or {}
    version = (spoken.version() or "TLS").replace("TLSv", "TLS ")
    left = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - datetime.now(UTC).timestamp()) / DAY
    told = f"{version}; the certificate of {_owner(certificate)} is good for {left:.0f} more days"
    hint = "Its server must renew it, or no connection will be made after that." if left < SOON else None
    return Finding("encryption", told, hint=hint)


def _plain_hint(options: ImapOptions) -> str | None:
    return 'Set tls = "implicit" or "starttls".' if options.allow_plaintext else None


def _owner(certificate: Mapping[str, object]) -> str:
    """Whom the certificate is for."""
    subject = certificate.get("subject")
    names = [value for part in subject for key, value in part if key == "commonName"] if isinstance(subject, tuple) else []
    return str(names[0]) if names else "the server"


async def folders(session: ImapSession) -> Finding:
    """How many there are, and whether new mail can come."""
    found = [folder async for folder in session.folders()]
    if not any(folder.kind is FolderKind.INBOX for folder in found):
        hint = "Check that the user is the right one; new mail is looked for there."
        return Finding("folders", f"{len(found)}, and no INBOX is among them", hint=hint)
    return Finding("folders", f"{len(found)}, INBOX among them")


def push(connection: Connection) -> Finding:
    """How one hears of new mail."""
    if "IDLE" in connection.capabilities:
        return Finding("new mail", "the server tells of it by itself")
    return Finding("new mail", "the server cannot tell of it, so it is asked by the schedule")


def limits(connection: Connection) -> Iterator[Finding]:
    """What the server says that it will not do."""
    named = sorted(word for word in connection.capabilities if word.startswith(LIMITS))
    if named:
        yield Finding("limits", connection.concealment.text(f"the server names {', '.join(named)}"))
