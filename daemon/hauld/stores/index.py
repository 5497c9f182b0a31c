r"""What each folder of a content-addressed store holds: an index, which is a file that only grows, a line for each item.

    root/index/mine/INBOX.json

    {"identity":"imap://me@example.org","account":"mine","raw":"SU5CT1g=","path":["INBOX"],"kind":"inbox","check":"5f0c9d1e"}
    {"epoch":"7","key":"7.1","sha256":"9f86d081...","size":4,"date":1700000000000,"flags":["\\Seen"],"check":"1c291ca3"}

The first line says whose it is; one like it may come again when the folder is shown under another name. Of two lines about
the same bytes of one item the later counts. Every line ends in a check of what stands before it, so a line that was cut off
by a crash is known, and cut away when the next one is appended; one that was damaged at rest is passed over. A line proves
nothing by itself: it may have come without the bytes that it names.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hauld.errors import tellable
from hauld.model import FolderKind, Place, RemoteFolder
from hauld.stores import names
from hauld.stores.durable import Disk
from hauld.stores.places import Modes
from hauld.stores.room import Room

log = logging.getLogger(__name__)

INDEX = "index"
SUFFIX = ".json"  # with it the longest name has 143 bytes

NEW = 3
"""How many files and directories there may be more when there is a new index."""

LONGEST_LINE = 1 << 20
"""Bytes; what is longer was not written here."""

_CHECK = b',"check":"'
_SIZE = b',"size":'  # what stands before it tells one item from another; no text in a line can hold it unescaped
_OWNER = b'{"identity":'
_DELETE = b"\x7f"


class Line(msgspec.Struct, frozen=True):
    """One item of a folder, its names and their order those of the file. ``date`` is Unix milliseconds, or None."""

    epoch: str
    key: str
    sha256: str
    size: int
    date: int | None = None
    flags: tuple[str, ...] = ()


@dataclass
class _Known:
    """An index that has been read: its facts, how far it is to be believed, and lines that a commit which failed has left."""

    facts: dict[str, Any] | None
    end: int
    unused: set[bytes]


class Indexes:
    """The indexes below ``root``. Blocking; called in any thread. ``distrust`` is called when a sync of one fails."""

    def __init__(self, root: str, disk: Disk, modes: Modes, room: Room, distrust: Callable[[], None]) -> None:
        self._root = root
        self._disk = disk
        self._modes = modes
        self._room = room
        self._distrust = distrust
        self._known: dict[str, _Known] = {}
        self._owners: dict[tuple[str, bytes], str] | None = None
        self._writing = threading.RLock()
        self._told: set[str] = set()  # of these indexes and directories the log has said that they are passed over

    # --- places ---

    def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        """The folder's index, durable."""
        with self._writing:
            if self._owners is None:
                self._owners = self._read_owners()
            chosen = self._owners.get((identity, folder.raw))
            if chosen is None and directory is not None and is_index(directory) and directory not in self._owners.values():
                chosen = directory  # it is gone, or no longer tells whose it is
            place = Place(identity, account, folder, chosen or self._choose(identity, account, folder))
            self.restore(place)
            self._owners[identity, folder.raw] = place.directory
            return place

    def restore(self, place: Place) -> None:
        """The index is there, durable, and says what is true of the folder."""
        path = self._path(place.directory)
        with self._writing:
            if not os.path.lexists(path):
                with self._room.held([1] * NEW):
                    self._make(place.directory)
            if self._know(place.directory).facts != _facts(place):
                facts = _encode(_facts(place))
                with self._room.held([len(facts)]):
                    self._append(place.directory, facts, lasting=True)
                self._know(place.directory).facts = _facts(place)

    def places(self) -> Iterator[Place]:
        """Every folder that has an index, as the index tells it."""
        for directory in self._all():
            facts = None
            for line in self._lines(directory):
                if line.startswith(_OWNER):
                    facts = json.loads(line)
            if place := _place(facts, directory):
                yield place

    # --- lines ---

    def add(self, directory: str, lines: Sequence[Line], *, lasting: bool) -> None:
        """Append lines; those that were appended for a commit which failed are there already. They are durable when they are
        to be ``lasting``, or when the whole file system has been synced."""
        with self._writing:
            unused = self._know(directory).unused
            fresh = [line for line in map(_encode_line, lines) if line not in unused]
            if fresh:
                self._append(directory, b"".join(fresh), lasting=lasting)
                unused.update(fresh)

    def used(self, directory: str) -> None:
        """What its lines say has come true."""
        with self._writing:
            self._know(directory).unused.clear()

    def distrust(self, directory: str) -> None:
        """What was appended last may not last: read it again, and append what is to be there."""
        with self._writing:
            self._known.pop(directory, None)

    def items(self, place: Place) -> Iterator[Line]:
        """Every item that a line tells of, once for each of its bodies, in the order of their last lines."""
        last: dict[bytes, int] = {}
        for number, line in enumerate(self._lines(place.directory)):
            last[_which(line)] = number
        for number, line in enumerate(self._lines(place.directory)):
            if last.get(_which(line)) == number and not line.startswith(_OWNER):
                yield _decode_line(line)

    # --- reading ---

    def _know(self, directory: str) -> _Known:
        """What the index says; read again when somebody has made it shorter."""
        found = self._known.get(directory)
        if found is None or os.stat(self._path(directory)).st_size < found.end:
            known = _Known(None, 0, set())
            with open(self._path(directory), "rb") as reader:
                position = 0
                while line := reader.readline(LONGEST_LINE):
                    position += len(line)
                    if (text := _checked(line)) is not None:
                        known.end = position
                        if text.startswith(_OWNER):
                            known.facts = json.loads(text)
            self._known[directory] = known
        return self._known[directory]

    def _lines(self, directory: str) -> Iterator[bytes]:
        """The lines that are whole, without their checks; none when the index is gone."""
        with contextlib.suppress(FileNotFoundError), open(self._path(directory), "rb") as reader:
            while line := reader.readline(LONGEST_LINE):
                if (text := _checked(line)) is not None:
                    yield text

    def _read_owners(self) -> dict[tuple[str, bytes], str]:
        """Whose each index is, as its first line tells, or the first that is whole."""
        found: dict[tuple[str, bytes], str] = {}
        for directory in self._all():
            first = next((line for line in self._lines(directory) if line.startswith(_OWNER)), None)
            if first is not None and (place := _place(json.loads(first), directory)):
                found.setdefault((place.identity, place.folder.raw), directory)
        return found

    def _all(self) -> Iterator[str]:
        for account in sorted(self._below(INDEX)):
            if not self._can_be_told(f"{INDEX}/{account}"):
                continue
            for name in sorted(self._below(f"{INDEX}/{account}")):
                if name.endswith(SUFFIX) and self._can_be_told(f"{INDEX}/{account}/{name}"):
                    yield f"{INDEX}/{account}/{name}"

    def _can_be_told(self, path: str) -> bool:
        """Whether the name of an index, or of an account's directory of them, is UTF-8: else the ledger cannot tell of it. One
        that is not is told to the log, once."""
        if names.is_text(path):
            return True
        if path not in self._told:
            self._told.add(path)
            log.warning(
                "passed over the index %s, because its name is not UTF-8: a new one is made, and what the ledger does not have "
                "is fetched again; rename it back while hauld is stopped",
                tellable(self._path(path)),
                extra={"event": "store.passed_over"},
            )
        return False

    def _below(self, directory: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.listdir(self._path(directory))
        return []

    # --- writing ---

    def _append(self, directory: str, data: bytes, *, lasting: bool) -> None:
        """What is ``lasting`` is synced by the descriptor that wrote it: one that was open when the disk failed hears of it,
        whoever else has synced the same file since."""
        known = self._known.pop(directory)  # what is cut off half-way is read again
        path = self._path(directory)
        descriptor = self._disk.reopen(path, known.end)
        try:
            self._disk.append(descriptor, data)
            if lasting:
                self._sync(path, descriptor)
        finally:
            os.close(descriptor)
        known.end += len(data)
        self._known[directory] = known

    def _sync(self, path: str, descriptor: int) -> None:
        try:
            self._disk.sync_file(path, descriptor)
        except OSError:
            self._distrust()
            raise

    def _make(self, directory: str) -> None:
        """An empty index, durable as far as its name goes."""
        self._known.pop(directory, None)
        account = os.path.dirname(directory)
        for made in (INDEX, account):
            self._disk.make_directory(self._path(made), self._modes.directory, self._modes.group)
            self._disk.sync_directory(os.path.dirname(self._path(made)))
        self._disk.write(self._path(directory), b"", self._modes.file)
        self._disk.sync_directory(self._path(account))

    def _choose(self, identity: str, account: str, folder: RemoteFolder) -> str:
        """A name that is nobody's, and that no file system takes for another's."""
        base = f"{INDEX}/{names.escape(account)}"
        name = names.escape("/".join(folder.path))
        taken = {names.likeness(other.removesuffix(SUFFIX)) for other in self._below(base) if not self._is_free(base, other)}
        if names.likeness(name) in taken:
            name = names.hashed(name, identity.encode("utf-8", "surrogatepass") + b"\0" + folder.raw)
        return f"{base}/{name}{SUFFIX}"

    def _is_free(self, base: str, name: str) -> bool:
        """Whether it is an index that was begun and says nothing yet."""
        path = self._path(f"{base}/{name}")
        return name.endswith(SUFFIX) and os.path.isfile(path) and next(self._lines(f"{base}/{name}"), None) is None

    def _path(self, directory: str) -> str:
        return f"{self._root}/{directory}"


def is_index(path: str) -> bool:
    """Whether a path below the root is an index, by its name."""
    parts = path.split("/")
    inside = len(parts) == 3 and parts[0] == INDEX and parts[1] not in ("", ".", "..")
    return inside and parts[2].endswith(SUFFIX) and names.is_text(path)


# --- lines as bytes ------------------------------------------------------------------------------------------------


def _encode(facts: Mapping[str, Any]) -> bytes:
    return _with_check(json.dumps(facts, separators=(",", ":")).encode("ascii"))


def _encode_line(line: Line) -> bytes:
    """As ``_encode`` writes it, in a third of the time where nothing has to be escaped that msgspec writes as it is."""
    with contextlib.suppress(UnicodeEncodeError):
        text = msgspec.json.encode(line)
        if text.isascii() and _DELETE not in text:
            return _with_check(text)
    return _encode(msgspec.structs.asdict(line))


def _decode_line(text: bytes) -> Line:
    facts = json.loads(text)
    return Line(facts["epoch"], facts["key"], facts["sha256"], facts["size"], facts["date"], tuple(facts["flags"]))


def _with_check(text: bytes) -> bytes:
    """The line: ``text`` is a JSON object."""
    return text[:-1] + _check(text[:-1])


def _checked(line: bytes) -> bytes | None:
    """The JSON of a line without its check; None when the line is not what was written."""
    text = line.rpartition(_CHECK)[0]
    return text + b"}" if text and line[len(text) :] == _check(text) else None


def _check(text: bytes) -> bytes:
    return b'%s%08x"}\n' % (_CHECK, zlib.crc32(text))


def _which(text: bytes) -> bytes:
    """Equal for lines about the same bytes of the same item: short, since all of a folder are held at once."""
    return hashlib.blake2b(text.partition(_SIZE)[0], digest_size=12).digest()


# --- whose an index is ---------------------------------------------------------------------------------------------


def _facts(place: Place) -> dict[str, Any]:
    return {
        "identity": place.identity,
        "account": place.account,
        "raw": base64.b64encode(place.folder.raw).decode("ascii"),
        "path": list(place.folder.path),
        "kind": str(place.folder.kind),
        "version": 1,
    }


def _place(facts: dict[str, Any] | None, directory: str) -> Place | None:
    """The place that the facts tell; None when they make no sense."""
    if facts is None:
        return None
    try:
        raw = base64.b64decode(facts["raw"], validate=True)
        folder = RemoteFolder(raw, tuple(facts["path"]), FolderKind(facts["kind"]))
        return Place(facts["identity"], facts["account"], folder, directory)
    except (KeyError, ValueError, binascii.Error):
        return None
