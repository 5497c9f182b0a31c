"""What an IMAP account is made of, as far as the conversation with its server needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WINDOW = 8 * 1024 * 1024
"""Bytes of one window of a large body. It is what a kill may cost, and many times what is under way on a fast line with a long
round trip."""


@dataclass(frozen=True)
class ImapOptions:
    """``tls`` is ``implicit``, ``starttls`` or ``none``; ``auth`` is ``password``, ``xoauth2`` or ``oauthbearer``. ``timeout``
    is how many seconds no byte may come while an answer is due, ``connect_timeout`` how many connecting, greeting and
    STARTTLS may take together; sizes are bytes. ``client_cert`` may hold the key, too. With ``compress``, what goes over the
    wire is compressed where the server offers it. A body at least twice as large as ``window`` is fetched in such windows.
    ``idle_span`` is how many seconds, at most, the server is left to speak first where it pushes, before it is asked."""

    host: str
    user: str
    port: int = 993
    tls: str = "implicit"
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    auth: str = "password"
    timeout: float = 60.0
    connect_timeout: float = 30.0
    max_message_size: int | None = None
    allow_plaintext: bool = False
    window: int = WINDOW
    compress: bool = False
    idle_span: float = 600.0

    @property
    def where(self) -> str:
        """The account, for messages."""
        return f"{self.host}:{self.port} (user {self.user})"
