"""What every store promises. The contract suite (``tests/contracts/store.py``) holds each implementation to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hauld.model import Deposit, Place, Placed, RemoteFolder, Sink


class Store(Sink, Protocol):
    """One tree of stored items. Its sink (``open``) stages bytes; ``commit`` makes them last.

    Trouble with the disk is ``Transient`` of kind ``disk`` (full, read-only, errors), never a half-written item.
    """

    async def start(self) -> None:
        """Create what is missing, take the tree's lock. Raises ``Fatal`` when another process has it."""
        ...

    async def close(self) -> None:
        """Let go of everything; nothing staged survives but what a manifest names."""
        ...

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        """The place of a folder, durable with its sidecar. ``directory`` is what an earlier call chose, or None;
        two folders never share one, whatever their names. Cheap when it is there already."""
        ...

    def commit(self, group: Sequence[Deposit]) -> AbstractAsyncContextManager[Sequence[Placed]]:
        """Entering makes the group durable under its final names (in the group's order), all or error; the caller commits
        its rows inside; leaving without an error forgets the manifest. After an error inside, ``recover`` reports the
        group again. One commit at a time; callers queue."""
        ...

    async def recover(self) -> Sequence[Placed]:
        """What is durable here though ``commit`` was never left in order: after a crash, or an error inside. What is
        whole is given its final name and reported, the rest of the stage is swept. Idempotent until ``settle``."""
        ...

    async def settle(self) -> None:
        """What ``recover`` reported is in the ledger: forget its manifests."""
        ...

    async def read(self, path: str) -> bytes:
        """The exact bytes stored at ``path`` (as ``Placed.path``), wherever other programs have moved them within their
        folder. Raises ``ItemRejected`` (kind ``missing``) when they are gone."""
        ...

    async def relabel(self, path: str, flags: Sequence[str]) -> None:
        """Show these flags; the path stays valid. Nothing happens when the item is gone."""
        ...

    async def remove(self, path: str) -> None:
        """Delete the item; nothing happens when it is gone already."""
        ...

    def scan(self) -> Iterator[Placed]:
        """Everything stored, read from names and sidecars alone (nothing is hashed: ``sha256`` may be a prefix). Blocking:
        call it in a thread."""
        ...
