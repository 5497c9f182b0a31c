"""A private Dovecot: the real server that tests import from, on loopback, gone when they are done.

It runs entirely as one ordinary user: the one who runs the tests, or ``nobody`` when that is root, because Dovecot's login
refuses to be root. It comes from the system (``apt-get install dovecot-imapd``) or from a tree that ``provide-dovecot`` beside
this file made without installing anything. ``tests/conftest.py`` offers it as the fixtures ``dovecot`` and ``mail_user``.

Messages get in fast through ``fill``, which writes files into Dovecot's own Maildirs, and come out through ``read_all``, which
shares no code with haul.
"""

from __future__ import annotations

import grp
import hashlib
import imaplib
import itertools
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import utf7

REPOSITORY = Path(__file__).resolve().parents[2]
UNPACKED = REPOSITORY / "build" / "dovecot"
PATIENCE = 20.0
"""Seconds until a server that did not start, stop or answer is a failure."""
FIRST_DATE = 1_767_225_600
"""INTERNALDATE of the first message of every mailbox that ``fill`` fills (2026-01-01 UTC); each next one is a minute later."""


class NoDovecot(RuntimeError):
    """There is no Dovecot on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "The tests need Dovecot, and there is none. As root: apt-get install dovecot-imapd. "
            "Else: tests/support/provide-dovecot, which unpacks it into build/dovecot and installs nothing. "
            "`make test` does either."
        )


@dataclass(frozen=True)
class User:
    """An account on the server."""

    name: str
    password: str


@dataclass(frozen=True)
class Installation:
    """Where Dovecot's files are: below ``/``, or below the root of an unpacked tree."""

    root: Path

    @classmethod
    def find(cls) -> Installation:
        """The tree that ``$HAUL_DOVECOT_ROOT`` names, else the system's, else the one in ``build/dovecot``."""
        named = os.environ.get("HAUL_DOVECOT_ROOT")
        for root in [Path(named).resolve()] if named else [Path("/"), UNPACKED]:
            installation = cls(root)
            if installation.server.exists() and (installation.libexec / "imap").exists():
                return installation
        raise NoDovecot

    @property
    def libexec(self) -> Path:
        return self.root / "usr/lib/dovecot"

    @property
    def server(self) -> Path:
        return self.root / "usr/sbin/dovecot"

    def command(self, service: str, program: str, configuration: Path, *arguments: str) -> list[str | Path]:
        """How to run a program: by way of ``doveconf``, as each does by itself where it was built to be."""
        reading = [self.root / "usr/bin/doveconf", "-f", f"service={service}", "-c", configuration, "-m", service]
        return [*reading, "-e", self.root / "usr" / program, "-c", configuration, *arguments]

    def environment(self) -> dict[str, str]:
        """What its programs need to find their libraries."""
        variables = {"PATH": os.environ.get("PATH", os.defpath)}
        if self.root != Path("/"):
            libraries = [
                self.libexec,
                self.libexec / "modules",
                self.libexec / "modules" / "old-stats",
                *self.root.glob("usr/lib/*-linux-gnu*"),
                *self.root.glob("lib/*-linux-gnu*"),
            ]
            variables["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        return variables

    def openssl(self) -> str:
        """The program that makes certificates; Dovecot's package depends on it."""
        return shutil.which("openssl") or str(self.root / "usr/bin/openssl")


class Dovecot:
    """One server with its own users, ports and mail, below a directory that the user it runs as can reach."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, installation: Installation | None = None) -> None:
        self.directory = directory
        self.installation = installation or Installation.find()
        self.owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.port = 0
        self.tls_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    # --- its life ---

    def start(self) -> Dovecot:
        """Serve; ``port`` and ``tls_port`` are known and answer when this returns. Keeps users and mail of an earlier start."""
        for name in ("run", "state", "mail", "tls", "users"):
            self._make_directory(self.directory / name)
        self._link_modules()
        if not self.certificate.exists():
            self._make_certificate()
        self.port, self.tls_port = _free_ports(2)
        self._write(self._configuration, self._configuration_text())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.installation.command("master", "sbin/dovecot", self._configuration, "-F"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_owner(),
            )
        for port in (self.port, self.tls_port):
            self._wait_for_greeting(port)
        return self

    def stop(self) -> None:
        """End the server; mail and log stay."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def __enter__(self) -> Dovecot:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- users and mail ---

    @property
    def certificate(self) -> Path:
        """The self-signed certificate of the TLS port, for ``localhost`` and ``127.0.0.1``; also what verifies it."""
        return self.directory / "tls" / "certificate.pem"

    def add_user(self, name: str | None = None, password: str | None = None) -> User:
        """A user with an empty INBOX. Without arguments a new one, with a name and a password that want quoting."""
        number = next(self._numbers)
        user = User(name or f"müller {number}", password or f'p"w\\d {{{number}}} ä:%')
        secret = b64encode(user.password.encode()).decode()
        # a file for each user: Dovecot looks at most once a second whether one that it knows has changed
        self._write(self.directory / "users" / user.name, f"{user.name}:{{PLAIN.B64}}{secret}::::::\n")
        return user

    def account(self, user: User, /, **keys: object) -> dict[str, object]:
        """The user's account as hauld's configuration has it, over TLS unless ``keys`` say otherwise."""
        place = {"host": self.host, "port": self.tls_port, "ca_file": str(self.certificate)}
        if keys.get("tls") == "none":
            place = {"host": self.host, "port": self.port}
        return {**place, "user": user.name, "password": user.password, **keys}

    def fill(self, user: User, mailbox: str, messages: Iterable[bytes], *, flags: str = "") -> int:
        """Put messages at the end of a mailbox, made when new, and return how many. ``flags`` are Maildir letters (``"FS"``).

        Messages are served exactly as given when all their lines end in CRLF; Dovecot adds what is missing. They have the
        next UIDs, in this order, when this returns. Writing files takes a fraction of what APPEND takes.
        """
        directory = self.maildir(user, mailbox)
        for part in ("new", "tmp", "cur"):
            self._make_directory(directory / part)
        first = len(os.listdir(directory / "cur"))
        count = 0
        for count, message in enumerate(messages, start=1):
            number = first + count - 1
            virtual_size = len(message) + message.count(b"\n") - message.count(b"\r\n")
            date = FIRST_DATE + 60 * number
            path = directory / "cur" / f"{date}.N{next(self._numbers):08}.testbed,S={len(message)},W={virtual_size}:2,{flags}"
            path.write_bytes(message)
            os.utime(path, (date, date))
        with self.client(user) as client:
            _ok(client.select(_quoted(mailbox)))  # has Dovecot look
        return count

    def maildir(self, user: User, mailbox: str = "INBOX") -> Path:
        """Where Dovecot keeps a mailbox; its files are Dovecot's business, but for tests that damage them."""
        return self.directory.joinpath("mail", user.name, "Maildir", *mailbox.split("/"))

    def append(self, user: User, mailbox: str, message: bytes) -> None:
        """Deliver one message the slow and proper way, so that sessions that watch are told."""
        with self.client(user) as client:
            _ok(client.append(_quoted(mailbox), "", "", message))

    def read_all(self, user: User) -> dict[str, dict[int, str]]:
        """What the server holds: for every mailbox its messages' SHA-256 by UID, read by a client that is not haul."""
        with self.client(user) as client:
            return {name: _read_mailbox(client, name) for name in _mailboxes(client)}

    @contextmanager
    def client(self, user: User) -> Iterator[imaplib.IMAP4]:
        """A signed-in imaplib client."""
        with imaplib.IMAP4(self.host, self.port, timeout=PATIENCE) as client:
            # AUTHENTICATE, because imaplib's LOGIN sends names in ASCII only
            _ok(client.authenticate("PLAIN", lambda _: f"\0{user.name}\0{user.password}".encode()))
            yield client

    def admin(self, *arguments: str) -> str:
        """Run ``doveadm`` on this server: ``admin("mailbox", "update", "-u", user.name, "--uid-validity", "7", "INBOX")``."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            self.installation.command("doveadm", "bin/doveadm", self._configuration, *arguments),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            **self._as_owner(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"doveadm {' '.join(arguments)} failed with exit code {done.returncode}: {done.stderr}")
        return done.stdout

    # --- what it saw ---

    def log(self) -> str:
        """Everything the server has logged."""
        return self._log.read_text("utf-8", "replace")

    def bodies_fetched(self, user: User) -> int:
        """How many bodies the user's sessions have fetched. Dovecot tells at the end of each: waits until all have ended."""
        marker = self.add_user()
        with self.client(marker):
            pass  # once its lines are in the log, those of every session that began before are, too
        deadline = time.monotonic() + PATIENCE
        while True:
            log = self.log()
            begun, ended = _sessions(log, user)
            if _sessions(log, marker) == (1, [0]) and begun == len(ended):
                return sum(ended)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{begun - len(ended)} sessions of {user.name} have not ended.")
            time.sleep(0.01)

    def bytes_sent(self, user: User) -> int:
        """What the server says it has sent to the user in all, once all sessions have ended."""
        self.bodies_fetched(user)  # waits for their ends
        return sum(map(int, re.findall(rf"imap\({re.escape(user.name)}\).* out=(\d+)", self.log())))

    # --- inside ---

    @property
    def _configuration(self) -> Path:
        return self.directory / "dovecot.conf"

    @property
    def _log(self) -> Path:
        return self.directory / "dovecot.log"

    def _as_owner(self) -> dict[str, Any]:
        """How ``subprocess`` runs a program of Dovecot's."""
        options: dict[str, Any] = {"env": self.installation.environment(), "cwd": self.directory}
        if os.geteuid() == 0:
            options |= {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}
        return options

    def _make_directory(self, directory: Path) -> None:
        """Make it and what is above it, within our own, Dovecot's: it renames and removes in them, so the files need not be."""
        missing = []
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for path in reversed(missing):
            path.mkdir(mode=0o755)
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def _link_modules(self) -> None:
        """Where an unpacked Dovecot looks for the module that speaks TLS: below the directory that its processes run in."""
        link = self.directory / "run" / "modules"
        link.unlink(missing_ok=True)
        link.symlink_to(self.installation.libexec / "modules")

    def _make_certificate(self) -> None:
        key = self.directory / "tls" / "key.pem"
        subprocess.run(
            [
                *(self.installation.openssl(), "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=localhost"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", key, "-out", self.certificate),
            ],
            check=True,
            capture_output=True,
            env=self.installation.environment(),
        )
        os.chown(key, self.owner.pw_uid, self.owner.pw_gid)

    def _configuration_text(self) -> str:
        owner, group = self.owner.pw_name, _group_name(self.owner.pw_gid)
        here, libexec = self.directory, self.installation.libexec
        return f"""\
base_dir = {here}/run
state_dir = {here}/state
libexec_dir = {libexec}
mail_plugin_dir = {libexec}/modules
login_plugin_dir = {libexec}/modules/login
import_environment = $import_environment LD_LIBRARY_PATH
log_path = /dev/stderr
protocols = imap
listen = {self.host}
ssl = yes
ssl_cert = <{self.certificate}
ssl_key = <{here}/tls/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_chars =
auth_username_format = %u
auth_verbose = yes
auth_failure_delay = 0
default_internal_user = {owner}
default_internal_group = {group}
default_login_user = {owner}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/Maildir:LAYOUT=fs:UTF-8:INBOX=~/Maildir/INBOX
mail_fsync = never
# where inotify has no instance left for it, as on a busy machine, it looks this often instead, and not every 30 s
mailbox_idle_check_interval = 1 secs
mail_plugins = zlib
mail_max_userip_connections = 100
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {here}/users/%u
}}
userdb {{
  driver = static
  args = uid={self.owner.pw_uid} gid={self.owner.pw_gid} home={here}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    special_use = \\Drafts
  }}
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Trash {{
    special_use = \\Trash
  }}
  mailbox Junk {{
    special_use = \\Junk
  }}
  mailbox Archive {{
    special_use = \\Archive
  }}
}}
protocol imap {{
  mail_plugins = $mail_plugins imap_zlib
}}
service anvil {{
  chroot =
  # no delay for those who share an address with somebody who gave a wrong password: here all do
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  service_count = 0
  inet_listener imap {{
    address = {self.host}
    port = {self.port}
  }}
  inet_listener imaps {{
    address = {self.host}
    port = {self.tls_port}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 1024
}}
"""

    def _wait_for_greeting(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with socket.create_connection((self.host, port), timeout=PATIENCE) as connection:
                    if port == self.port or self._handshake(connection):
                        return
            except OSError as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"Dovecot does not answer on port {port}. Its log says:\n{self.log()}") from error
                time.sleep(0.02)

    def _handshake(self, connection: socket.socket) -> bool:
        context = ssl.create_default_context(cafile=self.certificate)
        with context.wrap_socket(connection, server_hostname="localhost") as secured:
            return secured.recv(4).startswith(b"* OK")


@contextmanager
def private_dovecot() -> Iterator[Dovecot]:
    """A running Dovecot in a directory of its own, removed afterwards. Not below pytest's, which only their owner may enter."""
    with tempfile.TemporaryDirectory(prefix="haul-dovecot-", ignore_cleanup_errors=True) as parent:
        Path(parent).chmod(0o755)
        with Dovecot(Path(parent, "server")) as server:
            yield server


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _sessions(log: str, user: User) -> tuple[int, list[int]]:
    """How many sessions of the user the log says have begun, and of each that has ended how many bodies it fetched."""
    name = re.escape(user.name)
    begun = re.findall(rf"imap-login: Info: Login: user=<{name}>", log)
    ended = re.findall(rf"imap\({name}\).*\bbody_count=(\d+)", log)
    return len(begun), [int(bodies) for bodies in ended]


def _group_name(number: int) -> str:
    return grp.getgrgid(number).gr_name


# --- reading by imaplib --------------------------------------------------------------------------------------------

_LISTED = re.compile(rb'\((?P<flags>[^)]*)\) (?:"[^"]*"|NIL) (?P<name>.*)', re.DOTALL)
_ANSWERED = re.compile(rb"\d+ \(UID (?P<uid>\d+) BODY\[\] \{\d+\}")


def _ok(answer: tuple[str, Any]) -> Any:
    status, data = answer
    if status != "OK":
        raise RuntimeError(f"The server answered {status}: {data}")
    return data


def _quoted(mailbox: str) -> str:
    name = utf7.encode(mailbox).decode("ascii")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _mailboxes(client: imaplib.IMAP4) -> Iterator[str]:
    for entry in _ok(client.list()):
        # a name that holds odd characters comes as a literal: imaplib then gives the line and the name apart
        line, literal = entry if isinstance(entry, tuple) else (entry, None)
        if line is None or line == b"":
            continue
        match = _LISTED.match(line)
        if match is None:
            raise RuntimeError(f"Unexpected answer to LIST: {entry!r}")
        if b"\\noselect" in match["flags"].lower() or b"\\nonexistent" in match["flags"].lower():
            continue
        name = literal if literal is not None else match["name"]
        if literal is None and name.startswith(b'"'):
            name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
        yield utf7.decode(name)


def _read_mailbox(client: imaplib.IMAP4, mailbox: str) -> dict[int, str]:
    _ok(client.select(_quoted(mailbox), readonly=True))
    found: dict[int, str] = {}
    for entry in _ok(client.uid("FETCH", "1:*", "(UID BODY.PEEK[])")):
        if not isinstance(entry, tuple):
            continue
        head, body = entry
        match = _ANSWERED.match(head)
        if match is None:
            raise RuntimeError(f"Unexpected answer to FETCH: {head!r}")
        found[int(match["uid"])] = hashlib.sha256(body).hexdigest()
    return found
