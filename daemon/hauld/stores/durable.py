"""The border to the disk: each call that has to last, one method each, and the words for a person when one fails.

``Disk`` is handed to a store when it is made, so that a test can hand it one that fails or dies at a given step. In what
order the steps come, and why, is told by ``stage``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import stat

from hauld.errors import HaulError, ItemRejected, Transient, out_of_files
from hauld.model import Buffer

COPY_BYTES = 1 << 20
"""How much of a file is held in memory while it is read or copied."""

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

OF_ONE_FOLDER = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)
"""Errors that one directory can have on its own. Full, quota, input/output and too many files concern them all."""

OF_ONE_FILE = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EISDIR})
"""Errors of reading that are one file's: the disk's, a damaged file system's, and a directory where a file should be."""

_libc = ctypes.CDLL(None, use_errno=True)  # for syncfs, statfs and faccessat, which ``os`` does not have or tells less of


class Disk:
    """The machine's own disk. Every method raises ``OSError``; none asks twice."""

    def __init__(self) -> None:
        self._unmasked: set[int] = set()  # modes that the umask leaves as they are: each file saves a call
        self._unmasked_directories: set[int] = set()

    def create(self, path: str, mode: int) -> int:
        """A descriptor of a new, empty file of exactly that mode, whatever the umask."""
        descriptor = os.open(path, NEW_FILE, mode)
        if mode not in self._unmasked:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) == mode:
                self._unmasked.add(mode)
            else:
                os.fchmod(descriptor, mode)
        return descriptor

    def reopen(self, path: str, length: int) -> int:
        """A descriptor that appends to a file that is there, after its first ``length`` bytes: what follows is cut away."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != length:
                os.ftruncate(descriptor, length)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def append(self, descriptor: int, data: Buffer) -> None:
        """All of ``data``; a short write is followed by the rest."""
        written = os.write(descriptor, data)
        if written < len(data):
            with memoryview(data) as view:
                while written < len(view):
                    written += os.write(descriptor, view[written:])

    def write(self, path: str, data: Buffer, mode: int, mtime: int | None = None) -> None:
        """A new file with these bytes; ``mtime`` in Unix seconds."""
        descriptor = self.create(path, mode)
        try:
            self.append(descriptor, data)
            if mtime is not None:
                os.utime(descriptor, (mtime, mtime))
        finally:
            os.close(descriptor)

    def stamp(self, path: str, mtime: int) -> None:
        """Set the time of a file that is there."""
        os.utime(path, (mtime, mtime))

    def copy(self, source: str, target: str, mode: int) -> tuple[int, str]:
        """A new file with the bytes and the time of another; the size and SHA-256 of what was copied."""
        seen = hashlib.sha256()
        size = 0
        with open(source, "rb", buffering=0) as reader:
            descriptor = self.create(target, mode)
            try:
                while data := reader.read(COPY_BYTES):
                    self.append(descriptor, data)
                    seen.update(data)
                    size += len(data)
                mtime = os.fstat(reader.fileno()).st_mtime_ns
                os.utime(descriptor, ns=(mtime, mtime))
            finally:
                os.close(descriptor)
        return size, seen.hexdigest()

    def read(self, path: str) -> bytes:
        """All bytes of a small file."""
        with open(path, "rb") as reader:
            return reader.read()

    def sha256_of(self, path: str) -> tuple[int, str]:
        """Size and SHA-256 of a file as it is now."""
        return sha256_of(path)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """The file is gone, whether or not it was there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def make_directory(self, path: str, mode: int, group: int | None) -> None:
        """The directory is there, with this mode and group whatever the umask. One that its owner has closed stays closed."""
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            found = os.stat(path)
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
            if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                return
        else:
            if group is None and self._leaves_as_it_is(path, mode):
                return
        if group is not None:
            os.chown(path, -1, group)
        os.chmod(path, mode)

    def _leaves_as_it_is(self, made: str, mode: int) -> bool:
        """Whether the umask left the mode of a directory that was just made."""
        if mode not in self._unmasked_directories and stat.S_IMODE(os.stat(made).st_mode) == mode:
            self._unmasked_directories.add(mode)
        return mode in self._unmasked_directories

    def check_writable(self, directory: str) -> None:
        """Raise the error that making a file there would meet for want of rights, or because it is no directory."""
        path = f"{directory}/."
        if _libc.faccessat(_AT_FDCWD, os.fsencode(path), os.W_OK | os.X_OK, _AT_EACCESS) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)

    def free(self, path: str) -> tuple[int, int | None, int]:
        """Bytes and files for which there is room on the file system of ``path`` (None where it has no limit of files), and how
        many bytes it gives out at a time."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None, found.f_frsize

    def sync_file(self, path: str, descriptor: int | None = None) -> None:
        """The bytes of one file; by its descriptor, where it is open already."""
        if descriptor is not None:
            os.fdatasync(descriptor)
            return
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(opened)
        finally:
            os.close(opened)

    def sync_directory(self, path: str) -> None:
        """The names in one directory."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_file_system(self, descriptor: int) -> None:
        """Everything on the file system of ``descriptor``. Reports what went wrong since the last call with the same
        descriptor, so keep one open from before the first write."""
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def can_sync_file_system(self, path: str) -> bool:
        """Whether ``sync_file_system`` tells of write errors here (syncfs(2): since Linux 5.8), on a file system where it
        is known to wait for bytes and names both."""
        return _kernel() >= (5, 8) and _file_system(path) in _SYNCED_AS_A_WHOLE


def sha256_of(path: str) -> tuple[int, str]:
    """Size and SHA-256 of a file as it is now."""
    seen = hashlib.sha256()
    size = 0
    with open(path, "rb", buffering=0) as reader:
        while data := reader.read(COPY_BYTES):
            seen.update(data)
            size += len(data)
    return size, seen.hexdigest()


class FolderTrouble(OSError):
    """Trouble with the directory of one folder, while the rest of the store can be used."""


def disk_trouble(error: OSError, doing: str) -> HaulError:
    """The error for a person: ``doing`` says what failed ("store messages in /srv/mail"). ``ItemRejected`` (kind ``folder``)
    for trouble with one folder alone, else ``Transient`` (kind ``disk``, or ``files`` where no more can be opened)."""
    reason = error.strerror or type(error).__name__
    where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
    message, hint = f"Cannot {doing}: {reason}{where}.", _HINTS.get(error.errno or 0)
    if isinstance(error, FolderTrouble):
        return ItemRejected("folder", message, hint=hint)
    return out_of_files(error, message) or Transient("disk", message, hint=hint)


_HINTS = {
    errno.ENOSPC: "Free some space on that file system; work goes on by itself once there is room.",
    errno.EDQUOT: "Free some space or raise the quota of the daemon's user; work goes on by itself.",
    errno.EROFS: "The file system is read-only: look for disk errors in the kernel log, then remount it read-write.",
    errno.EIO: "The disk reports errors: look into the kernel log and check the drive before trusting it again.",
    errno.EACCES: "The daemon's user must be able to write there: check owner and mode, and ReadWritePaths= in the unit.",
    errno.EPERM: "The daemon's user must be able to write there: check owner and mode, and ReadWritePaths= in the unit.",
    errno.ENOTDIR: "Something that is no directory is in the place of one: move it away.",
    errno.EISDIR: "A directory is in the place of a file: move it away.",
    errno.EFBIG: "A file may not grow that large: check the limit of the file system and of the process (ulimit -f).",
}

_AT_FDCWD = -100
_AT_EACCESS = 0x200

_SYNCED_AS_A_WHOLE = frozenset({0xEF53, 0x58465342, 0x9123683E})  # ext2 to ext4, xfs, btrfs: statfs(2)


def _kernel() -> tuple[int, int]:
    """Major and minor version of the running kernel; (0, 0) where it does not say."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _file_system(path: str) -> int:
    """The type of the file system (``f_type``, the first word of struct statfs); 0 when it cannot be told."""
    answer = (ctypes.c_long * 32)()  # 256 bytes where long has 8, 128 where it has 4: more than the struct on either
    return answer[0] & 0xFFFFFFFF if _libc.statfs(os.fsencode(path), answer) == 0 else 0
