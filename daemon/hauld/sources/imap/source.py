"""An IMAP account as a source: connect, verify, sign in, and hand out a session. Foreign errors are translated here.

The conversation itself is in ``session``; what goes over the wire, in ``protocol`` and ``grammar``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from aioimaplib import aioimaplib as library

from hauld.errors import HaulError, NeedsAttention, Transient, out_of_files
from hauld.sources.base import Finding
from hauld.sources.imap import answers, examining, signin, tls
from hauld.sources.imap.client import Client
from hauld.sources.imap.idling import Span
from hauld.sources.imap.options import ImapOptions
from hauld.sources.imap.protocol import Connection
from hauld.sources.imap.session import ImapSession
from hauld.sources.imap.signin import Secret

TLS_RETRY = 300.0
"""Seconds, at least, before a failed TLS handshake is tried again: it seldom mends itself."""

FAREWELL = 2.0
"""Seconds a server has to answer LOGOUT."""


class ImapSource:
    """See ``sources.base.Source`` and ``Examiner``. ``secret`` gives the password or token, and is asked for each sign-in."""

    steps = ("secret", "address", "connection", "encryption", "sign-in", "folders", "new mail")

    def __init__(self, options: ImapOptions, secret: Secret) -> None:
        self._options = options
        self._secret = secret
        self._idle_span = Span(options.idle_span)
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ImapSession]:
        self._check_options()
        client = self._client()
        try:
            greeting = await self._connect(client)
            await signin.sign_in(client.connection, self._options, self._secret)
            if self._options.compress and "COMPRESS=DEFLATE" in client.connection.capabilities:
                await client.connection.compress()  # a server that refuses after all is spoken to without
            options = self._options
            yield ImapSession(client.connection, greeting, options.max_message_size, options.window, self._idle_span)
        except BaseException:
            await client.abort(FAREWELL)
            raise
        await client.leave(FAREWELL)

    async def examine(self, *, sign_in: bool = True) -> AsyncGenerator[Finding, None]:
        told = await self._secret()
        yield Finding("secret", "can be read")
        yield await examining.addresses(self._options)
        self._check_options()
        client = self._client()
        try:
            try:
                await self._connect(client)
            except HaulError as error:
                if error.kind in examining.OF_ENCRYPTION:
                    yield examining.connected(self._options)
                raise
            yield examining.connected(self._options)
            yield examining.encryption(self._options, client.connection)
            if sign_in:
                async for finding in self._examine_inside(client, told):
                    yield finding
        except BaseException:
            await client.abort(FAREWELL)
            raise
        await client.leave(FAREWELL)

    async def _examine_inside(self, client: Client, told: str) -> AsyncGenerator[Finding, None]:
        async def secret() -> str:
            return told  # the same again is not tried again

        await signin.sign_in(client.connection, self._options, secret)
        yield Finding("sign-in", f"{self._options.user} may sign in")
        options = self._options
        yield await examining.folders(
            ImapSession(client.connection, "", options.max_message_size, options.window, self._idle_span)
        )
        yield examining.push(client.connection)
        for finding in examining.limits(client.connection):
            yield finding

    def _check_options(self) -> None:
        """Refuse what would be unsafe or is not there, before a byte is sent."""
        where = self._options.where
        if self._options.tls == "none" and not (self._options.allow_plaintext or _is_loopback(self._options.host)):
            raise NeedsAttention(
                "configuration",
                f'{where}: tls = "none" would send password, tokens and all mail readable over the network.',
                hint='Use tls = "implicit" or "starttls", or set allow_plaintext = true if the network is yours.',
            )

    def _client(self) -> Client:
        options = self._options
        context = self._encryption() if options.tls == "implicit" else None
        return Client(options.host, options.port, where=options.where, timeout=options.timeout, tls=context)

    def _encryption(self) -> ssl.SSLContext:
        """Kept, so that it need not be made again where no other account has the same."""
        self._tls = tls.context_of(self._options)
        return self._tls

    async def _connect(self, client: Client) -> str:
        """Connected and greeted; what the server said."""
        where = self._options.where
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                greeting = await client.open()
                if self._options.tls == "starttls":
                    await self._encrypt(client.connection)
                return answers.printable(greeting.text)
        except HaulError:
            raise
        except TimeoutError as error:
            patience = self._options.connect_timeout
            raise Transient("timeout", f"{where} did not connect and greet within {patience:g} s.") from error
        except ssl.SSLCertVerificationError as error:
            raise NeedsAttention(
                "certificate",
                f"{where}: the server's certificate is not trusted: {error.verify_message}. Nothing was sent to it.",
                hint="Check host and port; for a server with a certificate of its own, name that in ca_file.",
            ) from error
        except ssl.SSLError as error:
            reason = error.reason or error
            raise Transient("tls", f"{where}: no encrypted connection could be made: {reason}", at_least=TLS_RETRY) from error
        except ConnectionResetError as error:
            raise Transient("network", f"{where} accepted the connection and closed it again before a greeting.") from error
        except OSError as error:
            trouble = f"{where} cannot be reached: {error.strerror or error}"
            raise out_of_files(error, trouble) or Transient("network", trouble) from error

    async def _encrypt(self, connection: Connection) -> None:
        """STARTTLS, or nothing: there is no signing in without (RFC 8314). What a server, or somebody on the way to it, says
        in the clear is believed only when it leads to TLS."""
        if connection.state != library.NONAUTH:
            raise self._not_encrypted("greets as if somebody had signed in, where encryption cannot begin any more")
        await connection.capability()
        if "STARTTLS" not in connection.capabilities:
            raise self._not_encrypted("does not offer STARTTLS")
        status = await connection.starttls(self._encryption(), self._options.host)
        if status.condition != "OK":
            raise answers.setback(self._options.where, status) or self._not_encrypted(
                f"refused STARTTLS: {answers.words(status)}"
            )

    def _not_encrypted(self, reason: str) -> NeedsAttention:
        return NeedsAttention(
            "tls-required",
            f"{self._options.where} {reason}. Neither password nor token was sent.",
            hint='Use tls = "implicit" if the server has it (usually on port 993); if it worked before, mistrust the network.',
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
