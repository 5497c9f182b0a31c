"""``hauld demo``: see haul at work without an account, without root and without leaving anything running.

It starts a mail server of its own (``server``) with made-up mail (``messages``), writes a configuration, runs ``hauld`` and
shows what a person would type: ``haulctl create``, ``status``, ``folders``, ``items``. Then it compares the files with the
mail, byte by byte, and tells how to go on with one's own account. The processes are in ``children``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import click
from msgspec.json import decode

from haulapi.calls import JobList
from haulapi.faults import Exit
from hauld.demo.children import MailServer, daemon, mail_server, program
from hauld.demo.messages import mailbox
from hauld.errors import Fatal

OWN_ACCOUNT = """\
Now your own mail. Put this into ~/.config/haul/haul.toml:

    [accounts.mine]
    source = "imap"
    host = "imap.example.org"
    user = "me@example.org"
    password_command = ["pass", "show", "mail/mine"]

and then, with {programs} on your PATH:

    hauld check-config             # is that right?
    hauld run                      # the daemon, in a terminal of its own
    haulctl create mine --wait     # the import, with bars
"""


def main(directory: Path | None = None, messages: int = 3000) -> int:
    """Show it all, in ``directory`` or a new one, and return the exit code: 0 when every message is here, byte for byte."""
    home = _prepared(directory)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does: with everything it started
    try:
        return _show(home, messages)
    except KeyboardInterrupt:
        _say("Interrupted.")
        return Exit.INTERRUPTED
    finally:
        _say(f"Everything of this demo is in {home}. Nothing of it is running any more.")


def _show(home: Path, messages: int) -> int:
    _say(f"Starting a mail server with {messages:,} made-up messages ...")
    # a directory of its own for the socket, because a socket's path may have no more than 107 bytes
    with tempfile.TemporaryDirectory(prefix="haul-") as run, mail_server(messages, home / "server.log") as server:
        socket = Path(run, "haul.sock")
        config = _configuration(home, socket, server)
        _say(f"It listens on {server.host}, port {server.port}. This tells hauld of it:", config.read_text())
        with daemon(config, socket, home / "hauld.log"):
            return _watch(home, socket, messages)


def _watch(home: Path, socket: Path, messages: int) -> int:
    outcome = _haulctl(socket, "create", "demo", "--wait")
    if outcome != Exit.OK:
        _say(f"The import failed; {home / 'hauld.log'} tells more.")
        return outcome
    job = _newest_job(socket)
    for command in (["status"], ["folders", job], ["items", job, "--limit", "5"]):
        _haulctl(socket, *command)
    same = _compare(home, messages)
    _say(OWN_ACCOUNT.format(programs=Path(program("hauld")).parent))
    return Exit.OK if same else Exit.FAILURE


def _prepared(directory: Path | None) -> Path:
    """A directory with nothing in it."""
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="haul-demo-"))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise Fatal("usage", f"{directory} is not empty.", hint="Name a directory that is, or none.", exit_code=Exit.USAGE)
    return directory.resolve()


def _configuration(home: Path, socket: Path, server: MailServer) -> Path:
    password = home / "password"
    password.touch(mode=0o600)
    password.write_text(server.password + "\n")
    config = home / "haul.toml"
    config.touch(mode=0o600)
    config.write_text(f"""\
[daemon]
state = {_quoted(home / "haul.db")}
socket = {_quoted(socket)}

[store]
path = {_quoted(home / "mail")}

[accounts.demo]
source = "imap"
host = "{server.host}"
port = {server.port}
tls = "none"
user = "{server.user}"
password_file = {_quoted(password)}
""")
    return config


def _quoted(path: Path) -> str:
    """As TOML writes a string, which for what a path holds is as JSON does."""
    return json.dumps(str(path), ensure_ascii=False)


def _haulctl(socket: Path, *arguments: str) -> int:
    """Show a command and run it on the terminal."""
    click.secho(f"$ haulctl {' '.join(arguments)}", bold=True)
    outcome = subprocess.run([program("haulctl"), *arguments], env=os.environ | {"HAUL_SOCKET": str(socket)}, check=False)
    click.echo()
    return outcome.returncode


def _newest_job(socket: Path) -> str:
    command = [program("haulctl"), "--socket", str(socket), "--json", "list"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return decode(listed.stdout, type=JobList).jobs[0].id


# --- what is there -------------------------------------------------------------------------------------------------


def _compare(home: Path, messages: int) -> bool:
    """Say how many files there are and whether they are the messages, byte for byte."""
    files = sorted(path for kind in ("cur", "new") for path in (home / "mail").rglob(f"{kind}/*"))
    first_of_each_folder = {path.parent: path for path in reversed(files)}
    _say(
        f"What is in {home} now, to begin with:",
        "".join(f"{path.relative_to(home)}\n" for path in sorted(first_of_each_folder.values())),
    )
    sent = Counter(hashlib.sha256(message.content).digest() for message in mailbox(messages))
    here = Counter(hashlib.sha256(path.read_bytes()).digest() for path in files)
    missing, strange = (sent - here).total(), (here - sent).total()
    verdict = (
        "byte for byte the same" if sent == here else f"{missing:,} messages are missing, {strange:,} files are something else"
    )
    _say(f"{sent.total():,} messages on the server, {here.total():,} files here: {verdict}.")
    return sent == here


def _say(*paragraphs: str) -> None:
    for paragraph in paragraphs:
        click.echo(paragraph.rstrip("\n") + "\n")
