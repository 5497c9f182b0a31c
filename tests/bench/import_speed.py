"""How fast a mailbox is imported, next to mbsync on the same mailbox: ``python tests/bench/import_speed.py --help``.

Both start with nothing and end with every message durable in a Maildir; both talk to the same private Dovecot, in turn, pair
by pair, because the disk of a shared machine drifts within minutes: only the ratio within a pair means anything. What they
stored is deleted at the very end: ext4 passes over the inodes of files that were deleted minutes ago, one by one, and after
the deletion of ten thousand files each new one takes many times as long to create.

With ``--followers N``, mbsync is left out: hauld with N followers of its events that never read is compared with hauld without.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.daemon import Hauld
from support.dovecot import Dovecot, User, private_dovecot
from support.messages import messages


@dataclass(frozen=True)
class Run:
    """One import: seconds from the first process to the last durable message, CPU seconds, peak resident bytes."""

    seconds: float
    cpu: float
    memory: int


def main() -> None:
    options = parse()
    if not options.followers and shutil.which("mbsync") is None:
        sys.exit("The benchmark compares with mbsync: apt-get install isync")
    with private_dovecot() as server, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        user = server.add_user("bench", "open sesame")
        server.fill(user, "INBOX", messages(options.count, size=options.size))
        drain(server, user)  # so that neither is first to warm the server up
        print(f"{options.count} messages of {options.size} bytes, {options.pairs} pairs, {os.cpu_count()} processors")
        print(f"{'':8}{'seconds':>9}{'messages/s':>12}{'MB/s':>8}{'CPU s':>8}{'peak MB':>9}")
        compare = compare_followers if options.followers else compare_mbsync
        compare(server, user, Path(directory), options)


def compare_mbsync(server: Dovecot, user: User, directory: Path, options: argparse.Namespace) -> None:
    """hauld and mbsync in turn."""
    ratios = []
    for pair in range(options.pairs):
        ours = report("hauld", run_hauld(server, user, directory / f"hauld-{pair}", options), options)
        theirs = report("mbsync", run_mbsync(server, user, directory / f"mbsync-{pair}", options), options)
        ratios.append(theirs.seconds / ours.seconds)
    print(f"hauld is {middle(ratios)} times as fast as mbsync")


def compare_followers(server: Dovecot, user: User, directory: Path, options: argparse.Namespace) -> None:
    """hauld alone and hauld with stuck followers in turn, the first of a pair each of them in turn, too."""
    speeds, memories = [], []
    for pair in range(options.pairs):
        runs = {}
        for followers in (0, options.followers) if pair % 2 == 0 else (options.followers, 0):
            run = run_hauld(server, user, directory / f"hauld-{pair}-{followers}", options, followers)
            runs[bool(followers)] = report("followed" if followers else "alone", run, options)
        speeds.append(runs[False].seconds / runs[True].seconds)
        memories.append(runs[True].memory / runs[False].memory)
    print(f"with {options.followers} stuck followers, hauld has {middle(speeds)} times its speed,")
    print(f"and {middle(memories)} times its memory")


def middle(ratios: list[float]) -> str:
    """The median, and how far the pairs are from it."""
    return f"{statistics.median(ratios):.2f} (median of {len(ratios)} pairs; {min(ratios):.2f} to {max(ratios):.2f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000, help="messages (default 10000)")
    parser.add_argument("--size", type=int, default=10_240, help="bytes of each (default 10240)")
    parser.add_argument("--pairs", type=int, default=3, help="how often each is run (default 3)")
    parser.add_argument("--command-times", action="store_true", help="also time haulctl list while hauld runs")
    parser.add_argument("--followers", type=int, default=0, help="compare with so many followers that never read")
    parser.add_argument("--connections", type=int, default=3, help="hauld's connections; mbsync has one (default 3)")
    return parser.parse_args()


def report(name: str, run: Run, options: argparse.Namespace) -> Run:
    rate = options.count / run.seconds
    megabytes = rate * options.size / 1e6
    print(f"{name:8}{run.seconds:9.2f}{rate:12.0f}{megabytes:8.1f}{run.cpu:8.2f}{run.memory / 1e6:9.1f}", flush=True)
    return run


def run_hauld(server: Dovecot, user: User, directory: Path, options: argparse.Namespace, followers: int = 0) -> Run:
    account = server.account(user, tls="none", connections=options.connections)
    hauld = Hauld(directory, {"a": account}, daemon={"log_level": "warning"})
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    hauld.start(ready=False)
    while not hauld.socket.exists():
        time.sleep(0.01)
    stuck = [stuck_follower(hauld) for _ in range(followers)]
    job = hauld.call("jobs.create", account="a", live=False)["id"]
    while hauld.call("jobs.get", job=job)["status"] != "completed":
        time.sleep(0.02)
    seconds = time.monotonic() - started
    memory = hauld.peak_memory()
    if options.command_times:
        print(f"haulctl list takes {statistics.median(seconds_of(hauld, 'list') for _ in range(9)):.3f} s (median of 9)")
    for follower in stuck:
        follower.close()
    hauld.stop()
    assert len(hauld.files()) == options.count, "an import that is not complete is not fast"
    return Run(seconds, cpu_since(before), memory)


def stuck_follower(hauld: Hauld) -> socket.socket:
    """A client that asks for events and never reads one."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(hauld.socket))
    client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "events.follow", "params": {}}\n')
    return client


def seconds_of(hauld: Hauld, *arguments: str) -> float:
    """How long one haulctl takes, as a process."""
    started = time.monotonic()
    assert hauld.haulctl(*arguments).returncode == 0
    return time.monotonic() - started


def run_mbsync(server: Dovecot, user: User, directory: Path, options: argparse.Namespace) -> Run:
    mail = directory / "mail"
    mail.mkdir(parents=True)
    config = directory / "mbsyncrc"
    config.write_text(
        f"IMAPAccount a\nHost {server.host}\nPort {server.port}\nUser {user.name}\nPass {user.password!r}\nSSLType None\n"
        f"AuthMechs LOGIN\n\n"
        f"IMAPStore far\nAccount a\n\n"
        f"MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n"
        f"Channel a\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nSyncState *\n".replace("'", '"')
    )
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(["mbsync", "-q", "-c", config, "a"])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    assert status == 0, "mbsync failed"
    assert len(list((mail / "INBOX").glob("*/*,U=*"))) == options.count
    return Run(seconds, cpu_since(before) or usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def cpu_since(before: resource.struct_rusage) -> float:
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def drain(server: Dovecot, user: User) -> None:
    """Read everything once."""
    with server.client(user) as client:
        client.select("INBOX", readonly=True)
        client.fetch("1:*", "(BODY.PEEK[])")


if __name__ == "__main__":
    main()
