"""The programs that are compared, each run once on one mailbox, from nothing: hauld, mbsync, offlineimap, and a client that
only drains.

All start with nothing and end with every message durable; what is not complete is an error and no figure. ``command`` in front
of a program is how its system calls are counted.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.mailboxes import Mailbox
from bench.tables import Counts, Run
from support.daemon import Hauld
from support.dovecot import Dovecot
from support.watching import is_done, until

LONGEST = 3600.0
"""Seconds until a run that does not end is a failure."""
LOOK = 0.02
"""Seconds between two looks at the peak memory of a program that ends by itself."""
LONGEST_LINE = 4096
"""Bytes of a command's last line, at most."""
TICKS = os.sysconf("SC_CLK_TCK")
SYNCS = frozenset({"fsync", "fdatasync", "syncfs", "sync", "msync"})
HAUL_DEFAULT_CONNECTIONS = 3


@dataclass(frozen=True)
class Origin:
    """A mailbox as programs reach it: ``port`` is the server's, or that of a proxy before it."""

    server: Dovecot
    mailbox: Mailbox
    port: int
    connections: int = HAUL_DEFAULT_CONNECTIONS

    @property
    def account(self) -> dict[str, object]:
        """As hauld's configuration has it."""
        place = self.server.account(self.mailbox.user, tls="none", connections=self.connections)
        return {**place, "port": self.port}


# --- hauld ---------------------------------------------------------------------------------------------------------


def run_hauld(
    directory: Path,
    *origins: Origin,
    store: dict[str, Any] | None = None,
    followers: int = 0,
    beside: Callable[[Hauld], AbstractContextManager[object]] = lambda _: nullcontext(),
    command: Sequence[str] = (),
) -> Run:
    """An import of every origin at once, with so many followers that never read, and with something ``beside`` it."""
    hauld = make_hauld(directory, *origins, store=store)
    hauld.launcher = list(command)
    with ExitStack() as stack:
        stack.push(hauld)  # which ends it, whatever happens here
        started = time.monotonic()
        hauld.start()
        for _ in range(followers):
            stack.enter_context(stuck_follower(hauld))
        before = time.monotonic()
        with beside(hauld):
            started += time.monotonic() - before  # the import has not begun
            import_all(hauld, len(origins))
            seconds = time.monotonic() - started
        run = replace(measured(hauld, seconds), items=items(origins), bytes=size(origins), groups=groups_of(hauld))
        end(hauld)
    check_stored(hauld, origins, maildir=(store or {}).get("format", "maildir") == "maildir")
    return run


def make_hauld(directory: Path, *origins: Origin, store: dict[str, Any] | None = None) -> Hauld:
    """A daemon with these accounts, as people run it."""
    accounts = {name_of(number): origin.account for number, origin in enumerate(origins)}
    return Hauld(directory, accounts, daemon={"log_level": "info"}, store=store or {})


def name_of(number: int) -> str:
    """The name of that account in the configuration."""
    return f"account{number}"


def import_all(hauld: Hauld, accounts: int = 1, *, live: bool = False) -> list[str]:
    """Everything of every account; the jobs, when the last is done."""
    jobs = [hauld.call("jobs.create", account=name_of(number), live=live)["id"] for number in range(accounts)]
    for job in jobs:
        until(hauld, job, is_done, within=LONGEST)
    return jobs


def measured(hauld: Hauld, seconds: float) -> Run:
    """What it has used since it was started."""
    return Run(seconds, cpu_of(hauld.pid), hauld.peak_memory(), 0, 0)


def groups_of(hauld: Hauld) -> int:
    """How many commits it has told of; one that had items of several folders counts for each of them."""
    with closing(sqlite3.connect(f"file:{hauld.state}?mode=ro", uri=True)) as state:
        (count,) = state.execute("SELECT count(*) FROM events WHERE kind = 'item.stored'").fetchone()
    return int(count)


def cpu_of(pid: int) -> float:
    """Seconds of processor that a process and its threads have used (utime and stime, proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def stuck_follower(hauld: Hauld) -> socket.socket:
    """A client that asks for events and never reads one."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(hauld.socket))
    client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "events.follow", "params": {}}\n')
    return client


def end(hauld: Hauld) -> None:
    """End the daemon itself, whatever was put in front of it."""
    os.kill(hauld.call("daemon.status")["pid"], signal.SIGTERM)
    assert hauld.wait() == 0, f"hauld did not end well:\n{hauld.log()}"


def check_stored(hauld: Hauld, origins: Sequence[Origin], *, maildir: bool = True) -> None:
    """An import that is not complete is not fast. ``is_done`` says what the ledger thinks; this looks at the files."""
    stored = len(hauld.files()) if maildir else len(list(hauld.mail.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*.eml*")))
    assert stored == items(origins), f"{stored} of {items(origins)} messages were stored:\n{hauld.log()}"


def items(origins: Sequence[Origin]) -> int:
    return sum(origin.mailbox.items for origin in origins)


def size(origins: Sequence[Origin]) -> int:
    return sum(origin.mailbox.bytes for origin in origins)


# --- the others ----------------------------------------------------------------------------------------------------


def run_mbsync(directory: Path, origin: Origin, command: Sequence[str] = ()) -> Run:
    """Pull every folder into Maildirs; run again in the same directory, it looks for changes. It has one connection."""
    mail = directory / "mail"
    mail.mkdir(parents=True, exist_ok=True)
    config = directory / "mbsyncrc"
    user = origin.mailbox.user
    config.write_text(
        f"FSync yes\n\n"
        f'IMAPAccount a\nHost {origin.server.host}\nPort {origin.port}\nUser {user.name}\nPass "{user.password}"\n'
        f"SSLType None\nAuthMechs LOGIN\n\n"
        f"IMAPStore far\nAccount a\n\n"
        f"MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n"
        f"Channel a\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nSyncState *\n"
    )
    run = child([*command, "mbsync", "-q", "-c", str(config), "a"])
    check_count("mbsync", len(list(mail.glob("*/*/*,U=*"))), origin)
    return replace(run, items=origin.mailbox.items, bytes=origin.mailbox.bytes)


def run_offlineimap(directory: Path, origin: Origin, command: Sequence[str] = ()) -> Run:
    """The same by offlineimap, with as many connections as hauld has, and its own default of syncing every file."""
    mail = directory / "mail"
    mail.mkdir(parents=True, exist_ok=True)
    config = directory / "offlineimaprc"
    user = origin.mailbox.user
    config.write_text(
        f"[general]\naccounts = a\nmetadata = {directory}/metadata\nui = quiet\nfsync = true\n\n"
        f"[Account a]\nlocalrepository = near\nremoterepository = far\n\n"
        f"[Repository near]\ntype = Maildir\nlocalfolders = {mail}\nsync_deletes = no\n\n"
        f"[Repository far]\ntype = IMAP\nremotehost = {origin.server.host}\nremoteport = {origin.port}\nssl = no\n"
        f"starttls = no\nremoteuser = {user.name}\nremotepass = {user.password}\nauth_mechanisms = LOGIN\nreadonly = true\n"
        f"maxconnections = {origin.connections}\n"
    )
    run = child([*command, "offlineimap", "-o", "-c", str(config)])
    check_count("offlineimap", len(list(mail.glob("*/[cn]*/*,U=*"))), origin)
    return replace(run, items=origin.mailbox.items, bytes=origin.mailbox.bytes)


def child(command: Sequence[str]) -> Run:
    """A program that ends by itself. Its peak is looked up again and again while it runs, because what ``wait4`` tells of a
    child's includes the memory of the parent it was forked from."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        peak, ended = 0, os.pidfd_open(process.pid)
        try:
            while not select.select([ended], [], [], LOOK)[0]:
                peak = max(peak, peak_of(process.pid))
        finally:
            os.close(ended)
        seconds = time.monotonic() - started
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, f"{' '.join(command)} ended with exit code {process.returncode}:\n{said.read()}"
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, 0, 0)


def peak_of(pid: int) -> int:
    """Largest resident memory so far, in bytes (VmHWM, proc(5)); 0 for a process that has just ended."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def check_count(name: str, stored: int, origin: Origin) -> None:
    assert stored == origin.mailbox.items, f"{name} stored {stored} of {origin.mailbox.items} messages"


def run_drain(origin: Origin) -> Run:
    """The server's own limit: ask for everything hauld asks for, folder by folder on one connection, and keep nothing."""
    user = origin.mailbox.user
    buffer = memoryview(bytearray(1 << 20))
    before, started = time.process_time(), time.monotonic()
    with socket.create_connection((origin.server.host, origin.port), timeout=60) as connection:

        def ask(number: int, command: str) -> int:
            """Bytes until the answer's last line; the tag is long enough to be in no message."""
            tag = f"drained-{number:06}".encode()
            connection.sendall(tag + b" " + command.encode() + b"\r\n")
            count, tail = 0, b""
            while True:
                received = connection.recv_into(buffer)
                assert received, f"the server ended the connection during {command}"
                count += received
                tail = (tail + bytes(buffer[max(0, received - LONGEST_LINE) : received]))[-LONGEST_LINE:]
                if tail.endswith(b"\r\n") and b"\r\n" + tag + b" " in b"\r\n" + tail:
                    assert tag + b" OK" in tail, tail
                    return count

        ask(0, f'LOGIN {user.name} "{user.password}"')
        count = 0
        for number, folder in enumerate(origin.mailbox.folders, 1):
            ask(2 * number, f'EXAMINE "{folder}"')
            count += ask(2 * number + 1, "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
    assert count > origin.mailbox.bytes, "the server did not give everything"
    seconds, cpu = time.monotonic() - started, time.process_time() - before
    return Run(seconds, cpu, 0, origin.mailbox.items, origin.mailbox.bytes)


# --- counting ------------------------------------------------------------------------------------------------------


def can_count() -> bool:
    """Whether system calls can be counted here."""
    return shutil.which("strace") is not None


def counted(run: Callable[[Sequence[str]], Run], report: Path) -> Counts:
    """An extra run, far too slow to be timed: what it asked of the kernel."""
    report.parent.mkdir(parents=True, exist_ok=True)
    done = run(("strace", "-f", "-c", "-o", str(report)))
    calls: dict[str, int] = {}
    for line in report.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[0].replace(".", "").isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    assert calls, f"strace counted nothing:\n{report.read_text()}"
    syncs = sum(count for name, count in calls.items() if name in SYNCS)
    return Counts(syncs, sum(calls.values()), done.items, done.groups)
