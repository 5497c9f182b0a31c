"""The messages of a content-addressed store: a file for each, named by the SHA-256 of its bytes, plain or compressed.

ab/cd/abcd....eml        the path of a message, and its file as it came
ab/cd/abcd....eml.zst    its file when it is compressed
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, count
from typing import TypeVar

from hauld.errors import ItemRejected
from hauld.stores import names
from hauld.stores.durable import COPY_BYTES, OF_ONE_FILE
from hauld.stores.index import is_index
from hauld.stores.packing import Damaged, unpacked, unpacked_size
from hauld.stores.tree import OWN, Tree

PACKED = ".zst"

ASIDE = f"{OWN}/aside"

LOOKS = 3
"""How often a file is looked for while another form of it takes its place."""

SHELVES = 1 << 16
"""How many directories of messages there may be, each named by the first two bytes of a hash."""

SHELF = len("ab/cd")

_THERE, _LASTS, _MADE = 1, 2, 4  # what is known of a directory of messages; the last: this process has made it

_SHELF = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}")
_OBJECT = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(?P<sha256>\1\2[0-9a-f]{60})\.eml")

_NOT_OURS = frozenset({OWN, "lost+found"})  # the store's own directory, and the one a file system is born with

R = TypeVar("R")


def object_path(sha256: str) -> str:
    """The path of the message with that hash."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}.eml"


class Objects:
    """The messages below the root of ``tree``. Blocking; called in a thread."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._root = tree.root
        self._shelves = bytearray(SHELVES)  # what is known of each
        self._looked_at: set[str] = set()  # the directories above them that were listed

    # --- storing ---

    def make_room(self, paths: Collection[str]) -> list[str]:
        """The directories of these messages are there; which other ones have to be synced for that to last."""
        changed: dict[str, None] = {}
        for shelf in sorted({path[:SHELF] for path in paths if not self._shelves[_number(path)] & _LASTS}):
            above = os.path.dirname(shelf)
            self._look_at(above)
            if not self._shelves[_number(shelf)] & _THERE:
                self._make(shelf)
                self._shelves[_number(shelf)] |= _THERE | _MADE
            changed |= {"": None, above: None}
        return list(changed)

    def has_room(self, paths: Collection[str]) -> None:
        """The directories of these messages are durable, and need not be looked for again."""
        for path in paths:
            self._shelves[_number(path)] |= _LASTS

    def forget_room(self) -> None:
        """Something went wrong: look for each directory again."""
        self._shelves = bytearray(SHELVES)
        self._looked_at.clear()

    def keep_only(self, file: str) -> None:
        """The other form of a message that has just been stored as ``file`` is of no use any more. Where nobody but this
        process has ever stored anything there is none: of equal bytes it always makes the same form."""
        if self._shelves[_number(file)] & _MADE:
            return
        other = file.removesuffix(PACKED) if file.endswith(PACKED) else f"{file}{PACKED}"
        if os.path.lexists(f"{self._root}/{other}"):
            self._tree.disk.unlink(f"{self._root}/{other}")

    def _look_at(self, above: str) -> None:
        """It is there, and what is in it is known: one look in place of one for each message."""
        if above in self._looked_at:
            return
        try:
            with os.scandir(f"{self._root}/{above}") as entries:
                below = [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            self._make(above)
            below = []
        for name in below:
            if _SHELF.fullmatch(shelf := f"{above}/{name}"):
                self._shelves[_number(shelf)] |= _THERE
        self._looked_at.add(above)

    def _make(self, directory: str) -> None:
        self._tree.disk.make_directory(f"{self._root}/{directory}", self._tree.modes.directory, self._tree.modes.group)

    # --- one message ---

    def read(self, path: str) -> bytes:
        """Its bytes. Raises ``Damaged`` where a compressed file does not have them, ``ItemRejected`` where nothing is."""
        if not _OBJECT.fullmatch(path):
            raise _missing(path)
        return self._at_rest(path, lambda file: b"".join(_pieces(file)))

    def remove(self, path: str) -> None:
        if _OBJECT.fullmatch(path):
            for form in (path, f"{path}{PACKED}"):
                self._tree.disk.unlink(f"{self._root}/{form}")

    def digest(self, path: str) -> tuple[int, str] | None:
        """Size and SHA-256 of what is in the file; None where nothing is, ``(size, "")`` where it cannot be read."""
        try:
            return self._at_rest(path, _digest)
        except ItemRejected:
            return None

    def heads(self, paths: Sequence[str], size: int) -> list[bytes | None]:
        """The first ``size`` bytes of each message; None where nothing is, or where it cannot be read."""
        return [self._head(path, size) for path in paths]

    def set_aside(self, path: str) -> str | None:
        """Move the file to where no message is looked for; where it is now, below the root."""
        found = self._find(path)
        if found is None:
            return None
        aside = f"{self._root}/{ASIDE}"
        if not os.path.isdir(aside):
            self._tree.make_directory(aside)
        name = names.escape(os.path.basename(found) if _OBJECT.fullmatch(found.removesuffix(PACKED)) else found)
        free = next(name for name in chain([name], (f"{name}.{n}" for n in count(2))) if not os.path.lexists(f"{aside}/{name}"))
        self._tree.disk.rename(f"{self._root}/{found}", f"{aside}/{free}")
        for directory in (aside, os.path.dirname(f"{self._root}/{found}")):
            self._tree.disk.sync_directory(directory)
        return f"{ASIDE}/{free}"

    def size(self, file: str) -> int:
        """How many bytes the message in that very file has."""
        path = f"{self._root}/{file}"
        return unpacked_size(path) if file.endswith(PACKED) else os.stat(path).st_size

    def stored_size(self, path: str, *, packed: int) -> int | None:
        """The size of a message's file as it is, or ``packed`` where it is compressed; None where nothing is."""
        found = self._find(path)
        if found is None:
            return None
        size = os.stat(f"{self._root}/{found}").st_size
        return packed if found.endswith(PACKED) and size else size

    # --- all ---

    def all_but(self, told: Collection[bytes]) -> Iterator[str]:
        """Every file but those of messages with these hashes, of the indexes and of the store's own directory."""
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            with os.scandir(f"{self._root}/{directory}") as entries:
                below = sorted(entries, key=lambda entry: entry.name)
            for entry in below:
                path = f"{directory}/{entry.name}".lstrip("/")
                if entry.is_dir(follow_symlinks=False):
                    waiting += [path] if path not in _NOT_OURS else []
                elif not is_index(path) and _hash_in_name(path) not in told:
                    yield path

    # --- finding ---

    def _head(self, path: str, size: int) -> bytes | None:
        try:
            return self._at_rest(path, lambda file: _beginning(file, size))
        except ItemRejected:
            return None

    def _at_rest(self, path: str, use: Callable[[str], R]) -> R:
        """What ``use`` makes of the file; looked for again when its other form takes its place in between."""
        for _ in range(LOOKS):
            if found := self._find(path):
                try:
                    return use(f"{self._root}/{found}")
                except FileNotFoundError:
                    continue
        raise _missing(path)

    def _find(self, path: str) -> str | None:
        """Where the file is, below the root: in either form when it is a message, or one that is no message by its name."""
        if any(part in ("", ".", "..") for part in path.split("/")) or path.startswith(f"{OWN}/") or is_index(path):
            return None
        message = path.removesuffix(PACKED)
        forms = (message, f"{message}{PACKED}") if _OBJECT.fullmatch(message) else (path,)
        return next((form for form in forms if os.path.isfile(f"{self._root}/{form}")), None)


def _number(path: str) -> int:
    """Of the directory of a message, or of what is in it."""
    return int(path[0:2] + path[3:5], 16)


def _pieces(file: str) -> Iterator[bytes]:
    """The bytes of a message, whichever form its file has."""
    if file.endswith(PACKED):
        yield from unpacked(file)
        return
    with open(file, "rb", buffering=0) as reader:
        while data := reader.read(COPY_BYTES):
            yield data


def _beginning(file: str, size: int) -> bytes | None:
    head = b""
    try:
        for data in _pieces(file):
            head += data[: size - len(head)]
            if len(head) == size:
                break
    except Damaged:
        return None
    except OSError as error:
        if error.errno not in OF_ONE_FILE:
            raise
        return None
    return head


def _digest(file: str) -> tuple[int, str]:
    seen = hashlib.sha256()
    size = 0
    try:
        for data in _pieces(file):
            seen.update(data)
            size += len(data)
    except Damaged:
        return os.stat(file).st_size, ""
    except OSError as error:
        if error.errno not in OF_ONE_FILE:
            raise
        return os.stat(file).st_size, ""
    return size, seen.hexdigest()


def _hash_in_name(path: str) -> bytes | None:
    found = _OBJECT.fullmatch(path.removesuffix(PACKED))
    return bytes.fromhex(found["sha256"]) if found else None


def _missing(path: str) -> ItemRejected:
    return ItemRejected("missing", f"The file of {path} is not in the store any more.", hint="Another program has deleted it.")
