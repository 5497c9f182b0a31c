"""The socket's name in the file system: made safely, taken over only from the dead, removed only when it is ours.

A socket that somebody else made and listens on for us (systemd does) is taken as it is, and left to him at the end: nobody who
knocks while there is no daemon is turned away.

The socket is bound and given its mode under a temporary name beside the final one, and renamed when it listens: whoever
finds the name finds a socket that answers. What stands in its place is refused with ``Fatal`` unless it is a socket of ours
at which nobody listens any more.

Where the process has no descriptor left for a client, one that was kept spare lets the client be told so.
"""

from __future__ import annotations

import errno
import grp
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from haulapi.faults import Exit
from hauld.errors import Fatal

BACKLOG = 128
"""Connections that may wait to be taken."""

ANSWER_WITHIN = 1.0
"""Seconds for a socket found in our place to take a connection; one that is too busy for that is alive."""


class Listener(socket.socket):
    """Accepts as any socket does, and turns away with ``regret`` those for whom the process has no descriptor left, so that
    they neither wait for an answer nor wake us again and again."""

    def __init__(self, regret: bytes, descriptor: int | None = None) -> None:
        if descriptor is None:
            super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            super().__init__(fileno=descriptor)
        self._regret = regret
        self._spare: int | None = None
        self._keep_spare()

    def accept(self) -> tuple[socket.socket, Any]:
        """As ``socket.socket.accept``. Raises ``BlockingIOError`` when a client was turned away, too."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or self._spare is None:
                self._keep_spare()
                raise
        self._turn_away()
        raise BlockingIOError(errno.EAGAIN, "a client was turned away: the process has no descriptor left")

    def close(self) -> None:
        self._give_spare()
        super().close()

    def _turn_away(self) -> None:
        """Answer one client in the place of the spare descriptor."""
        self._give_spare()
        try:
            client, _ = super().accept()
            with client, suppress(OSError):
                client.setblocking(False)
                client.send(self._regret)
        finally:
            self._keep_spare()

    def _give_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)

    def _keep_spare(self) -> None:
        """Have one where there is one to be had."""
        if self._spare is None and self.fileno() >= 0:
            with suppress(OSError):
                self._spare = os.dup(self.fileno())


@contextmanager
def listening(path: Path, group: int | None, regret: bytes = b"") -> Iterator[socket.socket]:
    """A socket that listens at ``path``: open to ``group`` when it is given and we may give it, else to us alone. Leaving
    closes it and removes the name, if it still is this socket's. ``regret`` is what a client gets for whom there is no
    descriptor."""
    _prepare_directory(path.parent, group)
    _refuse_what_is_in_place(path)
    with Listener(regret) as listener:
        identity = _appear(listener, path, group)
        try:
            yield listener
        finally:
            with suppress(OSError):  # a name that stays is that of a dead socket, and the next start takes it over
                if _identity(path) == identity:
                    path.unlink()


@contextmanager
def taken_over(descriptor: int, path: Path, regret: bytes = b"") -> Iterator[socket.socket]:
    """The socket of that descriptor, which somebody made for us at ``path`` and listens on. Leaving closes it here; its name,
    and whom it is open to, are his. Raises ``Fatal`` when it is another."""
    try:
        listener = Listener(regret, descriptor)
    except OSError as error:
        raise _unsuitable(f"Descriptor {descriptor}, which systemd passes to hauld, is no socket: {error.strerror}.") from error
    with listener:
        if (no := _reason_to_leave(listener, path)) is not None:
            raise _unsuitable(f"systemd passes a socket to hauld that {no}.")
        yield listener


def _reason_to_leave(listener: socket.socket, path: Path) -> str | None:
    """Why the socket is not the one that clients look for; None when it is."""
    if listener.family != socket.AF_UNIX:
        return "is no Unix socket"
    if listener.type != socket.SOCK_STREAM:
        return "is no stream"
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen"
    name = os.fsdecode(listener.getsockname())
    if not name or name.startswith("\0") or os.path.realpath(name) != os.path.realpath(path):
        return f"has the name {name!r}, where [daemon] socket is {path}"
    return None


def group_number(name: str) -> int | None:
    """The number of the group of that name; None where there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _prepare_directory(directory: Path, group: int | None) -> None:
    """Make the directory when it is missing, and refuse one in which others could replace the socket."""
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            if group is not None and _give(directory, group):
                directory.chmod(0o750)
        found = directory.stat()
    except OSError as error:
        raise _unusable(f"The directory {directory} for the control socket cannot be made: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(f"The control socket cannot be made in {directory}: that is not a directory.")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise _unusable(f"The control socket is not made in {directory}: anybody may write there and could replace it.")


def _refuse_what_is_in_place(path: Path) -> None:
    """Raise ``Fatal`` unless the name is free, or taken by a dead socket of our own."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(f"The control socket {path} cannot be made: {error.strerror}.") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise _unusable(f"The control socket {path} is not made: {_what(found.st_mode)} is in its place, which is left alone.")
    if _somebody_answers(path):
        raise Fatal(
            "locked",
            f"Another daemon answers at {path}.",
            hint="Stop it first, or give this one a state and a socket of its own in its configuration.",
            exit_code=Exit.TRY_AGAIN,
        )
    if found.st_uid != os.geteuid():
        raise _unusable(
            f"The control socket {path} is not made: a socket of another user (uid {found.st_uid}) is in its place,"
            " which is left alone."
        )


def _somebody_answers(path: Path) -> bool:
    """Whether anything listens at the socket; when that cannot be found out, it is taken to be alive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WITHIN)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _appear(listener: socket.socket, path: Path, group: int | None) -> tuple[int, int]:
    """Bind, open to whom it is meant for, listen, and only then take the name."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(3)}")
    try:
        listener.bind(str(hidden))
        hidden.chmod(0o660 if group is not None and _give(hidden, group) else 0o600)
        listener.listen(BACKLOG)
        hidden.rename(path)
    except OSError as error:
        with suppress(OSError):
            hidden.unlink()
        raise _unusable(f"The control socket {path} cannot be made: {error.strerror or error}.") from error
    return _identity(path)


def _give(path: Path, group: int) -> bool:
    """Whether the file could be given to the group: a daemon that is neither root nor a member cannot."""
    try:
        os.chown(path, -1, group, follow_symlinks=False)
    except PermissionError:
        return False
    return True


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _what(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a directory" if stat.S_ISDIR(mode) else "a file that is no socket"


def _unsuitable(message: str) -> Fatal:
    return Fatal(
        "configuration",
        message,
        hint=(
            "Let ListenStream= in hauld.socket be what [daemon] socket is, with ListenStream= alone on a line before it, or do"
            " without: systemctl disable --now hauld.socket."
        ),
        exit_code=Exit.CONFIGURATION,
    )


def _unusable(message: str) -> Fatal:
    return Fatal(
        "configuration",
        message,
        hint="Set [daemon] socket to a name in a directory that only the daemon's user may write to.",
        exit_code=Exit.CONFIGURATION,
    )
