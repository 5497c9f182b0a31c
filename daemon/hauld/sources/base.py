"""What every source promises. The contract suite (``tests/contracts/source.py``) holds each implementation to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from hauld.model import Criteria, Notice, Outcome, Page, RemoteFolder, Sink, Twin, Want


class Session(Protocol):
    """One authenticated conversation. Any error but ``StaleCursor`` and ``ItemRejected`` ends it: open another.

    Every method raises ``Transient`` when the connection goes or stays silent for longer than the account's timeout, and
    ``NeedsAttention`` when a person has to act. A listing or a fetch that is closed before its end ends the session.
    """

    @property
    def greeting(self) -> str:
        """What the origin said of itself, for people."""
        ...

    @property
    def capabilities(self) -> Sequence[str]:
        """What the origin says it can do."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the conversation can go on; False after any error."""
        ...

    def folders(self, *, cursors: bool = False) -> AsyncGenerator[RemoteFolder, None]:
        """Every folder of the account, once each, in any order. With ``cursors``, with its cursor where the origin tells it
        along: one that is equal to the cursor of an earlier listing proves that nothing changed."""
        ...

    def list(self, folder: RemoteFolder, since: bytes | None) -> AsyncGenerator[Page, None]:
        """The folder's items, as pages. ``since`` is an earlier cursor: when it proves that nothing changed, one page
        without items comes back. Nothing is left out: an item the origin named without details is listed without them.
        Raises ``ItemRejected`` (kind ``folder``) when this folder cannot be read while others can."""
        ...

    def search(self, folder: RemoteFolder, epoch: str, criteria: Criteria) -> AsyncGenerator[Sequence[str], None]:
        """The keys of the items that fit, some at a time. Raises ``StaleCursor`` when the folder is in another epoch, and
        ``ItemRejected`` (kind ``folder``) when this folder cannot be searched while others can."""
        ...

    def fetch(
        self, folder: RemoteFolder, epoch: str, wants: Sequence[Want], sink: Sink
    ) -> AsyncGenerator[Sequence[Outcome | Twin], None]:
        """Exactly one outcome for each want, in any order, some at a time as they come; a ``Twin`` may follow an outcome.
        Raises ``StaleCursor`` before any byte when the folder is in another epoch."""
        ...

    async def watch(self, folder: RemoteFolder, patience: float) -> Notice | None:
        """Wait until the origin says that something in the folder has changed since it was last listed or asked about on this
        session; None when ``patience`` seconds have passed. What happened between two calls is told by the next one; where the
        session has been in another folder meanwhile, or never in this one, it is told at once that anything may have happened.
        Raises ``ItemRejected`` where the origin has no push or refuses it (kind ``push``), or where the folder cannot be read
        while others can (kind ``folder``). Being cancelled ends the session."""
        ...

    def arrivals(self, folder: RemoteFolder, epoch: str, after: int) -> AsyncGenerator[Page, None]:
        """The folder's items whose ordinal is greater than ``after``, as pages without a cursor: none where there are none.
        Raises ``StaleCursor`` when the folder is in another epoch, and ``ItemRejected`` (kind ``folder``) as ``list`` does."""
        ...

    async def heads(self, folder: RemoteFolder, epoch: str, keys: Sequence[str], size: int = 4096) -> Mapping[str, bytes]:
        """The first ``size`` bytes of each of these items, all where it has fewer, by key; one that the origin does not give
        is left out. All are in memory at once. Raises ``StaleCursor`` when the folder is in another epoch."""
        ...


class Source(Protocol):
    """One account's origin."""

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Connect, sign in, and hand out the conversation; leaving ends it, whatever state it is in."""
        ...


class Finding(NamedTuple):
    """What was seen at one step of the way to an origin: ``topic`` names the step, ``message`` is for people; where there is a
    ``hint``, something should be done, and it says what."""

    topic: str
    message: str
    hint: str | None = None


class Examiner(Protocol):
    """What looks at the way to an account's origin."""

    @property
    def steps(self) -> Sequence[str]:
        """The topics of an examination, in order."""
        ...

    def examine(self, *, sign_in: bool = True) -> AsyncGenerator[Finding, None]:
        """Go step by step and say what is seen, changing nothing; one finding for each of ``steps``, and perhaps more. Raises
        ``HaulError`` where the next of them fails. Signs in once, or not at all: then it ends before that."""
        ...
