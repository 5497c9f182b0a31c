"""An IMAP account as a source: connect, verify, sign in, and hand out a session. Foreign errors are translated here.

The conversation itself is in ``session``; what goes over the wire, in ``protocol`` and ``grammar``.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hauld.errors import HaulError, NeedsAttention, Transient
from hauld.sources.imap import answers
from hauld.sources.imap.protocol import Client
from hauld.sources.imap.session import ImapSession
from hauld.sources.imap.signin import sign_in

TLS_RETRY = 300.0
"""Seconds, at least, before a failed TLS handshake is tried again: it seldom mends itself."""

FAREWELL = 2.0
"""Seconds a server has to answer LOGOUT."""


@dataclass(frozen=True)
class ImapOptions:
    """``tls`` is ``implicit``, ``starttls`` or ``none``; ``timeout`` is how many seconds no byte may come while an answer
    is due, ``connect_timeout`` how many connecting and greeting may take together; sizes are bytes."""

    host: str
    user: str
    port: int = 993
    tls: str = "implicit"
    ca_file: Path | None = None
    auth: str = "password"
    timeout: float = 60.0
    connect_timeout: float = 30.0
    max_message_size: int | None = None
    allow_plaintext: bool = False

    @property
    def where(self) -> str:
        """The account, for messages."""
        return f"{self.host}:{self.port} (user {self.user})"


class ImapSource:
    """See ``sources.base.Source``. ``secret`` gives the password, and is asked for each sign-in."""

    def __init__(self, options: ImapOptions, secret: Callable[[], Awaitable[str]]) -> None:
        self._options = options
        self._secret = secret

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ImapSession]:
        self._check_options()
        client = self._client()
        try:
            greeting = await self._connect(client)
            await sign_in(client.connection, self._options.user, self._secret)
            yield ImapSession(client.connection, greeting, self._options.max_message_size)
        except BaseException:
            await client.abort(FAREWELL)
            raise
        await client.leave(FAREWELL)

    def _check_options(self) -> None:
        """Refuse what would be unsafe or is not there, before a byte is sent."""
        where = self._options.where
        if self._options.tls == "starttls":
            raise NeedsAttention(
                "configuration",
                f'{where}: tls = "starttls" is not supported yet.',
                hint='Use tls = "implicit" (usually on port 993).',
            )
        if self._options.auth != "password":
            raise NeedsAttention(
                "configuration", f'{where}: auth = "{self._options.auth}" is not supported yet.', hint='Use auth = "password".'
            )
        if self._options.tls == "none" and not (self._options.allow_plaintext or _is_loopback(self._options.host)):
            raise NeedsAttention(
                "configuration",
                f'{where}: tls = "none" would send the password and all mail readable over the network.',
                hint='Use tls = "implicit", or set allow_plaintext = true if the network is yours.',
            )

    def _client(self) -> Client:
        options = self._options
        context = self._tls_context if options.tls == "implicit" else None
        return Client(options.host, options.port, where=options.where, timeout=options.timeout, tls=context)

    @functools.cached_property
    def _tls_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._options.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise NeedsAttention(
                "configuration",
                f"{self._options.where}: the certificates in {self._options.ca_file} cannot be read: {error}",
                hint="ca_file names a file of PEM certificates that the daemon may read.",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def _connect(self, client: Client) -> str:
        """Connected and greeted; what the server said."""
        where = self._options.where
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                return answers.printable((await client.open()).text)
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
            raise Transient("network", f"{where} cannot be reached: {error.strerror or error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
