"""From tables to values: the files of a configuration checked whole, key by key."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from haulapi import calls
from hauld.config.files import ACCOUNTS_DIRECTORY, account_files, is_exposed, tables
from hauld.config.forms import ACCOUNT_NAME, forms
from hauld.config.keys import (
    LITERAL_SECRETS,
    SECRET_SOURCES,
    TOKEN_AUTHS,
    AccountConfig,
    Config,
    DaemonConfig,
    KeyringConfig,
    MirrorConfig,
    RetryConfig,
    Schedule,
    StoreConfig,
    known_keys,
)
from hauld.config.places import default_socket, default_state, home
from hauld.config.problems import ConfigurationError, Problem
from hauld.engine.strategies import accepted
from hauld.errors import Refused
from hauld.model import Strategy

LONGEST_SOCKET_PATH = 99
"""Bytes: the 107 that fit into the address of a Unix socket (unix(7)), less what its name is longer while it is made."""

TABLES_OF_THE_MAIN_FILE = ("daemon", "store", "retry", "accounts")
ONLY_ACCOUNTS = f"a file in {ACCOUNTS_DIRECTORY} holds accounts and nothing else"


class Reading:
    """The files of a configuration while they are read: which one it is just now, and all that was found wrong so far."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.problems: list[Problem] = []
        self._file = path

    def config(self) -> Config | None:
        """What the files say; None when something is wrong with any of them."""
        main = self.tables(self.path)
        shared = self.shared(main) if main is not None else None
        accounts = self.accounts(main.get("accounts", {})) if main is not None else {}
        for file in self.account_files():
            self._file = file
            self.more_accounts(self.tables(file) or {}, accounts)
        self._file = self.path
        self.check_twins(accounts)
        if shared is None or self.problems:
            return None
        values = {name: AccountConfig(**values) for name, values in accounts.items()}
        return Config(path=self.path, accounts=MappingProxyType(values), **shared)

    def tables(self, file: Path) -> dict[str, Any] | None:
        """The tables of a file; None where it cannot be used."""
        try:
            return tables(file)
        except ConfigurationError as error:
            self.problems += error.problems
            return None

    def account_files(self) -> list[Path]:
        try:
            return account_files(self.path.parent / ACCOUNTS_DIRECTORY)
        except ConfigurationError as error:
            self.problems += error.problems
            return []

    def shared(self, main: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the accounts share; None when something is wrong with it."""
        daemon = self.table(main.get("daemon", {}), DaemonConfig, "daemon")
        store = self.table(main.get("store", {}), StoreConfig, "store")
        retry = self.table(main.get("retry", {}), RetryConfig, "retry")
        for key in main:
            if key not in TABLES_OF_THE_MAIN_FILE:
                self.unknown(key, TABLES_OF_THE_MAIN_FILE)

        if "state" not in daemon:
            daemon["state"] = default_state(self.environment)
        daemon.setdefault("socket", default_socket(daemon["state"], self.environment))
        store.setdefault("path", daemon["state"].parent / "mail")
        self.check_paths(daemon, store)
        self.check_format(store)
        if retry.get("initial", RetryConfig.initial) > retry.get("max", RetryConfig.max):
            self.problem("retry.initial", "must not be longer than retry.max")
        if self.problems:
            return None
        return {"daemon": DaemonConfig(**daemon), "store": StoreConfig(**store), "retry": RetryConfig(**retry)}

    def accounts(self, tables: Any) -> dict[str, dict[str, Any]]:
        """What each account's keys say, by its name."""
        if not isinstance(tables, dict):
            self.problem("accounts", "must be tables, one for each account: [accounts.NAME]")
            return {}
        return {name: self.account(name, table) for name, table in tables.items()}

    def more_accounts(self, tables: Mapping[str, Any], accounts: dict[str, dict[str, Any]]) -> None:
        """Add those of a file beside the main one, which holds nothing else."""
        for name, values in self.accounts(tables.get("accounts", {})).items():
            if name in accounts:
                self.problem(
                    "", f"is in {accounts[name].get('file') or self.path}, too; one of the two needs another name", name
                )
            else:
                accounts[name] = values | {"file": self._file}
        for key in tables:
            if key in TABLES_OF_THE_MAIN_FILE and key != "accounts":
                self.problem(key, f"belongs in {self.path.name}: {ONLY_ACCOUNTS}")
            elif key != "accounts":
                self.problem(key[:80], f"{ONLY_ACCOUNTS}, each as [accounts.NAME]")

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
        mirror = self.mirror(name, table.pop("mirror", None))
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
        return {**values, "name": name, "keyring": keyring, "mirror": mirror, "schedule": Schedule(**schedule)}

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

    def mirror(self, name: str, value: Any) -> Strategy | None:
        """The strategy of the account's own job; None where it has none, or where something is wrong with it."""
        if value is None:
            return None
        before = len(self.problems)
        values = self.table({"kind": value} if isinstance(value, str) else value, MirrorConfig, "mirror", name)
        if len(self.problems) > before:
            return None
        try:
            return accepted(msgspec.convert(values, calls.WantedStrategy))
        except Refused as refused:
            self.problem("mirror", refused.message, name)
            return None

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
            return home(self.environment).joinpath(*value.parts[1:])
        return self._file.parent / value

    def unknown(self, key: str, known: Iterable[str], section: str = "", account: str | None = None) -> None:
        """What a key that does not exist was perhaps meant to be."""
        shown = f"{section}.{key[:80]}" if section else key[:80]
        tables = ("schedule", "keyring", "mirror") if account is not None and not section else ()
        if key in LITERAL_SECRETS:
            message = f"a secret does not belong in this file; use one of {', '.join(SECRET_SOURCES)}, token_command"
        else:
            message = "there is no such key" + _nearest(key, [*known, *tables])
        self.problem(shown, message, account)

    def check_twins(self, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        """One identity is one account."""
        for name, twin in _twins(accounts):
            message = f"is the same user on the same host as account {twin}; one of the two is enough"
            self.problem("user", message, name, accounts[name].get("file"))

    def check_paths(self, daemon: dict[str, Any], store: dict[str, Any]) -> None:
        """The state, the socket and these files must stay out of the tree of stored items, and out of each other's place."""
        root = os.path.realpath(store["path"])
        places = {"daemon.state": daemon["state"], "daemon.socket": daemon["socket"], "this file": self.path}
        directory = self.path.parent / ACCOUNTS_DIRECTORY
        if directory.exists():
            places[ACCOUNTS_DIRECTORY] = directory
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

    def problem(self, key: str, message: str, account: str | None = None, file: Path | None = None) -> None:
        """Note what is wrong, in the file that is read just now unless another is named."""
        file = file or self._file
        self.problems.append(Problem(account, key, message, None if file == self.path else file))


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
