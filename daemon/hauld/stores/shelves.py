"""The files of Maildirs as they are found: other programs move them between ``new`` and ``cur`` and change their flags.

A path (as in ``Placed``) is a directory and a unique part; a file is found by it wherever its folder has it. All of this
blocks, and raises ``FolderTrouble`` where one folder alone is the matter.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from hauld.errors import ItemRejected
from hauld.model import Found, Place, Placed
from hauld.stores import names
from hauld.stores.durable import OF_ONE_FILE, Disk
from hauld.stores.places import Modes
from hauld.stores.stage import Stage

ASIDE = ".haul/aside"
"""Below the root: what was taken out of its folder, under the directory it was in."""

LOOKS = 3
"""How often a file is looked for while other programs keep renaming it."""

R = TypeVar("R")


class Shelves:
    """Maildirs below ``root``."""

    def __init__(self, root: str, stage: Stage, disk: Disk, modes: Modes) -> None:
        self._root = root
        self._stage = stage
        self._disk = disk
        self._modes = modes
        self._keeping = threading.Lock()

    # --- one file ---

    def use(self, path: str, step: Callable[[str], R]) -> R:
        """What ``step`` makes of the file; looked for again when another program renames it in between. Raises
        ``ItemRejected`` (kind ``missing``)."""
        with self._of_folder_of(path):
            for _ in range(LOOKS):
                if found := self._find(path):
                    with contextlib.suppress(FileNotFoundError):
                        return step(self.full(found))
        raise ItemRejected(
            "missing",
            f"The file of {path} is not in its folder any more.",
            hint="Another program has deleted or moved it.",
        )

    def relabel(self, flags: Sequence[str], file: str) -> None:
        """Rename the file so that its name shows these flags."""
        part, shown = os.path.split(file)
        unique, _, information = shown.partition(":2,")
        target = f"{os.path.dirname(part)}/cur/{unique}:2,{names.relabelled(information, flags)}"
        if target != file:
            self._disk.rename(file, target)

    def set_aside(self, file: str) -> str:
        """Move the file to ``ASIDE``, durably; where it is now, below the root. Nothing there is written over."""
        where = os.path.relpath(file, self._root)
        target = taken = f"{ASIDE}/{where}"
        number = 1
        while os.path.lexists(self.full(target)):
            number += 1
            target = f"{taken}.{number}"
        self._make_way(os.path.dirname(target))
        self._move(file, self.full(target))
        return target

    # --- many files ---

    def locate(self, paths: Collection[str]) -> dict[str, str]:
        """Where the files are now, below the root, those that are anywhere: one look at each folder, however many it is
        asked for."""
        return {path: files[0] for path, files in self.every_file(paths).items()}

    def every_file(self, paths: Collection[str]) -> dict[str, list[str]]:
        """All files of each item that has any, below the root; more than one where another program has copied it."""
        found: dict[str, list[str]] = {}
        for directory in sorted({_directory(path) for path in paths}):
            with self._stage.of_folder(self.full(directory)):
                for shown in self._shown(directory):
                    path = f"{directory}/{_unique(shown)}"
                    if path in paths:
                        found.setdefault(path, []).append(f"{directory}/{shown}")
        return found

    def paths_in(self, directory: str) -> Iterator[str]:
        """The paths of what the folder shows."""
        return (f"{directory}/{_unique(shown)}" for shown in self._shown(directory))

    def keep_one(self, placed: Sequence[Placed], kept: Mapping[str, str] = MappingProxyType({})) -> None:
        """Each of these items is in one file, the one that ``kept`` says or else the first that is whole. Another one that
        is whole is deleted, and what has other bytes is set aside. Where none is whole, nothing happens. In any thread."""
        with self._keeping:  # else two who each keep another file would delete them both
            self._keep_one(placed, kept)

    def _keep_one(self, placed: Sequence[Placed], kept: Mapping[str, str]) -> None:
        items = {item.path: item for item in placed}
        crowded = {path: files for path, files in self.every_file(items).items() if len(files) > 1}
        for path, files in crowded.items():
            item = items[path]
            whole = [file for file in files if self._is_whole(file, item)]
            stays = kept.get(path) if kept.get(path) in whole else next(iter(whole), None)
            for file in files if stays else ():
                if file in whole and file != stays:
                    self._disk.unlink(self.full(file))
                elif file not in whole:
                    self.set_aside(self.full(file))
        for directory in sorted({os.path.dirname(file) for files in crowded.values() for file in files}):
            self._disk.sync_directory(self.full(directory))

    def find(self, paths: Collection[str]) -> dict[str, str]:
        """As ``locate``, without a look at the folder where all files have likely names."""
        likely = {path: file for path in paths if (file := self._likely(path))}
        return likely | self.locate([path for path in paths if path not in likely and _is_inside(path)])

    def digest(self, files: Sequence[str]) -> list[tuple[int, str] | None]:
        """Size and SHA-256 of each file as it is now; None for one that is gone, ``(size, "")`` for one whose bytes cannot be
        read."""
        return [self._digest(file) for file in files]

    def heads(self, files: Sequence[str], size: int) -> list[bytes | None]:
        """The first ``size`` bytes of each file; None for one that is gone, or whose bytes cannot be read."""
        return [self._head(file, size) for file in files]

    def look(self, place: Place) -> Iterator[Found]:
        """Every file that readers of the folder see. A file as long as its name says is an item, the first of several; other
        files of an item, and files of other programs, are told by their names."""
        told: set[int] = set()  # hashes of unique parts, since a folder may have a million
        doubtful: list[tuple[str, int]] = []
        for shown in self._shown(place.directory):
            try:
                size = os.stat(self.full(f"{place.directory}/{shown}")).st_size
            except FileNotFoundError:
                continue
            unique = _unique(shown)
            item = names.read_unique_part(unique)
            if item is None or not names.is_text(item.epoch + item.key):  # of the latter the ledger cannot tell
                yield Found(f"{place.directory}/{shown}", size)
            elif item.size != size or hash(unique) in told:
                doubtful.append((shown, size))
            else:
                told.add(hash(unique))
                yield _found(place, shown, item)
        for shown, size in doubtful:
            unique = _unique(shown)
            path = unique if hash(unique) not in told else shown
            told.add(hash(unique))
            yield Found(f"{place.directory}/{path}", size)

    # --- below ---

    def full(self, below: str) -> str:
        return f"{self._root}/{below}"

    def _find(self, path: str) -> str | None:
        """Where the file is now, below the root: under a likely name, or wherever its folder has it."""
        return self._likely(path) or (self.locate({path}).get(path) if _is_inside(path) else None)

    def _likely(self, path: str) -> str | None:
        if not _is_inside(path):
            return None
        directory, _, unique = path.rpartition("/")
        for likely in (f"cur/{unique}:2,S", f"cur/{unique}:2,", f"new/{unique}"):
            if os.path.lexists(self.full(f"{directory}/{likely}")):
                return f"{directory}/{likely}"
        return None

    def _shown(self, directory: str) -> Iterator[str]:
        """The files of a folder as other programs show them, below it: ``cur/NAME:2,FLAGS`` or ``new/NAME``. Readers pass
        over names that begin with a dot."""
        for part in ("cur", "new"):
            with contextlib.suppress(FileNotFoundError), os.scandir(self.full(f"{directory}/{part}")) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        yield f"{part}/{entry.name}"

    def _digest(self, file: str) -> tuple[int, str] | None:
        path = self.full(file)
        with self._stage.of_folder(os.path.dirname(path)):
            try:
                return self._disk.sha256_of(path)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno in OF_ONE_FILE:
                    return os.stat(path).st_size, ""
                raise

    def _head(self, file: str, size: int) -> bytes | None:
        path = self.full(file)
        with self._stage.of_folder(os.path.dirname(path)):
            try:
                with open(path, "rb") as reader:
                    return reader.read(size)
            except OSError as error:
                if error.errno in OF_ONE_FILE or isinstance(error, FileNotFoundError):
                    return None
                raise

    def _is_whole(self, file: str, item: Placed) -> bool:
        if os.path.islink(self.full(file)):
            return False
        try:
            return self._disk.sha256_of(self.full(file)) == (item.size, item.sha256)
        except OSError as error:
            if error.errno in OF_ONE_FILE or isinstance(error, FileNotFoundError):
                return False
            raise

    def _make_way(self, directory: str) -> None:
        """The directory is there, durable in those above."""
        above = ""
        for part in directory.split("/"):
            path = f"{above}/{part}" if above else part
            if not os.path.isdir(self.full(path)):
                self._disk.make_directory(self.full(path), self._modes.directory, self._modes.group)
                self._disk.sync_directory(self.full(above) if above else self._root)
            above = path

    def _move(self, file: str, target: str) -> None:
        """The file is at ``target``, durably, then gone from where it was; on another device by way of a copy."""
        try:
            self._disk.rename(file, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            unfinished = os.path.join(self.full(ASIDE), ".unfinished")
            self._disk.unlink(unfinished)
            self._disk.copy(file, unfinished, self._modes.file)
            self._disk.sync_file(unfinished)
            self._disk.rename(unfinished, target)
            self._disk.sync_directory(os.path.dirname(target))
            self._disk.unlink(file)
        self._disk.sync_directory(os.path.dirname(target))
        self._disk.sync_directory(os.path.dirname(file))

    def _of_folder_of(self, path: str) -> contextlib.AbstractContextManager[None]:
        return self._stage.of_folder(self.full(_directory(path)))


def contents(file: str) -> bytes:
    """All bytes of a file."""
    with open(file, "rb") as reader:
        return reader.read()


def _found(place: Place, shown: str, item: names.ItemName) -> Found:
    path = f"{place.directory}/{_unique(shown)}"
    return Found(
        path,
        item.size,
        Placed(place.identity, place.folder.raw, item.epoch, item.key, item.size, item.sha256, path),
        names.flags(shown.partition(":2,")[2]),
        item.date,
    )


def _is_inside(path: str) -> bool:
    """Whether it can be the path of an item: a directory below the root, and a name."""
    return "/" in path and not any(part in ("", ".", "..") for part in path.split("/"))


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _unique(shown: str) -> str:
    """The unique part of a file's name, wherever the file is."""
    return shown.rpartition("/")[2].partition(":")[0]
