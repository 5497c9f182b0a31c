"""The configuration: one TOML file, checked whole, as frozen values.

``find`` says which file, ``load`` reads it. Everything that is wrong with a file is reported at once
(``ConfigurationError.problems``), each problem with its account and key; no value is ever repeated in an error, since
any of them may be a secret in the wrong place. ``missing_here`` tells what the file names and this machine lacks.

The dataclasses below are the one list of keys: an annotated field is a key of the file, its ``Form`` says how the value is
written, its default is what a file without the key means. ``config/haul.toml`` is the same list with comments, and a
test holds the two together.
"""

from __future__ import annotations

import difflib
import grp
import importlib.util
import ipaddress
import os
import pwd
import re
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import quote

import msgspec

from haulapi.faults import Exit
from hauld.errors import Fatal
from hauld.logs import LEVELS, printable

LARGEST_FILE = 1024 * 1024
"""Bytes; a larger file is something else under that name."""

LONGEST_SOCKET_PATH = 99
"""Bytes: the 107 that fit into the address of a Unix socket (unix(7)), less what its name is longer while it is made."""

# --- the keys ------------------------------------------------------------------------------------------------------


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
    """``[accounts.NAME.schedule]``: seconds between two comparisons, by the kind of folder, where push is not to be had."""

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
class AccountConfig:
    """``[accounts.NAME]``: one origin. With ``auth`` a password, exactly one of its four places is not None; else
    ``token_command`` is. ``timeout`` is in seconds: no byte for so long ends a connection."""

    name: str
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
    mirror: str | None = None
    on_remote_delete: Annotated[str, one_of("keep", later=["trash", "delete"])] = "keep"
    schedule: Schedule = Schedule()

    @property
    def identity(self) -> str:
        """What makes the account this one and no other, whatever its name and port: source, host and user."""
        host = self.host.lower().rstrip(".")
        return f"{self.source}://{quote(self.user, safe='')}@{f'[{host}]' if ':' in host else host}"


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole file that was found right. All paths are absolute."""

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
    "accounts.*.schedule": Schedule,
}
"""Every table of the file; the name of an account is written as a star."""

SECRET_SOURCES = ("password_command", "password_file", "credential", "keyring")
"""The keys that say where an account's password is kept; at most one of them is given, and none beside a token."""

TOKEN_AUTHS = ("xoauth2", "oauthbearer")
"""The ways to sign in that take an access token."""

LITERAL_SECRETS = frozenset(
    {"password", "passwd", "pass", "passphrase", "secret", "token", "access_token", "refresh_token", "client_secret"}
)
LATER_KEYS = frozenset({"mirror"})

# --- problems ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which account (None: in none of them), at which key, and what to do instead."""

    account: str | None
    key: str
    message: str

    def line(self, path: Path) -> str:
        """For people, on one line."""
        where = [str(path), f"account {self.account}" if self.account else "", self.key]
        return printable(": ".join([*filter(None, where), self.message]))


class ConfigurationError(Fatal):
    """The file cannot be used; ``problems`` holds all that is wrong with it, the message says each on a line."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        super().__init__(
            "configuration",
            "\n".join(problem.line(path) for problem in problems),
            hint="Once that is mended, 'hauld check-config' tells whether all is well.",
            exit_code=Exit.CONFIGURATION,
        )
        self.problems = list(problems)


# --- the way of a file ---------------------------------------------------------------------------------------------


def find(explicit: Path | None, environment: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """The file to read: the one that was named; else the system's for root and for a system service (which has
    ``$STATE_DIRECTORY``); else the user's own. It need not exist."""
    if explicit is not None:
        return explicit
    if (os.getuid() if uid is None else uid) == 0 or environment.get("STATE_DIRECTORY"):
        return Path("/etc/haul/haul.toml")
    return _base_directory("XDG_CONFIG_HOME", ".config", environment) / "haul" / "haul.toml"


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in that file. Raises ``ConfigurationError`` with every problem found."""
    path = path.absolute()
    reading = _Reading(path, environment)
    config = reading.document(_parse(path, _read(path)))
    if config is None or reading.problems:
        raise ConfigurationError(path, reading.problems)
    return config


def known_keys() -> dict[str, Any]:
    """Every key of the file with its default (None where it has none), written ``daemon.socket``,
    ``accounts.*.schedule.inbox``."""
    return {f"{table}.{key}": getattr(made_of, key, None) for table, made_of in TABLES.items() for key in forms(made_of)}


def missing_here(config: Config) -> list[Problem]:
    """What the file names and this machine lacks, as far as that shows without a network. None of it is an error of the
    file: a service may have another ``PATH``, and a disk may be mounted later."""
    found: list[Problem] = []
    if config.store.group is not None and not _group_exists(config.store.group):
        found.append(Problem(None, "store.group", "there is no such group on this machine"))
    if config.store.compression == "zstd" and importlib.util.find_spec("zstandard") is None:
        found.append(Problem(None, "store.compression", "needs the Python package zstandard: pip install 'hauld[zstd]'"))
    for account in config.accounts.values():
        for key in ("ca_file", "client_cert", "client_key", "password_file"):
            file = getattr(account, key)
            if file is not None and not os.access(file, os.R_OK):
                found.append(Problem(account.name, key, f"{file} is not there or cannot be read"))
        for key in ("password_command", "token_command"):
            command = getattr(account, key)
            if command is not None and shutil.which(command[0]) is None:
                found.append(Problem(account.name, key, f"there is no program {command[0]!r} on the PATH"))
    return found


# --- reading the file ----------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    """The bytes of the file, once it is certain that nobody else wrote them: it can run commands."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            objection = _objection_to(path, os.fstat(file.fileno()))
            content = b"" if objection else file.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        advice = "there is no such file; write one (config/haul.toml is a sample) or name another with --config"
        raise _unusable(path, advice) from error
    except OSError as error:
        raise _unusable(path, f"cannot be opened: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        objection = f"is larger than {LARGEST_FILE} bytes, so it is no configuration"
    if objection is not None:
        raise _unusable(path, objection)
    return content


def _objection_to(path: Path, status: os.stat_result) -> str | None:
    """Why the file cannot be trusted, or None. A symbolic link is judged where it is and where it leads."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in {0, os.geteuid()}:
        return f"belongs to another user (uid {status.st_uid}), who could make it run commands; give it to root or yourself"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "may be written by others, who could make it run commands; use 'chmod go-w' on it"
    for directory in {*path.parents, *path.resolve().parents}:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"is below {directory}, where everybody may put another file in its place; use 'chmod o-w' on that"
    return None


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    """The tables of the file."""
    if content.startswith(b"\xef\xbb\xbf"):
        raise _unusable(path, "begins with a byte order mark; save it as UTF-8 without one")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise _unusable(path, f"is not UTF-8 (at line {line}, column {column}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise _unusable(path, f"is not TOML: {error}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "is not TOML that can be read: a number is too long or brackets are too deep") from error


def _unusable(path: Path, message: str) -> ConfigurationError:
    return ConfigurationError(path, [Problem(None, "", message)])


# --- from tables to values -----------------------------------------------------------------------------------------


class _Reading:
    """A file while it is read: where its relative paths begin, and all that was found wrong so far."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.problems: list[Problem] = []

    def document(self, tables: dict[str, Any]) -> Config | None:
        """The whole file, or None when something is wrong."""
        daemon = self.table(tables.get("daemon", {}), DaemonConfig, "daemon")
        store = self.table(tables.get("store", {}), StoreConfig, "store")
        retry = self.table(tables.get("retry", {}), RetryConfig, "retry")
        accounts = self.accounts(tables.get("accounts", {}))
        for key in tables:
            if key not in {"daemon", "store", "retry", "accounts"}:
                self.unknown(key, ("daemon", "store", "retry", "accounts"))

        if "state" not in daemon:
            daemon["state"] = _default_state(self.environment)
        daemon.setdefault("socket", _default_socket(daemon["state"], self.environment))
        store.setdefault("path", daemon["state"].parent / "mail")
        self.check_paths(daemon, store)
        self.check_format(store)
        if retry.get("initial", RetryConfig.initial) > retry.get("max", RetryConfig.max):
            self.problem("retry.initial", "must not be longer than retry.max")
        if self.problems:
            return None
        return Config(
            path=self.path,
            daemon=DaemonConfig(**daemon),
            store=StoreConfig(**store),
            retry=RetryConfig(**retry),
            accounts=MappingProxyType({name: AccountConfig(**values) for name, values in accounts.items()}),
        )

    def accounts(self, tables: Any) -> dict[str, dict[str, Any]]:
        """What each account's keys say, by its name."""
        if not isinstance(tables, dict):
            self.problem("accounts", "must be tables, one for each account: [accounts.NAME]")
            return {}
        accounts = {name: self.account(name, table) for name, table in tables.items()}
        for name, twin in _twins(accounts):
            self.problem("user", f"is the same user on the same host as account {twin}; one of the two is enough", name)
        return accounts

    def account(self, name: str, table: Any) -> dict[str, Any]:
        if not re.fullmatch(ACCOUNT_NAME, name):
            wanted = "must be 1 to 64 of the letters a to z, digits and . _ @ + - (not . or - at its beginning)"
            self.problem("", f"the name of an account {wanted}", name[:80])
        if not isinstance(table, dict):
            self.problem("", f"must be a table: [accounts.{name[:80]}]", name[:80])
            return {}
        table = dict(table)
        schedule = self.table(table.pop("schedule", {}), Schedule, "schedule", name)
        self.check_auth(name, table)
        keyring = self.keyring(name, table.pop("keyring", None), [key for key in SECRET_SOURCES if key in table])
        values = self.table(table, AccountConfig, "", name)

        for key in ("host", "user"):
            if key not in table:
                self.problem(key, "is missing", name)
        if "client_key" in table and "client_cert" not in table:
            self.problem("client_key", "is of no use without client_cert", name)
        if values.get("tls") in {"starttls", "none"}:
            values.setdefault("port", 143)
        in_the_clear = values.get("tls") == "none" and not values.get("allow_plaintext")
        if in_the_clear and "host" in values and not _is_loopback(values["host"]):
            advice = 'use tls = "implicit" or "starttls" (or set allow_plaintext = true)'
            self.problem("tls", f"would send the password in the clear; {advice}", name)
        if "password_file" in values:
            self.check_password_file(name, values["password_file"])
        if values.get("auth", "password") != "password":
            keyring = None
        return {**values, "name": name, "keyring": keyring, "schedule": Schedule(**schedule)}

    def check_auth(self, name: str, table: Mapping[str, Any]) -> None:
        """A token comes from its command and nothing else does, whatever else is wrong with these keys."""
        auth = table.get("auth", "password")
        if auth == "password" and "token_command" in table:
            self.problem("token_command", 'is for auth = "xoauth2" or "oauthbearer"; a password is kept elsewhere', name)
        if auth not in TOKEN_AUTHS:
            return
        if "token_command" not in table:
            self.problem("token_command", f'is missing: auth = "{auth}" takes its access tokens from there', name)
        for key in SECRET_SOURCES:
            if key in table:
                self.problem(key, f'is for auth = "password"; with "{auth}" there is token_command alone', name)

    def keyring(self, name: str, value: Any, others: list[str]) -> KeyringConfig | None:
        """Where the secret is kept when nothing else says so. A text alone is the backend."""
        given = others if value is None else [*others, "keyring"]
        if len(given) > 1:
            self.problem(given[1], f"only one place of the secret may be given, not {' and '.join(given)}", name)
        if value is None:
            return None if others else KeyringConfig()
        table = {"backend": value} if isinstance(value, str) else value
        return KeyringConfig(**self.table(table, KeyringConfig, "keyring", name))

    def table(self, table: Any, made_of: type, section: str, account: str | None = None) -> dict[str, Any]:
        """The values of one table, key by key: a wrong one is left out and reported."""
        if not isinstance(table, dict):
            self.problem(section, "must be a table", account)
            return {}
        known = forms(made_of)
        values: dict[str, Any] = {}
        for key, value in table.items():
            path = f"{section}.{key}" if section else key
            if key not in known:
                self.unknown(key, known, section, account)
                continue
            try:
                values[key] = self.rooted(known[key].value(value))
            except ValueError as error:
                self.problem(path, str(error), account)
        return values

    def rooted(self, value: Any) -> Any:
        """Paths begin at the file's directory, or at the home directory after ``~/``."""
        if not isinstance(value, Path):
            return value
        if value.parts[:1] == ("~",):
            return _home(self.environment).joinpath(*value.parts[1:])
        return self.path.parent / value

    def unknown(self, key: str, known: Iterable[str], section: str = "", account: str | None = None) -> None:
        """What a key that does not exist was perhaps meant to be."""
        shown = f"{section}.{key[:80]}" if section else key[:80]
        tables = ("schedule", "keyring") if account is not None and not section else ()
        if key in LITERAL_SECRETS:
            message = f"a secret does not belong in this file; use one of {', '.join(SECRET_SOURCES)}, token_command"
        elif key in LATER_KEYS:
            message = NOT_YET
        else:
            message = "there is no such key" + _nearest(key, [*known, *tables])
        self.problem(shown, message, account)

    def check_paths(self, daemon: dict[str, Any], store: dict[str, Any]) -> None:
        """The state, the socket and this file must stay out of the tree of stored items, and out of each other's place."""
        root = os.path.realpath(store["path"])
        places = {"daemon.state": daemon["state"], "daemon.socket": daemon["socket"], "this file": self.path}
        for what, place in places.items():
            if Path(os.path.realpath(place)).is_relative_to(root):
                self.problem("store.path", f"holds {what} as well; give the store a directory of its own")
        if os.path.realpath(daemon["state"]) == os.path.realpath(daemon["socket"]):
            self.problem("daemon.socket", "is the same path as daemon.state")
        if len(os.fsencode(daemon["socket"])) > LONGEST_SOCKET_PATH:
            self.problem("daemon.socket", f"is longer than the {LONGEST_SOCKET_PATH} bytes a socket's path may have")

    def check_format(self, store: Mapping[str, Any]) -> None:
        """What only one of the formats has is not asked of another."""
        stored_as = store.get("format", StoreConfig.format)
        for key, belongs_to in (("layout", "maildir"), ("compression", "eml")):
            if stored_as != belongs_to and store.get(key, getattr(StoreConfig, key)) != getattr(StoreConfig, key):
                self.problem(f"store.{key}", f'is for format = "{belongs_to}"')

    def check_password_file(self, name: str, path: Path) -> None:
        """A password that others can read is no secret. Whether the file is there is seen when it is needed."""
        try:
            status = path.stat()
        except OSError:
            return
        if is_exposed(status):
            self.problem("password_file", f"{path} may be read by others; use 'chmod 600' on it", name)

    def problem(self, key: str, message: str, account: str | None = None) -> None:
        self.problems.append(Problem(account, key, message))


def open_at_once(path: str, flags: int) -> int:
    """An opener that does not wait for somebody to write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def is_exposed(status: os.stat_result) -> bool:
    """Whether somebody besides its owner may read or write the file."""
    return bool(status.st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _twins(accounts: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Pairs of accounts of one identity, the later one first."""
    first: dict[str, str] = {}
    for name, values in accounts.items():
        if "host" in values and "user" in values:
            identity = AccountConfig(**values).identity
            if identity in first:
                yield name, first[identity]
            first.setdefault(identity, name)


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key[:80].lower().replace("-", "_"), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    homes = [path.rpartition(".")[0] for path in known_keys() if path.rpartition(".")[2] == key]
    return f"; it belongs in [{homes[0].replace('*', 'NAME')}]" if homes else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


# --- default places ------------------------------------------------------------------------------------------------


def _default_state(environment: Mapping[str, str]) -> Path:
    service = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    directory = Path(service) if service else _base_directory("XDG_STATE_HOME", ".local/state", environment) / "haul"
    return directory / "haul.db"


def _default_socket(state: Path, environment: Mapping[str, str]) -> Path:
    service = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if service:
        return Path(service) / "haul.sock"
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    directory = Path(runtime) / "haul" if runtime.startswith("/") else state.parent
    return directory / "haul.sock"


def _base_directory(variable: str, below_home: str, environment: Mapping[str, str]) -> Path:
    """A directory of the XDG Base Directory Specification; it asks that relative ones be ignored."""
    named = environment.get(variable, "")
    return Path(named) if named.startswith("/") else _home(environment) / below_home


def _home(environment: Mapping[str, str]) -> Path:
    if environment.get("HOME", "").startswith("/"):
        return Path(environment["HOME"])
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise Fatal(
            "configuration",
            "There is no home directory to look in: $HOME is not set, and this user has no entry in the password database.",
            hint="Set HOME, or name the file with --config and give daemon.state in it.",
            exit_code=Exit.CONFIGURATION,
        ) from error


# --- how values are written ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How one kind of value is written: ``words`` for people, ``wire`` for TOML, ``meaning`` from the one to ours.
    ``meaning`` raises ``ValueError``, without text when ``words`` say enough. ``choices`` are all the values there are, or none
    when they are not a few."""

    words: str
    wire: Any
    meaning: Callable[[Any], Any] = lambda value: value
    choices: tuple[str, ...] = ()

    def value(self, written: Any) -> Any:
        """What was written means, or ``ValueError`` with what to write instead."""
        try:
            return self.meaning(msgspec.convert(written, self.wire))
        except msgspec.ValidationError:
            reason = ""
        except ValueError as error:
            reason = str(error)
        raise ValueError(reason or f"must be {self.words}")


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``1h30m``, ``1d``, ``0.5s``: days, hours, minutes, seconds, each at most once. Raises
    ``ValueError`` for anything else, for nothing and for more than a year."""
    match = re.fullmatch(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,3})?)s)?", text, re.ASCII)
    if match is None:
        raise ValueError
    seconds = sum(float(amount or 0) * unit for amount, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
    if not 0 < seconds <= 366 * 86400:
        raise ValueError
    return seconds


def parse_size(text: str) -> int:
    """Bytes of ``16 MiB``, ``25 MB``, ``1.5GiB``, ``512 B``; powers of 1024 with an i, of 1000 without. Raises
    ``ValueError`` for anything else and for nothing."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) ?(?:([kmgt])(i?))?b", text.lower(), re.ASCII)
    if match is None:
        raise ValueError
    amount, prefix, binary = match.groups()
    size = int(Decimal(amount) * (1024 if binary else 1000) ** (" kmgt".index(prefix or " ")))
    if not 0 < size < 2**63:
        raise ValueError
    return size


def _size_or_none(text: str) -> int | None:
    return None if text == "none" else parse_size(text)


def _size_or_nothing(text: str) -> int:
    return 0 if text == "none" else parse_size(text)


def _mode(text: str) -> int:
    mode = int(text, 8)
    if mode & 0o600 != 0o600 or mode & 0o113:
        raise ValueError("must let the owner read and write, nobody execute, and others not write")
    return mode


def _location(text: str) -> Path:
    if re.match("~[^/]", text):
        raise ValueError("write the home directory of another user in full")
    return Path(text)


def _host(text: str) -> str:
    if ":" in text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError("must be the name alone; the port has a key of its own, 'port'") from None
    return text


def _backend(text: str) -> str:
    if text.startswith(("keyring.backends.null.", "keyring.backends.fail.")):
        raise ValueError("this backend keeps nothing; name one that does")
    return text


def number(least: int, most: int) -> Form:
    """Whole numbers in a range, its ends included."""
    return Form(f"a whole number from {least} to {most}, without quotes", Annotated[int, msgspec.Meta(ge=least, le=most)])


def one_of(*choices: str, later: Sequence[str] = ()) -> Form:
    """One of these words. Those for later versions are known, so that nobody takes them for typing errors."""
    words = " or ".join(f'"{choice}"' for choice in choices)

    def meaning(text: str) -> str:
        if text in later:
            raise ValueError(f'"{text}" {NOT_YET}; use {words}')
        if text not in choices:
            raise ValueError
        return text

    return Form(words, str, meaning, choices)


def forms(made_of: type) -> dict[str, Form]:
    """The keys of a table: its annotated fields."""
    hints = get_type_hints(made_of, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items() if get_origin(hint) is Annotated}


NOT_YET = "is not available in this version"
ACCOUNT_NAME = r"[A-Za-z0-9_@+][A-Za-z0-9._@+-]{0,63}"

_LINE = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]+\Z", max_length=1024)]
_ARGUMENT = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*\Z")]

TEXT = Form("a text in quotes", _LINE)
SWITCH = Form("true or false, without quotes", bool)
DURATION = Form('a duration such as "90s", "15m", "1h30m" or "1d"', str, parse_duration)
SIZE = Form('a size such as "16 MiB" or "25 MB"', str, parse_size)
SIZE_OR_NONE = Form('a size such as "16 MiB" or "25 MB", or "none"', str, _size_or_none)
SIZE_OR_NOTHING = Form('a size such as "64 MiB" or "1 GB", or "none"', str, _size_or_nothing)
MODE = Form('a file mode in quotes such as "0640"', Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3}\Z")], _mode)
LOCATION = Form("a path in quotes", _LINE, _location)
HOST = Form(
    'the name or address of a server such as "imap.example.org", without user, port or path',
    Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]+\Z", max_length=253)],
    _host,
)
COMMAND = Form(
    'a list with the program and its arguments such as ["pass", "show", "mail/work"]',
    Annotated[list[_ARGUMENT], msgspec.Meta(min_length=1)],
    tuple,
)
CREDENTIAL = Form(
    "the name of a systemd credential: letters, digits and . _ - (not . at its beginning)",
    Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}\Z")],
)
BACKEND = Form(
    'the Python class of a keyring backend such as "keyring.backends.SecretService.Keyring"',
    Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\Z")],
    _backend,
)
GLOBS = Form('a list of folder names or globs such as ["Trash", "Lists/*"]', list[_LINE], tuple)
SOME_GLOBS = Form(
    'a list of at least one folder name or glob such as ["INBOX", "Projects/*"]',
    Annotated[list[_LINE], msgspec.Meta(min_length=1)],
    tuple,
)
