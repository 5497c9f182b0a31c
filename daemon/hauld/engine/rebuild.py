"""Rebuilding the ledger from what is stored, where the ledger is new or was lost: files tell what they are, so nothing is
fetched again.

What jobs there were files cannot tell: that is what copies of the ledger are for (``copies``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from hauld.engine.pieces import pieces
from hauld.errors import ItemRejected, Transient
from hauld.model import Place
from hauld.state.base import State
from hauld.stores.base import Store

log = logging.getLogger(__name__)

FILES = 2000
"""Files that become rows in one transaction."""

TELL_EVERY = 5.0
"""Seconds between two words on how far it is."""

T = TypeVar("T")


async def rebuild(state: State, store: Store, say: Callable[[str], None]) -> None:
    """Give every file of the store its row, unless the ledger knows them all. Can be cut off at any instant: the next start
    does it again. ``say`` takes a line for people now and then.

    A folder that cannot be read now is left for the next start; what its items are is asked of the origin again meanwhile.
    Raises ``Transient`` when the ledger cannot be written.
    """
    if await state.reconciled():
        return
    progress = _Progress(say)
    places: list[Place] = []
    async for some in progress.readable(pieces(store.places, FILES)):
        places += some
    for number, place in enumerate(places, start=1):
        async for found in progress.readable(pieces(lambda at=place: store.look(at), FILES)):  # type: ignore[misc]
            restored = await state.restore(source_of(place.identity), place, found)
            progress.add(len(found), restored, f"folder {number:,} of {len(places):,}")
    if not progress.unread:
        await state.set_reconciled()
    progress.end(len(places))


def source_of(identity: str) -> str:
    """The source that an account's identity begins with."""
    return identity.partition("://")[0]


class _Progress:
    """How far it is, in words, now and then. ``unread`` is how many folders could not be looked at."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.unread = 0
        self._say = say
        self._files = 0
        self._restored = 0
        self._began = time.monotonic()
        self._told = self._began

    async def readable(self, read: AsyncIterator[list[T]]) -> AsyncIterator[list[T]]:
        """The same, as far as it can be read."""
        try:
            async for piece in read:
                yield piece
        except (ItemRejected, Transient) as error:
            self.unread += 1
            log.error("not all stored files could be looked at: %s", error, extra={"event": "ledger.rebuild_failed"})

    def add(self, files: int, restored: int, where: str) -> None:
        self._files += files
        self._restored += restored
        if time.monotonic() - self._told > TELL_EVERY:
            self._told = time.monotonic()
            words = f"Rebuilding the ledger from the stored files: {self._files:,} so far, {where}"
            self._say(words)
            log.info(words, extra={"event": "ledger.rebuilding"})

    def end(self, folders: int) -> None:
        if not folders:
            return
        log.info(
            "rebuilt the ledger: %d of %d files in %d folders had no row or another one, in %.1f s%s",
            self._restored,
            self._files,
            folders,
            time.monotonic() - self._began,
            "; what could not be looked at is left for the next start" if self.unread else "",
            extra={"event": "ledger.rebuilt"},
        )
