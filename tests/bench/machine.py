"""What a figure was measured on, without which it says nothing."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import sqlite3
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from support.dovecot import REPOSITORY, Installation

QUIET = 0.5
"""Processes that wanted a processor in the last minute, for each there is: with more, figures are not to be quoted."""


def described(directory: Path) -> str:
    """Machine, versions and date in a few lines; ``directory`` is where everything is written."""
    load = os.getloadavg()[0]
    processors = f"{os.cpu_count()} processors ({processor()})"
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    lines = [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"{processors}, {memory() / 2**30:.0f} GiB, Linux {platform.release()}, {file_system(directory)}",
        f"hauld {version('hauld')}{commit()}, Python {python}, SQLite {sqlite}, Dovecot {dovecot()}{others()}",
        f"load before: {load:.1f}",
    ]
    if load > QUIET * (os.cpu_count() or 1):
        lines.append("THE MACHINE WAS BUSY WITH OTHER THINGS: these figures are not to be quoted")
    return "\n".join(lines)


def processor() -> str:
    """Its name, as the kernel knows it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def file_system(directory: Path) -> str:
    """The kind of that directory's, with its options."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [mount for mount in mounts if directory.resolve().is_relative_to(mount[1])]
    _, _, kind, options, *_ = max(reversed(holding), key=lambda mount: len(mount[1]))
    return f"{kind} ({options})"


def commit() -> str:
    """Which commit hauld is, where that can be known."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        return ""
    asked = ["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--exclude", "*"]
    said = subprocess.run(asked, capture_output=True, text=True)
    return f" ({said.stdout.strip()})" if said.returncode == 0 else ""


def dovecot() -> str:
    """Its version."""
    installation = Installation.find()
    asked = [installation.server, "--version"]
    return subprocess.run(asked, capture_output=True, text=True, env=installation.environment()).stdout.split()[0]


def others() -> str:
    """The programs that hauld is compared with, as far as they are here."""
    found = [name for name in ("mbsync", "offlineimap") if shutil.which(name) is not None]
    return "".join(f", {name} {_last_word([name, '--version'])}" for name in found)


def _last_word(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.split()[-1]


def settle() -> None:
    """Wait until the disk has what was written to it, so that one run does not pay for another."""
    os.sync()
    time.sleep(0.2)
