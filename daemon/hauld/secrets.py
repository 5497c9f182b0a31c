"""Where an account's secret comes from: a command, a file, a systemd credential or a keyring.

``read_secret`` gets it when a session signs in and passes it on; nobody keeps it but that connection, so that it can be left
out of what the server says. ``write_secret`` puts one into a keyring.

Access tokens come from a command that renews them: ``TokenCommand`` runs it once for all who ask at the same time.

Whatever goes wrong is ``NeedsAttention`` of kind ``secret`` (``Transient`` when it may go well later) and names the place,
never what was found there. For that reason foreign exceptions do not become causes here, as they do elsewhere: their texts
and values (``UnicodeDecodeError`` carries the bytes) may hold the secret. Every wait ends after ``PATIENCE``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hauld import threads
from hauld.config import AccountConfig, KeyringConfig, is_exposed, open_at_once
from hauld.errors import HaulError, NeedsAttention, Refused, Transient, out_of_files
from hauld.logs import printable

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

PATIENCE = 10.0
"""Seconds a command, a file or a keyring has."""

LARGEST_SECRET = 8192
"""Bytes; OAuth tokens are the longest secrets and stay below half of it."""

LINGER = 0.5
"""Seconds for what a command printed to arrive after its end."""

ACCESS_TOKEN = re.compile(r"[!-~]+")
"""What an access token is made of (RFC 6750 allows even less)."""

KEYRING_ADVICE = (
    "Unlock the desktop's keyring, or name another as its 'backend'; without a desktop give password_command, "
    "password_file or credential instead."
)

T = TypeVar("T")


async def read_secret(account: AccountConfig, *, patience: float = PATIENCE) -> str:
    """The account's secret: the first line of what its place holds. Raises ``NeedsAttention`` (kind ``secret``)."""
    if account.password_command is not None:
        content = await _output_of(account.password_command, "password", account.name, patience)
        return _first_line(content, f"The password command of account {account.name}")
    if account.password_file is not None:
        file, place = account.password_file, f"The password file of account {account.name}, {account.password_file},"
        return _first_line(await _in_thread(lambda: _read_file(file, place, private=True), place, patience), place)
    if account.credential is not None:
        place = f"The credential {account.credential} of account {account.name}"
        file = _credential_file(account.credential, place)
        return _first_line(await _in_thread(lambda: _read_file(file, place, private=False), place, patience), place)
    settings, place = account.keyring or KeyringConfig(), f"The keyring of account {account.name}"
    secret = await _in_thread(lambda: _ask_keyring(settings, account.name, place), place, patience)
    return _first_line(secret.encode(errors="surrogatepass"), place)


async def write_secret(account: AccountConfig, value: str, *, patience: float = PATIENCE) -> None:
    """Keep the account's secret in its keyring, and see that it is there. Raises ``Refused`` (kind ``wrong_state``) when
    the account's secret is kept elsewhere."""
    if account.keyring is None:
        raise Refused(
            "wrong_state",
            f"The secret of account {account.name} is not in a keyring: the configuration says {_other_place(account)}.",
            hint="Change it there, or give 'keyring' instead.",
        )
    settings, place = account.keyring, f"The keyring of account {account.name}"
    _first_line(value.encode(errors="surrogatepass"), "What is to be kept")
    await _in_thread(lambda: _tell_keyring(settings, account.name, value, place), place, patience)


class TokenCommand:
    """An account's access tokens. Connections that ask at the same time share one run of the command, for it may renew the
    token, and some providers give the old one up when that happens twice. Nothing is kept between runs."""

    def __init__(self, account: str, command: tuple[str, ...], *, patience: float = PATIENCE) -> None:
        self._account = account
        self._command = command
        self._patience = patience
        self._run: _Run | None = None

    async def __call__(self) -> str:
        """A token: the first line of what the command prints. ``Transient`` (kind ``secret``) when it took too long or said
        that it is for now only (exit status 75, EX_TEMPFAIL), ``NeedsAttention`` otherwise."""
        run = self._run
        if run is None or run.token.done():
            task = asyncio.create_task(self._ask(), name=f"token of account {self._account}")
            run = self._run = _Run(task)
        run.waiting += 1
        try:
            return await asyncio.shield(run.token)
        finally:
            run.waiting -= 1
            if not run.waiting and not run.token.done():  # nobody waits any more
                self._run = None
                run.token.cancel()
                await asyncio.wait([run.token])

    async def _ask(self) -> str:
        content = await _output_of(self._command, "token", self._account, self._patience)
        place = f"The token command of account {self._account}"
        token = _first_line(content, place)
        if not ACCESS_TOKEN.fullmatch(token):
            raise _attention(f"{place} gave a first line that is no access token.", "Nothing but the token is expected there.")
        return token


@dataclass(eq=False)
class _Run:
    token: asyncio.Task[str]
    waiting: int = 0


def forbid_core_dumps() -> None:
    """A dump of this process's memory would hold secrets; also holds for what it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _first_line(content: bytes, place: str) -> str:
    """The secret in what a place gave."""
    if len(content) > LARGEST_SECRET:
        raise _attention(f"{place} gave more than {LARGEST_SECRET} bytes, which is no password.")
    line = content.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise _attention(f"{place} gave an empty first line.", "The password is expected there.")
    try:
        secret = line.decode()
    except UnicodeDecodeError:
        secret = None
    if secret is None or not {"\0", "\r"}.isdisjoint(secret):
        raise _attention(f"{place} gave something that is no text in UTF-8.")
    return secret


def _other_place(account: AccountConfig) -> str:
    if account.token_command is not None:
        return f"token_command ({printable(account.token_command[0])})"
    if account.password_command is not None:
        return f"password_command ({printable(account.password_command[0])})"
    if account.password_file is not None:
        return f"password_file ({account.password_file})"
    return f"credential ({account.credential})"


def _attention(message: str, hint: str | None = None) -> NeedsAttention:
    return NeedsAttention("secret", message, hint=hint)


# --- commands ------------------------------------------------------------------------------------------------------


async def _output_of(command: tuple[str, ...], what: str, account: str, patience: float) -> bytes:
    """What the command printed, once it ended well. No shell, nothing to read, a session of its own: it cannot ask on the
    terminal, and it is killed together with what it started."""
    name = f"The {what} command of account {account}, {printable(command[0])},"
    advice = "Run it by hand as the user that hauld runs as: what it complains of is not shown here: it may hold the secret."
    try:
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            _Output, *command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        trouble = f"{name} could not be started: {error.strerror}."
        raise out_of_files(error, trouble) or _attention(trouble, advice) from None
    try:
        async with asyncio.timeout(patience):
            await output.complete.wait()
    except TimeoutError:
        raise _for_now(what, f"{name} did not finish within {patience:g} seconds.", advice) from None
    finally:
        await _end(transport, output)
    if output.overflowed:
        raise _attention(f"{name} printed more than {LARGEST_SECRET} bytes, which is no password.", advice)
    status = transport.get_returncode()
    if status is None or status < 0:
        raise _attention(f"{name} was ended by a signal.", advice)
    if status == os.EX_TEMPFAIL:
        raise _for_now(what, f"{name} said that it cannot just now, by exit status {status}.", advice)
    if status > 0:
        raise _attention(f"{name} failed with exit status {status}.", advice)
    return bytes(output.printed)


def _for_now(what: str, message: str, hint: str) -> HaulError:
    """A command that may do better later. One for a token asks a server, which may be down; one for a password does not."""
    return Transient("secret", message, hint=hint) if what == "token" else _attention(message, hint)


class _Output(asyncio.SubprocessProtocol):
    """What a command prints, within bounds. ``complete`` when all of it is here, or too much."""

    def __init__(self) -> None:
        self.printed = bytearray()
        self.exited = asyncio.Event()
        self.complete = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.printed += data[: LARGEST_SECRET + 1 - len(self.printed)]
        if self.overflowed:
            self.complete.set()

    @property
    def overflowed(self) -> bool:
        return len(self.printed) > LARGEST_SECRET

    def process_exited(self) -> None:
        """Usually the pipes end now. Where something that stays behind (an agent, say) holds one open, what the command
        printed is in the pipe already."""
        self.exited.set()
        asyncio.get_running_loop().call_later(LINGER, self.complete.set)

    def connection_lost(self, error: Exception | None) -> None:
        self.complete.set()


async def _end(transport: asyncio.SubprocessTransport, output: _Output) -> None:
    """Leave nothing of an unfinished command behind."""
    if not output.exited.is_set():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        await output.exited.wait()
    transport.close()


# --- files ---------------------------------------------------------------------------------------------------------


def _read_file(file: Path, place: str, *, private: bool) -> bytes:
    """What the file holds, as far as it could be a secret; a ``private`` file must be its owner's alone."""
    try:
        with open(file, "rb", opener=open_at_once) as opened:
            status = os.fstat(opened.fileno())
            if private and is_exposed(status):
                raise _attention(f"{place} may be read by others.", f"Use 'chmod 600 {file}'; the password is best changed.")
            if not stat.S_ISREG(status.st_mode):
                raise _attention(f"{place} is not a regular file.")
            return opened.read(LARGEST_SECRET + 1)
    except OSError as error:
        trouble = f"{place} cannot be read: {error.strerror}."
        raise out_of_files(error, trouble) or _attention(trouble) from None


def _credential_file(name: str, place: str) -> Path:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        hint = "Give it to the unit with LoadCredential= or LoadCredentialEncrypted=."
        raise _attention(f"{place} is not there: systemd passed no credentials on.", hint)
    return Path(directory) / name


# --- keyrings ------------------------------------------------------------------------------------------------------


def _ask_keyring(settings: KeyringConfig, user: str, place: str) -> str:
    secret = _with_keyring(settings, place, lambda keyring: keyring.get_password(settings.service, user))
    if secret is None:
        raise _attention(f"{place} holds nothing for it.", f"Put the password there with 'hauld secret set {user}'.")
    return secret


def _tell_keyring(settings: KeyringConfig, user: str, secret: str, place: str) -> None:
    def tell(keyring: KeyringBackend) -> bool:
        keyring.set_password(settings.service, user, secret)
        return keyring.get_password(settings.service, user) == secret

    if not _with_keyring(settings, place, tell):
        raise _attention(f"{place} took the password but does not give it back.", KEYRING_ADVICE)


def _with_keyring(settings: KeyringConfig, place: str, use: Callable[[KeyringBackend], T]) -> T:
    """Do that with the account's keyring. Imported late: most accounts do without."""
    import keyring
    from keyring.core import load_keyring

    failure: HaulError = _attention(f"{place} is not there: this machine offers none that keeps anything.", KEYRING_ADVICE)
    try:
        backend = load_keyring(settings.backend) if settings.backend else keyring.get_keyring()
        if not type(backend).__module__.startswith(("keyring.backends.null", "keyring.backends.fail")):
            return use(backend)
    except Exception as error:
        trouble = f"{place} cannot be used: {type(error).__name__}."
        out = out_of_files(error, trouble) if isinstance(error, OSError) else None
        failure = out or _attention(trouble, KEYRING_ADVICE)
    raise failure  # out here, where it has no cause: a keyring's own words may hold anything


# --- waiting -------------------------------------------------------------------------------------------------------


async def _in_thread(work: Callable[[], T], place: str, patience: float) -> T:
    """What ``work`` returns: a keyring may hang for ever, and so may a file."""
    try:
        async with asyncio.timeout(patience):
            return await asyncio.wrap_future(threads.begin(work, "secret"))
    except TimeoutError:
        raise _attention(f"{place} did not answer within {patience:g} seconds.") from None
