"""Forty planted secrets on every way to an error, and then a search for them in all that a person, a program or a disk gets to
see (G7).

Each secret has a core of sixteen letters and digits, which no way of quoting changes, among characters that are quoted, or
should be. Found is whatever holds half of a core, in whatever case, or a core in base64 at any of its three alignments.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.beside import beside
from support.daemon import SCRIPTS, Hauld
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

PATIENCE = 30.0
"""Seconds until something that does not happen is a failure."""

# --- the secrets ---------------------------------------------------------------------------------------------------

PLAIN_SHAPES = (
    "CORE",
    "%s%d%nCORE",
    "{}CORE{0}{name}",
    "$(id)CORE`id`",
    "a/b?c=d&CORE#e@f:g",
    "CORE%2F%40",
    "QUFBCOREQUFB==",
    '{"access_token":"CORE"}',
    '"CORE"',
    "\\CORE\\",
    "-CORE",
    "../CORE",
    "x" * 92 + "CORE" + "y" * 92,
)
"""Of printable ASCII without blanks, as access tokens are. ``CORE`` is the core."""

ODD_SHAPES = (
    "'CORE'",
    "  CORE ",
    "CORE with blanks in it",
    "pä CORE ß",
    "日本CORE語",
    "\U0001f600CORE",
    "\tCORE\x01\x1b[31m",
    "\u202eCORE",
    "\u00a0CORE",
    "e\u0301CORE",
    "\\nCORE\\r\\x00",
    "CORE{17}",
    "(CORE)*",
    "* BYE CORE",
    "[ALERT] CORE",
    "password CORE",
    "}]CORE\",'",
    "--CORE=",
    "; DROP TABLE jobs; --CORE",
    "&amp;CORE<b>",
)


class Secrets:
    """Secrets that are different each, of one shape after the other. ``cores`` are those of all that were given."""

    def __init__(self) -> None:
        self.cores: list[str] = []
        self._dice = random.Random("planted")
        self._plain = self._each(PLAIN_SHAPES)
        self._any = self._each((*ODD_SHAPES, *PLAIN_SHAPES))

    def password(self) -> str:
        return next(self._any)

    def token(self) -> str:
        return next(self._plain)

    def _each(self, shapes: tuple[str, ...]) -> Iterator[str]:
        while True:
            for shape in shapes:
                core = "".join(self._dice.choices("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=16))
                self.cores.append(core)
                yield shape.replace("CORE", core)

    def found_in(self, content: bytes) -> list[str]:
        """The cores of which there is anything in the content."""
        lower = content.lower()
        return [
            core
            for core in self.cores
            if core[:8].lower().encode() in lower
            or core[8:].lower().encode() in lower
            or any(map(content.__contains__, _coded(core)))
        ]


def _coded(core: str) -> Iterator[bytes]:
    """What base64 makes of the core, wherever in a text it is; less what depends on its neighbours."""
    for before in range(3):
        whole = base64.b64encode(b"x" * before + core.encode())
        yield whole[4 if before else 0 : -4]


# --- servers that repeat what they are told ------------------------------------------------------------------------

Lie = Callable[[Client, Command, bytes], Awaitable[None]]
"""Answers the command that brings a secret, which is the last argument."""

PLAIN = b"IMAP4rev1 AUTH=PLAIN SASL-IR"
IN_TWO = b"IMAP4rev1 AUTH=PLAIN"
LOGIN = b"IMAP4rev1"
TOKENS = b"IMAP4rev1 AUTH=XOAUTH2 AUTH=OAUTHBEARER SASL-IR"


def repeating(capabilities: bytes, lie: Lie) -> Honest:
    """A server with that answer to each signing in."""
    honest = Honest(capabilities=capabilities)

    @honest.instead_of("AUTHENTICATE")
    async def authenticate(client: Client, command: Command) -> None:
        mechanism, _, answer = command.arguments.partition(b" ")
        if not answer:
            await client.send(b"+ \r\n")
            answer = await client.line()
        said = base64.b64decode(answer)
        secret = said.split(b"\0")[2] if mechanism == b"PLAIN" else said.partition(b"auth=Bearer ")[2].rstrip(b"\1")
        await lie(client, Command(command.tag, command.line + b" " + answer), secret)

    @honest.instead_of("LOGIN")
    async def login(client: Client, command: Command) -> None:
        await lie(client, command, command.arguments.partition(b" ")[2])

    return honest


async def says_no(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.no(b"[AUTHENTICATIONFAILED] repeated " + secret + b" of " + command.line))


async def says_bad(client: Client, command: Command, secret: bytes) -> None:
    await client.send(b"* BAD repeated " + secret + b"\r\n", command.bad(b"repeated " + command.line))


async def cuts_off(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.no(b"repeated " + command.line[: len(command.line) * 3 // 4]))


async def makes_a_code_of_it(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.no(b"[" + secret.strip().partition(b" ")[0] + b"] repeated"))


async def takes_its_leave(client: Client, command: Command, secret: bytes) -> None:
    await client.send(b"* BYE repeated " + secret + b" of " + command.line + b"\r\n")


async def takes_its_leave_at_length(client: Client, command: Command, secret: bytes) -> None:
    await client.send(b"* BYE repeated " + b"." * (285 - len(secret) // 2) + secret + b"\r\n")


async def talks_nonsense(client: Client, command: Command, secret: bytes) -> None:
    await client.send(secret.strip() + b"\r\n")


async def answers_another(client: Client, command: Command, secret: bytes) -> None:
    await client.send(secret.translate(None, b" *") + b" OK done\r\n")


async def hangs_up(client: Client, command: Command, secret: bytes) -> None:
    await client.reset()


async def is_not_there(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.no(b"[UNAVAILABLE] repeated " + secret))


async def is_busy(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.no(b"Too many simultaneous connections, repeated " + secret))


async def lets_in_and_throws_out(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.ok(), b"* BYE repeated " + secret + b"\r\n")


async def reports(client: Client, command: Command, secret: bytes) -> None:
    report = json.dumps({"status": "401 " + secret.decode(), "scope": f"repeated {secret.decode()}"}).encode()
    await client.send(b"+ " + base64.b64encode(report) + b"\r\n")
    await client.line()
    await client.send(command.no(b"repeated " + secret))


async def is_good(client: Client, command: Command, secret: bytes) -> None:
    await client.send(command.ok())


PASSWORDS: dict[str, tuple[bytes, Lie]] = {
    "no": (PLAIN, says_no),
    "no-in-two": (IN_TWO, says_no),
    "no-to-login": (LOGIN, says_no),
    "bad": (PLAIN, says_bad),
    "bad-to-login": (LOGIN, says_bad),
    "cut-off": (PLAIN, cuts_off),
    "cut-off-login": (LOGIN, cuts_off),
    "code": (PLAIN, makes_a_code_of_it),
    "bye": (PLAIN, takes_its_leave),
    "bye-in-two": (IN_TWO, takes_its_leave),
    "bye-to-login": (LOGIN, takes_its_leave),
    "long-bye": (PLAIN, takes_its_leave_at_length),
    "nonsense": (PLAIN, talks_nonsense),
    "another": (IN_TWO, answers_another),
    "hangs-up": (PLAIN, hangs_up),
    "unavailable": (PLAIN, is_not_there),
    "busy": (PLAIN, is_busy),
    "thrown-out": (PLAIN, lets_in_and_throws_out),
    "defect": (PLAIN, is_good),
    "good": (PLAIN, is_good),
}
"""Accounts with a password in a file, and what their servers do."""

BEARERS: dict[str, tuple[str, Lie]] = {
    "token-no": ("xoauth2", says_no),
    "token-report": ("xoauth2", reports),
    "bearer-report": ("oauthbearer", reports),
    "bearer-bye": ("oauthbearer", takes_its_leave),
    "token-good": ("xoauth2", is_good),
}
"""Accounts with a token command, and what their servers do."""

COMMANDS: dict[str, str] = {
    "prints-and-fails": "cat SECRET; exit 1",
    "complains-and-fails": "cat SECRET >&2; exit 1",
    "prints-json": """printf '{"error": "invalid", "token": "%s"}' "$(cat SECRET)" >&2; exit 3""",
    "prints-too-much": "while :; do cat SECRET; done",
    "is-killed": "cat SECRET; cat SECRET >&2; kill -9 $$",
    "prints-binary": r"cat SECRET; printf '\377'",
}
"""Accounts with a password command that does this; ``SECRET`` is a file with the secret."""

TOKEN_COMMANDS: dict[str, str] = {
    "token-later": "cat SECRET >&2; exit 75",
    "token-is-json": """printf '{"error": "invalid token %s"}' "$(cat SECRET)" """,
}

MIRRORED = (
    "good",
    "no",
    "no-to-login",
    "bye",
    "cut-off",
    "unavailable",
    "token-report",
    "prints-json",
    "in-two-lines",
    "defect",
)
"""The accounts with a job, whose errors go into the ledger and its events."""

BROKEN_FILES = (
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\npassword = QUOTED\n",
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\nrefresh_token = QUOTED\n",
    "[accounts.NAME]\nhost = QUOTED_URL\nuser = 'u'\n",
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\npassword_command = QUOTED\n",
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\npassword = BARE\n",
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\nkeyring = { password = QUOTED }\n",
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\ntls = QUOTED\nport = QUOTED\nconnections = QUOTED\n",
    "[accounts.NAME]\nhost = 'h'\nuser = 'u'\nkeyring = { backend = QUOTED }\nauth = QUOTED\n",
)
"""Files of accounts that cannot be used, with a secret in the wrong place."""

DEFECTIVE = """
import runpy, sys
from hauld.sources.imap import signin
first = signin._first

def broken(connection, response):
    return 1 / (b"defect" not in response) and first(connection, response)

signin._first = broken
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs hauld with a defect in signing in."""


# --- the daemon and what is seen of it -----------------------------------------------------------------------------


@dataclass
class Site:
    """A daemon with all these accounts, and whatever was seen of it, by where that was."""

    hauld: Hauld
    secrets: Secrets
    seen: dict[str, bytes] = field(default_factory=dict)

    def note(self, where: str, content: str | bytes) -> None:
        """Remember what somebody gets to see; JSON also as it reads once it was decoded."""
        raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
        self.seen[where] = self.seen.get(where, b"") + raw + b"\n"

    def call(self, method: str, **params: Any) -> Any:
        """A call whose answer, or error, is remembered."""
        try:
            answer = self.hauld.call(method, **params)
        except RuntimeError as error:
            answer = error.args[0]
        self.note(f"the answer to {method}", json.dumps(answer, ensure_ascii=False))
        return answer

    def haulctl(self, *arguments: str) -> None:
        ended = self.hauld.haulctl(*arguments)
        self.note(f"haulctl {' '.join(arguments)}", ended.stdout + ended.stderr)

    def check_config(self) -> None:
        for command in ("check-config", "doctor"):
            program = [SCRIPTS / "hauld", command, "--config", self.hauld.config]
            ended = subprocess.run(program, capture_output=True, check=False)
            assert ended.returncode == 78
            self.note(f"hauld {command}", ended.stdout + ended.stderr)

    def processes(self) -> None:
        """The arguments and the environment of the daemon and of whatever it has started."""
        for process in _family(self.hauld.pid):
            with contextlib.suppress(OSError):  # it has ended
                for what in ("cmdline", "environ"):
                    self.note(f"the {what} of a process", (process / what).read_bytes())

    def files(self) -> None:
        """Everything on disk but what holds the secrets for hauld to read."""
        for path in self.hauld.directory.rglob("*"):
            if path.is_file() and path.suffix not in (".password", ".secret", ".toml"):
                self.note(f"the file {path.name}", path.read_bytes())


def _family(pid: int) -> Iterator[Path]:
    yield Path(f"/proc/{pid}")
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


@asynccontextmanager
async def servers() -> AsyncIterator[Mapping[str, ScriptedServer]]:
    """A server for each account that gets so far, so that no dead host is in the way of another account."""
    scripts = {name: repeating(*way) for name, way in PASSWORDS.items()}
    scripts |= {name: repeating(TOKENS, lie) for name, (_, lie) in BEARERS.items()}
    scripts["good"].mailboxes[b"INBOX"] = Mailbox({1: b"Subject: hello\r\n\r\nhello\r\n"})
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(ScriptedServer(script)) for name, script in scripts.items()}


def accounts_of(secrets: Secrets, ports: Mapping[str, ScriptedServer], directory: Path) -> dict[str, dict[str, Any]]:
    """The accounts as files of accounts have them, their secrets planted."""

    def planted(name: str, secret: str, way: str = "secret") -> Path:
        path = directory / f"{name}.{way}"
        path.write_text(secret, "utf-8")
        path.chmod(0o600)
        return path

    def command(name: str, secret: str, script: str) -> list[str]:
        return ["sh", "-c", script.replace("SECRET", str(planted(name, secret)))]

    here = {"host": "127.0.0.1", "port": ports["good"].port, "tls": "none", "connections": 1}
    accounts: dict[str, dict[str, Any]] = {
        name: {**here, "port": ports[name].port, "password_file": str(planted(name, secrets.password()))} for name in PASSWORDS
    }
    for name, (auth, _) in BEARERS.items():
        printing = command(name, secrets.token(), "cat SECRET")
        accounts[name] = {**here, "port": ports[name].port, "auth": auth, "token_command": printing}
    for name, script in COMMANDS.items():
        accounts[name] = {**here, "password_command": command(name, secrets.password(), script)}
    for name, script in TOKEN_COMMANDS.items():
        token = {"port": ports["token-good"].port, "auth": "xoauth2"}
        accounts[name] = {**here, **token, "token_command": command(name, secrets.token(), script)}
    planted("in-two-lines", f"\n{secrets.password()}\n")
    accounts["in-two-lines"] = {**here, "credential": "in-two-lines.secret"}
    for name in MIRRORED:
        accounts[name]["mirror"] = "full"
    return {name: {**keys, "user": name} for name, keys in accounts.items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The daemon after all of it has happened, and after its end."""
    directory = tmp_path_factory.mktemp("secrets")
    planted = directory / "planted"
    planted.mkdir(mode=0o700)
    defective = directory / "defective.py"
    defective.write_text(DEFECTIVE, "utf-8")
    secrets = Secrets()
    with beside(servers, "servers that repeat") as running:
        hauld = Hauld(directory / "haul", {}, daemon={"max_running_jobs": 100})
        hauld.launcher = [sys.executable, str(defective)]
        hauld.configure_beside("all.toml", accounts_of(secrets, running, planted))
        hauld.start(environment={"CREDENTIALS_DIRECTORY": str(planted)})
        site = Site(hauld, secrets)
        try:
            live_through(site)
        finally:
            if hauld.is_running:
                hauld.kill()
        site.note("the log", hauld.log())
        for line in hauld.lines:
            site.note("the log, decoded", " ".join(map(str, json.loads(line).values())))
        site.files()
        yield site


def live_through(site: Site) -> None:
    """Everything that may go wrong, once; at the end the daemon is shot."""
    site.processes()
    for name in (*PASSWORDS, *BEARERS, *COMMANDS, *TOKEN_COMMANDS, "in-two-lines"):
        site.call("accounts.test", account=name)
        site.processes()
    until_the_mirrored_have_failed(site)
    site.haulctl("doctor")
    break_the_configuration(site)
    site.haulctl("doctor", "-o", "json")
    assert site.call("daemon.reload")["data"]["kind"] == "configuration"
    site.check_config()
    site.call("daemon.status")
    site.call("jobs.list")
    site.call("events.list", limit=1000)
    for arguments in (("status",), ("accounts",), ("test", "no"), ("test", "token-report", "-o", "json"), ("reload",)):
        site.haulctl(*arguments)
    site.note("the limits", Path(f"/proc/{site.hauld.pid}/limits").read_text())
    os.kill(site.hauld.pid, signal.SIGABRT)
    assert site.hauld.wait() == -signal.SIGABRT


def until_the_mirrored_have_failed(site: Site) -> None:
    """Wait until each account with a job has said what is wrong with it, but for the one that works."""
    began = time.monotonic()
    while True:
        accounts = {account["name"]: account for account in site.call("accounts.list")["accounts"]}
        if accounts["good"]["items"] and all(accounts[name]["error"] for name in MIRRORED if name != "good"):
            return
        assert time.monotonic() < began + PATIENCE, accounts
        time.sleep(0.05)  # what a person would look at, too


def break_the_configuration(site: Site) -> None:
    for number, text in enumerate(BROKEN_FILES):
        secret = site.secrets.password()
        for word, meaning in (
            ("QUOTED_URL", json.dumps(f"imaps://me:{secret}@imap.example.org", ensure_ascii=False)),
            ("QUOTED", json.dumps(secret, ensure_ascii=False)),
            ("BARE", secret),
        ):
            text = text.replace(word, meaning)
        site.hauld.configure_beside(f"broken-{number}.toml", {}, text.replace("NAME", f"broken-{number}"))


# --- what is found -------------------------------------------------------------------------------------------------


def test_G7_of_forty_planted_secrets_nothing_is_found_anywhere(site: Site) -> None:
    assert len(site.secrets.cores) >= 40, "that many were planted"
    found = {where: cores for where, content in site.seen.items() if (cores := site.secrets.found_in(content))}
    assert found == {}


@pytest.mark.parametrize(
    "shown", ["repeated ***", "Traceback", "ZeroDivisionError", "with exit status 3", "broken-0.toml", "broken-7.toml"]
)
def test_the_log_tells_all_of_it_without_the_secrets(site: Site, shown: str) -> None:
    assert shown in site.seen["the log, decoded"].decode()


def test_G7_the_daemon_leaves_no_core_when_it_is_shot(site: Site) -> None:
    limits = site.seen["the limits"].decode()
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert not list(Path.cwd().glob("core*"))


def test_the_search_finds_a_secret_in_any_form() -> None:
    secrets = Secrets()
    for give in (secrets.password, secrets.token):
        for _ in range(20):
            secret = give()
            core = secrets.cores[-1]
            for shown in (
                secret,
                secret.upper(),
                repr(secret),
                json.dumps(secret),
                base64.b64encode(f"\0user\0{secret}".encode()).decode(),
                base64.b64encode(f"user=u\1auth=Bearer {secret}\1\1".encode()).decode(),
                secret[: secret.index(core) + 9],
            ):
                assert core in secrets.found_in(shown.encode())
