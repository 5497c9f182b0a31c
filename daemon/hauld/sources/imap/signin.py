"""Signing in: which way the server offers, and what its answer means. The secret is asked for only once a way is found."""

from __future__ import annotations

import binascii
from collections.abc import Awaitable, Callable

from aioimaplib import aioimaplib as library

from hauld.errors import NeedsAttention
from hauld.sources.imap import answers
from hauld.sources.imap.grammar import Status
from hauld.sources.imap.protocol import Connection, Literal, astring


async def sign_in(connection: Connection, user: str, secret: Callable[[], Awaitable[str]]) -> None:
    """Leave the connection authenticated, with the capabilities it has then; where the server greeted with PREAUTH, it is
    already. Raises ``NeedsAttention`` when a person has to act."""
    if connection.state == library.NONAUTH:
        await connection.capability()
        way = _way(connection)
        password = await secret()
        status = await way(connection, user, password)
        if status.condition != "OK":
            raise answers.refusal(connection.where, _without_secrets(user, password, status))
        connection.state = library.AUTH
    await connection.capability()


def _way(connection: Connection) -> Callable[[Connection, str, str], Awaitable[Status]]:
    """The best way to sign in with a password that the server offers."""
    if "AUTH=PLAIN" in connection.capabilities:
        return _authenticate_plain
    if "LOGINDISABLED" not in connection.capabilities:
        return _login
    raise NeedsAttention(
        "sign-in",
        f"{connection.where} offers no way to sign in with a password on this connection; the password was not sent.",
        hint='Set tls = "implicit", or another auth that the server offers.',
    )


async def _authenticate_plain(connection: Connection, user: str, password: str) -> Status:
    """SASL PLAIN (RFC 4616), which carries any characters but NUL; in one round trip where the server can (RFC 4959)."""
    if "\0" in user + password:
        raise NeedsAttention("sign-in", f"{connection.where}: user or password hold a NUL character, which no server takes.")
    answer = _plain(user, password)
    if "SASL-IR" in connection.capabilities:
        return await connection.ask("AUTHENTICATE", b"PLAIN", answer)
    return await connection.ask("AUTHENTICATE", b"PLAIN", Literal(answer, announced=False))


async def _login(connection: Connection, user: str, password: str) -> Status:
    return await connection.ask("LOGIN", astring(user.encode()), astring(password.encode()))


def _plain(user: str, password: str) -> bytes:
    return binascii.b2a_base64(f"\0{user}\0{password}".encode(), newline=False)


def _without_secrets(user: str, password: str, status: Status) -> Status:
    """The answer without what was secret in the question, should the server have repeated it."""
    text = status.text
    for secret in filter(None, (_plain(user, password).decode("ascii"), password)):
        text = text.replace(secret, "***")
    return status._replace(text=text)
