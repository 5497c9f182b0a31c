"""What a verification found: figures and sentences, folder by folder, as they stand at the moment."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hauld.errors import tellable
from hauld.model import Counters, Folder, Place, Trouble

SAMPLES = 5
"""Sentences about single items and files that are kept of a folder; the figures tell how many more there are."""

STRAYS = 100
STRAYS_TEXT = 8000
"""Strays that are named, and how long their names may be together, so that they fit into one reply."""


@dataclass(frozen=True)
class Asked:
    """What a verification is to do: for one account, or all; with ``repair`` or without; with the ``origin``'s own lists."""

    account: str | None = None
    repair: bool = False
    origin: bool = False


@dataclass
class FolderFindings:
    """One folder. ``damaged`` and ``missing`` are numbers of items, ascending; ``repaired`` counts those of them that are
    whole again, ``lost`` those that nobody has any more and that the ledger therefore let go of; ``given_up`` are those that
    the ledger waits for again. ``unreadable`` is why not all of its files could be read."""

    account: str
    name: str
    folder: Folder | None = None
    places: list[Place] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    checked: int = 0
    bytes: int = 0
    damaged: array[int] = field(default_factory=lambda: array("q"))
    missing: array[int] = field(default_factory=lambda: array("q"))
    unknown: int = 0
    repaired: int = 0
    lost: int = 0
    given_up: array[int] = field(default_factory=lambda: array("q"))
    samples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all that the origin is known to have is stored or skipped, and whole."""
        listed = self.folder is None or self.folder.gone_at is not None or self.folder.last_sync_at is not None
        readable = self.unreadable is None and (self.folder is None or self.folder.error is None)
        return listed and readable and not (self.broken or self.counters.remaining or self.counters.failed)

    @property
    def broken(self) -> int:
        """Items that are not whole by now."""
        return len(self.damaged) + len(self.missing) - self.repaired - self.lost

    @property
    def problems(self) -> list[str]:
        """What is wrong, in sentences, the most telling first."""
        return [*self._standing(), *self.notes, *self.samples][:SAMPLES]

    def note_item(self, sentence: str) -> None:
        """Something about one item or file, which is kept while it is one of a few."""
        if len(self.samples) < SAMPLES:
            self.samples.append(tellable(sentence))

    def _standing(self) -> Iterator[str]:
        """Why the folder would not be complete even if every stored item were whole."""
        if self.unreadable is not None:
            yield f"Not all of it could be read: {self.unreadable}"
        if self.folder is None:
            return
        if self.folder.error is not None:
            yield f"The origin's folder could not be compared: {self.folder.error.message}"
        elif self.folder.last_sync_at is None and self.folder.gone_at is None:
            yield "The folder has not been listed yet, so what it holds is not known."
        if self.counters.failed:
            yield f"{self.counters.failed:,} items could not be fetched; `haulctl items JOB --status failed` tells why."
        waiting = self.counters.remaining - len(self.given_up)
        if waiting > 0:
            yield f"{waiting:,} items of the origin are not stored. A job that wants them fetches them."


@dataclass
class Findings:
    """One verification. ``status`` is ``running``, ``completed`` or ``failed``; ``phase`` what a running one does; times are
    Unix milliseconds."""

    asked: Asked
    started_at: int
    status: str = "running"
    phase: str | None = "listing"
    finished_at: int | None = None
    expected_items: int = 0
    expected_bytes: int = 0
    strays: list[str] = field(default_factory=list)
    stray_files: int = 0
    folders: list[FolderFindings] = field(default_factory=list)
    trouble: Trouble | None = None

    def note_strays(self, paths: Sequence[str]) -> None:
        """Files that are nobody's."""
        self.stray_files += len(paths)
        for path in map(tellable, paths):
            length = sum(map(len, self.strays)) + len(path)
            if len(self.strays) < STRAYS and length <= STRAYS_TEXT:
                self.strays.append(path)

    @property
    def checked_items(self) -> int:
        return sum(folder.checked for folder in self.folders)

    @property
    def checked_bytes(self) -> int:
        return sum(folder.bytes for folder in self.folders)

    @property
    def damaged(self) -> int:
        return sum(len(folder.damaged) for folder in self.folders)

    @property
    def missing(self) -> int:
        return sum(len(folder.missing) for folder in self.folders)

    @property
    def repaired(self) -> int:
        return sum(folder.repaired for folder in self.folders)

    @property
    def unknown(self) -> int:
        return self.stray_files + sum(folder.unknown for folder in self.folders)
