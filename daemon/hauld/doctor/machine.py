"""Checks of the machine: the configuration, what the daemon keeps on disk, its socket, the clock, the limit of open files."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from haulapi.calls import Check
from hauld.config import Config, ConfigurationError, missing_here
from hauld.config.problems import Problem
from hauld.errors import tellable
from hauld.stores.durable import disk_trouble

EARLIEST = 2026
"""The year of the first release: no clock that is right is before it."""

LATEST = 2100
ROOM = 64 * 1024 * 1024
"""Bytes that a file system should have free, whatever is kept free: less, and the next import may end in a full disk."""

FILES = 64
"""Inodes that should be free."""

DESCRIPTORS = 200
"""How many files the daemon has open beside the accounts' connections, at most: clients, databases, files that are written."""

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"})
"""File systems where locks and syncs are what somebody else makes of them."""

PLAIN = frozenset({"vfat", "exfat", "msdos", "fuseblk", "ntfs3"})
"""File systems without owners, links, or names that a Maildir needs."""

PASSING = frozenset({"tmpfs", "ramfs"})
"""File systems that a restart empties."""

MOUNTS = Path("/proc/self/mountinfo")

FREE_SOME = "Free some space there; work stops when the disk is full, and goes on by itself."


# --- the configuration ---------------------------------------------------------------------------------------------


def wrong_configuration(error: ConfigurationError) -> Iterator[Check]:
    """Each thing that is wrong."""
    for line in error.message.splitlines():
        yield Check(name="configuration", status="failed", message=line, hint=error.hint, kind="configuration")


def configuration(config: Config) -> Iterator[Check]:
    """It can be used, and what it names is here."""
    count = len(config.accounts)
    yield Check(name="configuration", message=f"{config.path} is right, with {count} account{'' if count == 1 else 's'}")
    for problem in missing_here(config):
        yield _missing(problem, config.path)


def _missing(problem: Problem, path: Path) -> Check:
    hint = "Install or make it, or name another in the configuration."
    return Check(name="configuration", account=problem.account, status="warning", message=problem.line(path), hint=hint)


# --- directories ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mount:
    """Where a file system is, and of what kind it is."""

    place: Path
    kind: str


def mounts(text: str) -> list[Mount]:
    """The file systems of ``/proc/self/mountinfo`` (proc(5)), in the order in which they lie upon each other."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        place = os.fsencode(before.split(" ")[4]).decode("unicode_escape").encode("latin-1", "replace")
        found.append(Mount(Path(os.fsdecode(place)), after.split(" ")[0]))
    return found


def directories(config: Config, mounted: Sequence[Mount]) -> Iterator[Check]:
    """Those of the ledger and of the store: writable, with room, on a file system to be trusted."""
    ledger, store = config.daemon.state.parent, config.store.path
    yield from _directory("state", ledger, 0, mounted)
    yield from _directory("store", store, config.store.keep_free, mounted)
    if apart := next(_parts_apart(store), None):
        told = tellable(f"{apart} is on another file system than {store}")
        hint = "Mount the store's file system at its top; files are moved from the stage to their folders by renaming."
        yield Check(name="store", status="failed", message=told, hint=hint)


def _directory(name: str, directory: Path, keep_free: int, mounted: Sequence[Mount]) -> Iterator[Check]:
    here = nearest(directory)
    try:
        found, free = here.stat(), os.statvfs(here)
    except OSError as error:
        yield Check(name=name, status="failed", message=f"{directory} cannot be looked at: {error.strerror}", hint=may_enter())
        return
    if told := read_only(name, here, free):
        yield told
        return
    if not stat.S_ISDIR(found.st_mode) or not os.access(here, os.W_OK | os.X_OK, effective_ids=True):
        what = "is no directory" if not stat.S_ISDIR(found.st_mode) else f"may not be written by {me()}"
        hint = f"Give it to the user that hauld runs as, for example: chown {me()} {here}"
        yield Check(name=name, status="failed", message=f"{here} {what} ({owner_and_mode(found)})", hint=hint)
        return
    yield from _exposed(name, here, found)
    yield room(name, here, free, keep_free)
    yield from _kind(name, here, mounted)
    yet = "" if here == directory else f", which will be made in {here},"
    yield Check(name=name, message=f"{directory}{yet} can be written to ({owner_and_mode(found)})")


def nearest(directory: Path) -> Path:
    """The directory, or where it is going to be made."""
    for here in (directory, *directory.parents):
        if os.path.lexists(here):
            return here
    return Path("/")


def _exposed(name: str, here: Path, found: os.stat_result) -> Iterator[Check]:
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        message = f"everybody may write to {here} ({owner_and_mode(found)})"
        yield Check(name=name, status="failed", message=message, hint=f"Close it to others: chmod o-w {here}")


def read_only(name: str, here: Path, free: os.statvfs_result) -> Check | None:
    """What to say of a file system that nobody may write to, with what is to be done when work stops there."""
    if not free.f_flag & os.ST_RDONLY:
        return None
    refused = disk_trouble(OSError(errno.EROFS, os.strerror(errno.EROFS)), f"write to {here}")
    return Check(name=name, status="failed", message=f"the file system of {here} is read-only", hint=refused.hint)


def room(name: str, here: Path, free: os.statvfs_result, keep_free: int) -> Check:
    """Whether the file system has room; ``keep_free`` bytes of it are not to be used, 0 for no such rule."""
    left = free.f_bavail * free.f_frsize
    message = f"{size(left)} are free on the file system of {here}"
    if left < keep_free:
        return Check(name=name, status="failed", message=f"{message}, and {size(keep_free)} are to stay free", hint=FREE_SOME)
    if left < ROOM:
        return Check(name=name, status="failed", message=f"only {message}, and an import may need more", hint=FREE_SOME)
    if free.f_files and free.f_favail < FILES:
        message = f"the file system of {here} has room for {free.f_favail} more files"
        return Check(name=name, status="failed", message=message, hint=FREE_SOME)
    return Check(name=name, message=message)


def _kind(name: str, here: Path, mounted: Sequence[Mount]) -> Iterator[Check]:
    real = Path(os.path.realpath(here))
    kind = next((mount.kind for mount in reversed(mounted) if real.is_relative_to(mount.place)), "")
    why = {
        kind in NETWORK: "locks and syncs are not to be relied on there",
        kind in PLAIN: "it knows no owners and not all names",
        kind in PASSING: "a restart of this machine empties it",
    }.get(True)
    if why is not None:
        hint = "Use a directory on a disk of this machine, with ext4, xfs or btrfs."
        yield Check(name=name, status="warning", message=f"{here} is on {kind}: {why}", hint=hint)


def _parts_apart(store: Path) -> Iterator[Path]:
    """What of the store is on another device than the stage."""
    try:
        device = store.stat().st_dev
        parts = [store / ".haul" / "stage", *store.iterdir()]
    except OSError:
        return  # it is not there yet, or that was told
    for part in parts:
        if part.is_dir() and part.stat().st_dev != device:
            yield part


# --- the socket ----------------------------------------------------------------------------------------------------


def socket_file(path: Path, group: str = "haul") -> Check:
    """Whom the control socket lets in."""
    here = nearest(path.parent)
    try:
        found = path.stat()
    except FileNotFoundError:
        if os.access(here, os.W_OK | os.X_OK, effective_ids=True):
            return Check(name="socket", message=f"{path} is not there; it will be when hauld runs")
        hint = f"Give the directory to the user that hauld runs as, or set [daemon] socket: chown {me()} {here}"
        return Check(name="socket", status="failed", message=f"{path} cannot be made in {here} by {me()}", hint=hint)
    except OSError as error:
        return Check(name="socket", status="failed", message=f"{path} cannot be reached: {error.strerror}", hint=may_enter())
    if not stat.S_ISSOCK(found.st_mode):
        hint = "Move that away, or set another [daemon] socket."
        return Check(name="socket", status="failed", message=f"{path} is no socket ({owner_and_mode(found)})", hint=hint)
    if found.st_mode & 0o007:
        hint = "hauld makes it 0660; for hauld.socket set SocketMode=0660."
        message = f"{path} is open to everybody on this machine ({owner_and_mode(found)})"
        return Check(name="socket", status="failed", message=message, hint=hint)
    open_to = f"root, its owner and its group ({owner_and_mode(found)})" if found.st_mode & 0o060 else "root and its owner only"
    return Check(name="socket", message=f"{path} is open to {open_to}")


# --- the clock and the limits --------------------------------------------------------------------------------------


def clock(config: Config, now: datetime) -> Check:
    """Whether the time can be the time."""
    said = now.strftime("%Y-%m-%d %H:%M UTC")
    hint = "Set the clock (timedatectl set-ntp true): certificates, schedules and dates depend on it."
    if not EARLIEST <= now.year < LATEST:
        return Check(name="clock", status="failed", message=f"it says {said}", hint=hint)
    for path in (config.daemon.state, config.path):
        written = _written(path)
        if written is not None and (written - now).total_seconds() > 3600:
            message = f"it says {said}, but {path} was written at {written:%Y-%m-%d %H:%M UTC}"
            return Check(name="clock", status="warning", message=message, hint=hint)
    return Check(name="clock", message=f"it says {said}")


def _written(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def open_files(config: Config, limit: int | None = None) -> Check:
    """Whether the daemon may open as much as it needs."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    needed = DESCRIPTORS + sum(account.connections + 1 for account in config.accounts.values())
    if limit != resource.RLIM_INFINITY and limit < needed:
        message = f"{limit} may be open at once, and the accounts may need {needed}"
        hint = "Raise LimitNOFILE= in the unit (or ulimit -n), or give accounts fewer connections."
        return Check(name="open files", status="warning", message=message, hint=hint)
    many = "any number" if limit == resource.RLIM_INFINITY else str(limit)
    return Check(name="open files", message=f"{many} may be open at once, {needed} are enough")


# --- in words ------------------------------------------------------------------------------------------------------


def size(number: int) -> str:
    """``512 MiB``, ``1.2 GiB``."""
    return f"{number / 1024**2:.0f} MiB" if number < 1024**3 else f"{number / 1024**3:.1f} GiB"


def me() -> str:
    """The user that this runs as."""
    return user_name(os.geteuid())


def user_name(number: int) -> str:
    """The name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def owner_and_mode(found: os.stat_result) -> str:
    """``haul, drwxr-x---``"""
    return f"{user_name(found.st_uid)}, {stat.filemode(found.st_mode)}"


def may_enter() -> str:
    return f"Let {me()} into the directories above it, or run this as the user that hauld runs as."


def skipped(names: Iterable[str], account: str | None = None, because: str = "") -> Iterator[Check]:
    """What cannot be looked at any more."""
    for name in names:
        yield Check(name=name, account=account, status="skipped", message=f"not checked{because}")
