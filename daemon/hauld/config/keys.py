"""The keys of the configuration, and the frozen values that they become.

The dataclasses below are the one list of keys: an annotated field is a key of the file, its ``Form`` says how the value is
written, its default is what a file without the key means. ``config/haul.toml`` is the same list with comments, and a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from hauld.config.forms import (
    BACKEND,
    COMMAND,
    CREDENTIAL,
    DAY,
    DURATION,
    GLOBS,
    HOST,
    LOCATION,
    MODE,
    SIZE,
    SIZE_OR_NONE,
    SIZE_OR_NOTHING,
    SOME_GLOBS,
    SWITCH,
    TEXT,
    forms,
    number,
    one_of,
)
from hauld.engine.strategies import STRATEGIES
from hauld.logs import LEVELS
from hauld.model import Strategy


@dataclass(frozen=True, kw_only=True)
class DaemonConfig:
    """``[daemon]``: what the accounts share."""

    state: Annotated[Path, LOCATION]
    socket: Annotated[Path, LOCATION]
    log_level: Annotated[str, one_of(*LEVELS)] = "info"
    max_running_jobs: Annotated[int, number(1, 1000)] = 3
    memory_budget: Annotated[int, SIZE] = 16 * 1024**2


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """``[store]``: where bytes go. ``mode`` is that of files; ``keep_free`` is in bytes, 0 for none. ``layout`` is for Maildirs
    only, ``compression`` for ``eml``."""

    format: Annotated[Literal["maildir", "eml"], one_of("maildir", "eml")] = "maildir"
    layout: Annotated[Literal["nested", "maildir++"], one_of("nested", "maildir++")] = "nested"
    compression: Annotated[Literal["none", "zstd"], one_of("none", "zstd")] = "none"
    path: Annotated[Path, LOCATION]
    group: Annotated[str | None, TEXT] = None
    mode: Annotated[int, MODE] = 0o640
    keep_free: Annotated[int, SIZE_OR_NOTHING] = 64 * 1024**2


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """``[retry]``: backoff from ``initial`` seconds to ``max``; ``attempts`` is how often one item is asked for."""

    initial: Annotated[float, DURATION] = 2.0
    max: Annotated[float, DURATION] = 900.0
    attempts: Annotated[int, number(1, 100)] = 5


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``[accounts.NAME.schedule]``: seconds between two comparisons, by the kind of folder; an inbox that is listened to is
    compared less often (``engine/schedule.py``)."""

    inbox: Annotated[float, DURATION] = 300.0
    sent: Annotated[float, DURATION] = 900.0
    other: Annotated[float, DURATION] = 1800.0
    archive: Annotated[float, DURATION] = 86400.0


@dataclass(frozen=True, kw_only=True)
class KeyringConfig:
    """``keyring``: the desktop's own (no ``backend``), or the Python class of one. The user is the account's name."""

    backend: Annotated[str | None, BACKEND] = None
    service: Annotated[str, TEXT] = "haul"


@dataclass(frozen=True, kw_only=True)
class MirrorConfig:
    """``mirror``: which items the job wants that an account has without anybody making it. What is given becomes a
    ``Strategy``; a text alone is the kind."""

    kind: Annotated[str, one_of(*STRATEGIES)] = "full"
    folders: Annotated[tuple[str, ...], GLOBS] = ()
    exclude: Annotated[tuple[str, ...], GLOBS] = ()
    since: Annotated[str | None, DAY] = None
    before: Annotated[str | None, DAY] = None
    from_: Annotated[str | None, TEXT] = None
    to: Annotated[str | None, TEXT] = None
    subject: Annotated[str | None, TEXT] = None


@dataclass(frozen=True, kw_only=True)
class AccountConfig:
    """``[accounts.NAME]``: one origin. With ``auth`` a password, exactly one of its four places is not None; else
    ``token_command`` is. ``timeout`` is in seconds: no byte for so long ends a connection. ``file`` is where it was read, when
    not in the main file; an account that moves to another file is the same."""

    name: str
    file: Path | None = field(default=None, compare=False)
    source: Annotated[str, one_of("imap", later=["http", "ticket", "gdrive"])] = "imap"
    host: Annotated[str, HOST]
    port: Annotated[int, number(1, 65535)] = 993
    tls: Annotated[str, one_of("implicit", "starttls", "none")] = "implicit"
    ca_file: Annotated[Path | None, LOCATION] = None
    client_cert: Annotated[Path | None, LOCATION] = None
    client_key: Annotated[Path | None, LOCATION] = None
    allow_plaintext: Annotated[bool, SWITCH] = False
    user: Annotated[str, TEXT]
    auth: Annotated[str, one_of("password", "xoauth2", "oauthbearer")] = "password"
    token_command: Annotated[tuple[str, ...] | None, COMMAND] = field(default=None, repr=False)
    password_command: Annotated[tuple[str, ...] | None, COMMAND] = field(default=None, repr=False)
    password_file: Annotated[Path | None, LOCATION] = None
    credential: Annotated[str | None, CREDENTIAL] = None
    keyring: KeyringConfig | None = None
    connections: Annotated[int, number(1, 32)] = 3
    compress: Annotated[bool, SWITCH] = False
    batch_items: Annotated[int, number(1, 1000)] = 500
    batch_size: Annotated[int | None, SIZE_OR_NONE] = None
    folders: Annotated[tuple[str, ...], SOME_GLOBS] = ("*",)
    exclude: Annotated[tuple[str, ...], GLOBS] = ()
    max_message_size: Annotated[int | None, SIZE_OR_NONE] = None
    timeout: Annotated[float, DURATION] = 60.0
    mirror: Strategy | None = None
    on_remote_delete: Annotated[str, one_of("keep", later=["trash", "delete"])] = "keep"
    schedule: Schedule = Schedule()

    @property
    def identity(self) -> str:
        """What makes the account this one and no other, whatever its name and port: source, host and user."""
        host = self.host.lower().rstrip(".")
        return f"{self.source}://{quote(self.user, safe='')}@{f'[{host}]' if ':' in host else host}"


@dataclass(frozen=True, kw_only=True)
class Config:
    """All files, found right. ``path`` is the main one; all paths are absolute."""

    path: Path
    daemon: DaemonConfig
    store: StoreConfig
    retry: RetryConfig
    accounts: Mapping[str, AccountConfig]


TABLES: Mapping[str, type] = {
    "daemon": DaemonConfig,
    "store": StoreConfig,
    "retry": RetryConfig,
    "accounts.*": AccountConfig,
    "accounts.*.keyring": KeyringConfig,
    "accounts.*.mirror": MirrorConfig,
    "accounts.*.schedule": Schedule,
}
"""Every table; the name of an account is written as a star."""

SECRET_SOURCES = ("password_command", "password_file", "credential", "keyring")
"""The keys that say where an account's password is kept; at most one of them is given, and none beside a token."""

TOKEN_AUTHS = ("xoauth2", "oauthbearer")
"""The ways to sign in that take an access token."""

LITERAL_SECRETS = frozenset(
    {"password", "passwd", "pass", "passphrase", "secret", "token", "access_token", "refresh_token", "client_secret"}
)
"""Keys that would hold a secret itself, which no key does."""


def known_keys() -> dict[str, Any]:
    """Every key with its default (None where it has none), written ``daemon.socket``,
    ``accounts.*.schedule.inbox``."""
    return {f"{table}.{key}": getattr(made_of, key, None) for table, made_of in TABLES.items() for key in forms(made_of)}
