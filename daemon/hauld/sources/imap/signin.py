"""Signing in: which way the server offers, and what its answer means. The secret is asked for only once a way is found.

A password goes by SASL PLAIN or LOGIN; an access token by SASL XOAUTH2 or OAUTHBEARER. A token that is refused is asked
for once more: it may have expired since, and whoever gives it knows how to get another.
"""

from __future__ import annotations

import binascii
from collections.abc import Awaitable, Callable

import msgspec
from aioimaplib import aioimaplib as library

from hauld.errors import NeedsAttention, Transient
from hauld.sources.imap import answers
from hauld.sources.imap.arguments import Literal, astring
from hauld.sources.imap.grammar import Continuation, Event, Status
from hauld.sources.imap.options import ImapOptions
from hauld.sources.imap.protocol import Connection

Secret = Callable[[], Awaitable[str]]
"""Gives the password or the access token. Nobody keeps it, but the ``concealment`` of the connection that it signed in."""


async def sign_in(connection: Connection, options: ImapOptions, secret: Secret) -> None:
    """Leave the connection authenticated, with the capabilities it has then; where the server greeted with PREAUTH, it is
    already. Raises ``NeedsAttention`` when a person has to act. No error of the connection ever holds the secret, whatever the
    server says."""
    try:
        if connection.state == library.NONAUTH:
            await connection.capability()
            if options.auth == "password":
                await _with_password(connection, options.user, secret)
            else:
                await _with_token(connection, options, secret)
            connection.state = library.AUTH
        await connection.capability()
    finally:
        connection.concealment.relax()


# --- passwords -----------------------------------------------------------------------------------------------------


async def _with_password(connection: Connection, user: str, secret: Secret) -> None:
    way = _way(connection)
    password = await secret()
    connection.concealment.add(password, _plain(user, password).decode())
    status = await way(connection, user, password)
    if status.condition != "OK":
        raise answers.refusal(connection.where, status)


def _way(connection: Connection) -> Callable[[Connection, str, str], Awaitable[Status]]:
    """The best way to sign in with a password that the server offers."""
    if "AUTH=PLAIN" in connection.capabilities:
        return _authenticate_plain
    if "LOGINDISABLED" not in connection.capabilities:
        return _login
    raise NeedsAttention(
        "sign-in",
        f"{connection.where} offers no way to sign in with a password on this connection; the password was not sent.",
        hint='Set tls = "implicit" or "starttls", or another auth that the server offers.',
    )


async def _authenticate_plain(connection: Connection, user: str, password: str) -> Status:
    """SASL PLAIN (RFC 4616), which carries any characters but NUL; in one round trip where the server can (RFC 4959)."""
    if "\0" in user + password:
        raise NeedsAttention("sign-in", f"{connection.where}: user or password hold a NUL character, which no server takes.")
    return await connection.ask("AUTHENTICATE", b"PLAIN", _first(connection, _plain(user, password)))


async def _login(connection: Connection, user: str, password: str) -> Status:
    return await connection.ask("LOGIN", astring(user.encode()), astring(password.encode()))


def _plain(user: str, password: str) -> bytes:
    return f"\0{user}\0{password}".encode()


# --- tokens --------------------------------------------------------------------------------------------------------


async def _with_token(connection: Connection, options: ImapOptions, secret: Secret) -> None:
    """Try the token, and where that is refused, once another, if there is another."""
    mechanism = options.auth.upper()
    if f"AUTH={mechanism}" not in connection.capabilities:
        raise NeedsAttention(
            "sign-in",
            f"{connection.where} offers no way to sign in with {mechanism} on this connection; no token was sent.",
            hint=f"The server offers: {', '.join(_mechanisms(connection)) or 'nothing of the kind'}.",
        )
    token = await secret()
    if (refused := await _try_token(connection, options, token)) is None:
        return
    another = await secret()
    if another == token:
        raise _refused(refused, "the same token came again", tries=answers.SIGN_IN_TRIES)
    if (refused := await _try_token(connection, options, another)) is not None:
        raise _refused(refused, "so was another")


async def _try_token(connection: Connection, options: ImapOptions, token: str) -> NeedsAttention | None:
    """None once signed in, else why the token was refused. Raises what is not the token's fault."""
    response, farewell = _MESSAGES[options.auth](options, token)
    connection.concealment.add(token, response.decode())
    said: list[bytes] = []

    def listener(event: Event) -> None:
        if type(event) is Continuation and event.text:
            said.append(event.text)

    with connection.listening(listener):
        status = await connection.ask(
            "AUTHENTICATE", options.auth.upper().encode(), _first(connection, response), Literal(farewell, announced=False)
        )
    if status.condition == "OK":
        return None
    reason = connection.concealment.text(_reason(said))
    told = status._replace(text=f"{status.text} ({reason})" if reason else status.text)
    error = answers.refusal(connection.where, told)
    if not isinstance(error, NeedsAttention):
        raise error
    if reason.startswith("status 5"):
        raise Transient("unavailable", f"{connection.where} cannot check tokens now: {answers.words(told)}")
    if not answers.blames_the_secret(told, error):
        raise error
    said_of_it = f"the token was refused (expired or revoked?): {answers.words(told)}"
    return NeedsAttention("sign-in", f"{connection.where}: {said_of_it}")


def _xoauth2(options: ImapOptions, token: str) -> tuple[bytes, bytes]:
    """What Google and Microsoft publish: the message, and what answers the server's report of an error."""
    return f"user={options.user}\1auth=Bearer {token}\1\1".encode(), b""


def _oauthbearer(options: ImapOptions, token: str) -> tuple[bytes, bytes]:
    """RFC 7628, 3.1: the message, and what answers the server's report of an error (3.2.3)."""
    user = options.user.replace("=", "=3D").replace(",", "=2C")
    message = f"n,a={user},\1host={options.host}\1port={options.port}\1auth=Bearer {token}\1\1"
    return message.encode(), _base64(b"\1")


_MESSAGES = {"xoauth2": _xoauth2, "oauthbearer": _oauthbearer}


class _Report(msgspec.Struct):
    """How a server says why it refuses a token (RFC 7628, 3.2.2), as far as that is of use."""

    status: str | int = ""
    scope: str | None = None


def _reason(said: list[bytes]) -> str:
    """The server's report in words; empty where it made none that can be read."""
    for text in said:
        try:
            report = msgspec.json.decode(binascii.a2b_base64(text), type=_Report)
        except (ValueError, msgspec.DecodeError):
            continue
        scope = f", scope {answers.printable(report.scope)}" if report.scope else ""
        if report.status:
            return f"status {answers.printable(str(report.status))}{scope}"
    return ""


def _refused(error: NeedsAttention, behind: str, tries: int = 1) -> NeedsAttention:
    return NeedsAttention(
        error.kind,
        f"{error.message}; {behind}",
        hint="Run the token command by hand; perhaps access has to be granted anew.",
        tries=tries,
    )


def _mechanisms(connection: Connection) -> list[str]:
    return sorted(word.removeprefix("AUTH=") for word in connection.capabilities if word.startswith("AUTH="))


# --- both ----------------------------------------------------------------------------------------------------------


def _first(connection: Connection, response: bytes) -> bytes | Literal:
    """A SASL message as it is sent: with the command where the server can (RFC 4959), else when it asks."""
    answer = _base64(response)
    return answer if "SASL-IR" in connection.capabilities else Literal(answer, announced=False)


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)
