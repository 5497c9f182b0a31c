"""A signed-in IMAP conversation: folders, listings and bodies, as ``sources.base.Session`` promises.

Mailboxes are only ever examined, never selected: nothing here can change anything at the server. What is asked is here;
how answers become items is in ``listing``, ``fetching`` and ``windows``, how folder names are read in ``names``.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from typing import NoReturn

from aioimaplib import aioimaplib as library

from hauld.errors import ItemRejected, StaleCursor, Transient
from hauld.model import Criteria, FolderKind, Notice, Outcome, Page, RemoteFolder, Sink, Twin, Want
from hauld.sources.imap import answers, names
from hauld.sources.imap.arguments import Literal, astring
from hauld.sources.imap.fetching import BODIES, HEADS, Delivery, Heads, blocks, uid_set
from hauld.sources.imap.grammar import Data, Status, Value
from hauld.sources.imap.idling import Span, Watch
from hauld.sources.imap.listing import (
    DETAILS,
    STATUS_ITEMS,
    UIDS,
    Count,
    Cursor,
    Details,
    Found,
    Mailbox,
    cursors_told,
    decode_cursor,
    item_key,
    stretches,
    too_large,
)
from hauld.sources.imap.protocol import Connection
from hauld.sources.imap.windows import Windows

log = logging.getLogger(__name__)

PAGE_ITEMS = 1000
"""How many items one page of a listing has, at most."""

IN_FLIGHT = 4
"""How many FETCHes are under way at once, so that a round trip costs nothing."""

MOST_LEFT_OUT = 250_000
"""How many items SEARCH may have left out, by what the server says, and is helped out: their lines come at once."""

IN_UTF8 = b"CHARSET UTF-8"
"""What says of the texts of a SEARCH that they are not only ASCII."""


class ImapSession:
    """See ``sources.base.Session``. One caller at a time."""

    def __init__(
        self, connection: Connection, greeting: str, max_message_size: int | None, window: int, idle_span: Span
    ) -> None:
        self._connection = connection
        self._greeting = greeting
        self._max_size = max_message_size
        self._window = window
        self._watch = Watch(connection, idle_span)
        self._examined: tuple[bytes, Mailbox] | None = None
        self._hearing = ExitStack()  # what is said of the folder that is open, from its EXAMINE until the next
        self._only_whole = False  # the server was asked for parts of a body, and gave something else

    @property
    def greeting(self) -> str:
        return self._greeting

    @property
    def capabilities(self) -> Sequence[str]:
        return sorted(self._connection.capabilities)

    @property
    def alive(self) -> bool:
        return self._connection.failure is None

    # --- folders ---------------------------------------------------------------------------------------------------

    async def folders(self, *, cursors: bool = False) -> AsyncGenerator[RemoteFolder, None]:
        """What is told of the folder that is open is not believed: servers say what it was when they last looked (RFC 3501,
        6.3.10)."""
        told = await self._list_answers(cursors)
        known = {raw: cursor.encode() for raw, cursor in cursors_told(told).items()}
        if self._examined is not None:
            known.pop(self._examined[0], None)
        for folder in _folders(told):
            yield replace(folder, cursor=known.get(folder.raw))

    async def _list_answers(self, cursors: bool) -> Sequence[Data]:
        """The lines of a LIST, and of STATUS where it tells those along, too."""
        for wanted in _list_options(self._connection.capabilities, cursors):
            status, told = await self._connection.collect(("LIST", "STATUS"), "LIST", b'"" "*"' + wanted)
            if status.condition == "OK" and any(data.name == "LIST" for data in told):
                break
        else:
            self._give_up("list its folders", status)
        return told

    # --- listing ---------------------------------------------------------------------------------------------------

    async def list(self, folder: RemoteFolder, since: bytes | None) -> AsyncGenerator[Page, None]:
        mailbox = await self._examine(folder)
        cursor = Cursor(mailbox.uidvalidity, mailbox.uidnext, mailbox.exists, mailbox.highestmodseq)
        if cursor.proves and since is not None and decode_cursor(since) == cursor:
            yield Page(mailbox.epoch, cursor=since)
            return
        details = Details()
        uids, whole = await self._all_uids(folder, mailbox, details)
        if not whole:
            cursor = Cursor(mailbox.uidvalidity, None, None, None)
        last = Page(mailbox.epoch, cursor=cursor.encode(), whole=whole)
        if details.has(uids):
            if uids:
                yield Page(mailbox.epoch, details.take(mailbox.uidvalidity, uids, self._max_size))
        else:
            async with aclosing(self._pages(mailbox, uids)) as pages:
                async for page in pages:
                    yield page
        yield last

    async def _examine(self, folder: RemoteFolder) -> Mailbox:
        """Open the folder for reading, afresh even where it is open already."""
        mailbox = Mailbox()
        self._examined = None
        self._hearing.close()
        self._hearing.enter_context(self._connection.listening(mailbox.listen))
        status = await self._ask_examine(astring(folder.raw))
        if status.condition != "OK":
            self._hearing.close()
            self._connection.state = library.AUTH
            temporary = answers.setback(self._connection.where, status)
            if temporary is not None and temporary.kind != "unavailable":
                self._end(temporary)
            raise ItemRejected("folder", f"{self._connection.where} does not open {folder.name!r}: {answers.words(status)}")
        self._connection.state = library.SELECTED
        mailbox.opened()
        self._examined = (folder.raw, mailbox)
        return mailbox

    async def _ask_examine(self, name: bytes | Literal) -> Status:
        """With CONDSTORE where it is offered and works: Dovecot keeps no mod-sequences before somebody asks for them."""
        if "CONDSTORE" in self._connection.capabilities:
            status = await self._connection.ask("EXAMINE", name, b"(CONDSTORE)")
            if status.condition == "OK" or answers.setback(self._connection.where, status):
                return status
        return await self._connection.ask("EXAMINE", name)

    async def _all_uids(self, folder: RemoteFolder, mailbox: Mailbox, details: Details) -> tuple[Sequence[int], bool]:
        """The UIDs in the folder, and whether these are as many as the server says there are. What SEARCH leaves out is there
        where FETCH names it, unless that names more than there can be."""
        if mailbox.exists == 0 and mailbox.sound:
            return (), True
        count = asked = Count(mailbox)
        uids, least = await self._search_all(folder, mailbox, details, count)
        named, together = len(details.uids), uids
        if named:
            together = uids if details.uids <= set(uids) else sorted(details.uids | set(uids))
        elif 0 < least - len(uids) <= MOST_LEFT_OUT:
            asked = Count(mailbox)
            named, together = await self._ask_each(uids)
        believed = named <= count.most
        uids = together if believed else uids
        enough = len(uids) >= least or (believed and named >= asked.least)
        whole = mailbox.sound and count.told and enough
        if not whole:
            self._say_doubt(folder, len(uids), least if count.told else None, enough)
        return uids, whole

    async def _search_all(
        self, folder: RemoteFolder, mailbox: Mailbox, details: Details, count: Count
    ) -> tuple[Sequence[int], int]:
        """The UIDs that SEARCH names, and how many items there were at least. Of a small folder the details are asked for at
        once, and not when these are known: that spares a round trip."""
        found = Found()
        try:
            with self._connection.listening(details.listen):
                with self._connection.listening(found.listen):
                    answer = self._connection.begin("UID SEARCH", b"ALL")
                    if mailbox.exists is not None and mailbox.exists <= PAGE_ITEMS:
                        details.expect_any(PAGE_ITEMS)
                        rest = self._connection.begin("UID FETCH", b"1:* " + DETAILS)
                    else:
                        rest = answer
                    status = self._connection.answered(await asyncio.shield(answer))
                    uids, least = found.uids(), count.least
                self._check(self._connection.answered(await asyncio.shield(rest)))
        except BaseException:
            self._abandon()
            raise
        if status.condition != "OK":
            self._check(status)
            raise ItemRejected("folder", f"{self._connection.where} does not list {folder.name!r}: {answers.words(status)}")
        if not found.answered:
            self._give_up(f"list {folder.name!r}", status)
        return uids, least

    async def _ask_each(self, uids: Sequence[int]) -> tuple[int, Sequence[int]]:
        """How many UIDs FETCH names when it is asked for every item; these and those that are known, all ascending."""
        together, named = array("Q"), 0
        for stretch in stretches(uids):
            found = Found()
            with self._connection.listening(found.listen_to_fetch):
                self._check(await self._connection.ask("UID FETCH", stretch.uid_set, UIDS))
            here = stretch.of(found.uids())
            named += len(here)
            together.extend(sorted({*stretch.known, *here}))
        return named, together

    def _say_doubt(self, folder: RemoteFolder, listed: int, least: int | None, enough: bool) -> None:
        """A listing is not whole: tell why. ``least`` is how many items there are by what the server says."""
        if least is None:
            said = "does not say how many there are"
        elif enough:
            said = "contradicts itself about how many there are"
        else:
            said = f"says that there are at least {least}"
        log.warning(
            "%s lists %d items of %r, and %s: nothing is taken for gone.",
            self._connection.where,
            listed,
            folder.name,
            said,
            extra={"event": "folder.doubted"},
        )

    async def _pages(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncGenerator[Page, None]:
        """Pages of items, newest first, each with the details the server gives; the next ones are asked for meanwhile."""
        details = Details()
        asked: deque[tuple[Sequence[int], asyncio.Future[Status | None]]] = deque()
        starts = iter(range(len(uids), 0, -PAGE_ITEMS))
        with self._connection.listening(details.listen):
            try:
                while True:
                    while len(asked) < IN_FLIGHT and (end := next(starts, None)):
                        block = uids[max(0, end - PAGE_ITEMS) : end]
                        details.expect(block)
                        span = b"%d:%d " % (block[0], block[-1])
                        asked.append((block, self._connection.begin("UID FETCH", span + DETAILS)))
                    if not asked:
                        return
                    block, answer = asked[0]
                    status = self._connection.answered(await asyncio.shield(answer))
                    asked.popleft()
                    self._check(status)
                    yield Page(mailbox.epoch, details.take(mailbox.uidvalidity, block, self._max_size))
            except BaseException:
                self._abandon()
                raise

    # --- watching --------------------------------------------------------------------------------------------------

    async def watch(self, folder: RemoteFolder, patience: float) -> Notice | None:
        """Of a folder that is not open nobody has heard anything, so anything may have happened in it."""
        if "IDLE" not in self._connection.capabilities:
            raise ItemRejected("push", f"{self._connection.where} does not offer to push.")
        if not self._is_in(folder):
            await self._examine(folder)
            return Notice(new=True, other=True)
        assert self._examined is not None
        return await self._watch.notice(self._examined[1], patience)

    async def arrivals(self, folder: RemoteFolder, epoch: str, after: int) -> AsyncGenerator[Page, None]:
        """Where the server has said that items came, and no more than a page of them, they are asked for in one round trip.
        Else NOOP has it look first: many tell only of what they saw when they last did, and Dovecot does not look between
        commands that are sent together."""
        was_open = self._is_in(folder)
        mailbox = await self._be_in(folder, epoch)
        if was_open and not mailbox.arrived:
            self._check(await self._connection.ask("NOOP"))
        most = mailbox.most_above(after)
        mailbox.forget_arrivals()
        if most is not None and most <= PAGE_ITEMS:
            details = Details()
            uids = await self._ask_above(after, details)
            if uids:
                mailbox.reached(uids[-1])
                yield Page(epoch, details.take(mailbox.uidvalidity, uids, self._max_size))
            if uids is not None or mailbox.exists == 0:
                return
        async with aclosing(self._pages(mailbox, await self._search_above(folder, after))) as pages:
            async for page in pages:
                yield page

    async def _ask_above(self, after: int, details: Details) -> Sequence[int] | None:
        """The UIDs above this one, ascending, and their details; None where there are more than a page has, or where the server
        does not say."""
        details.expect_any(PAGE_ITEMS + 2)  # one more than a page, and the last item of all, which ``n:*`` always names
        with self._connection.listening(details.listen):
            status = await self._connection.ask("UID FETCH", b"%d:*" % (after + 1), DETAILS)
        self._check(status)
        uids = sorted(uid for uid in details.uids if uid > after)
        return uids if status.condition == "OK" and len(uids) <= PAGE_ITEMS else None

    async def _search_above(self, folder: RemoteFolder, after: int) -> Sequence[int]:
        """The UIDs above this one, ascending."""
        found = Found()
        with self._connection.listening(found.listen):
            status = await self._connection.ask("UID SEARCH", b"UID %d:*" % (after + 1))
        if status.condition != "OK" or not found.answered:
            self._give_up(f"tell what is new in {folder.name!r}", status)
        uids = found.uids()
        return uids[bisect_right(uids, after) :]

    # --- searching -------------------------------------------------------------------------------------------------

    async def search(self, folder: RemoteFolder, epoch: str, criteria: Criteria) -> AsyncGenerator[Sequence[str], None]:
        """Keys come once the server has named all: what it found before it failed is not the answer to what was asked."""
        mailbox = await self._be_in(folder, epoch)
        found = Found()
        terms = _search_terms(criteria)
        with self._connection.listening(found.listen):
            status = await self._connection.ask("UID SEARCH", *terms)
        if status.condition != "OK":
            self._check(status)
            foreign = " for letters beyond ASCII" if terms[0] == IN_UTF8 else ""
            said = answers.words(status)
            raise ItemRejected("folder", f"{self._connection.where} does not search {folder.name!r}{foreign}: {said}")
        uids = found.uids()
        for start in range(0, len(uids), PAGE_ITEMS):
            yield [item_key(mailbox.uidvalidity, uid) for uid in uids[start : start + PAGE_ITEMS]]

    # --- bodies ----------------------------------------------------------------------------------------------------

    async def fetch(
        self, folder: RemoteFolder, epoch: str, wants: Sequence[Want], sink: Sink
    ) -> AsyncGenerator[Sequence[Outcome | Twin], None]:
        await self._be_in(folder, epoch)
        delivery = Delivery(epoch, wants, sink, self._max_size, self._connection)
        large = deque(uid for uid, want in delivery.waiting.items() if self._is_large(want))
        unasked = deque(blocks(delivery.waiting.keys() - set(large)))
        asked: dict[asyncio.Future[Status | None], Sequence[int]] = {}
        with self._connection.listening(delivery.listen):
            try:
                while True:
                    if outcomes := delivery.take():  # what came counts, whatever becomes of the connection
                        yield outcomes
                        continue
                    for answer in [answer for answer in asked if answer.done()]:
                        self._settle(delivery, asked.pop(answer), self._connection.answered(answer.result()))
                    while len(asked) < IN_FLIGHT and unasked:
                        block = unasked.popleft()
                        answer = self._connection.begin("UID FETCH", uid_set(block) + b" " + BODIES)
                        answer.add_done_callback(lambda _: delivery.news.set())
                        asked[answer] = block
                    if asked or delivery.news.is_set():
                        await delivery.news.wait()
                    elif not large:
                        return
                    elif not await self._fetch_in_windows(delivery, uid := large.popleft(), sink):
                        unasked.append([uid])
            except BaseException:
                self._abandon()
                raise
            finally:
                delivery.close()

    def _is_large(self, want: Want) -> bool:
        """Whether to fetch the item in windows: a cut would cost much more than one of them, and it is not too large."""
        return want.size is not None and want.size >= 2 * self._window and not too_large(want.size, self._max_size)

    async def _fetch_in_windows(self, delivery: Delivery, uid: int, sink: Sink) -> bool:
        """Whether the item came; where it did not, it is to be asked for whole."""
        want = delivery.waiting.get(uid)
        if want is None:  # the server gave it unasked
            return True
        if self._only_whole or want.size is None or (writer := await sink.resume(want.key, want.size)) is None:
            return False
        windows = Windows(uid, want.size, self._window, writer, self._connection)
        try:
            with self._connection.listening(windows.listen):
                await self._ask_for(windows)
        except BaseException:
            writer.leave()
            raise
        finally:
            self._connection.release(writer)
        if windows.complete:
            delivery.deliver(uid, writer)
            return True
        writer.discard()
        self._only_whole |= windows.wrong
        log.warning(
            "%s: an item of %d bytes is fetched whole, not in windows: %s",
            self._connection.where,
            want.size,
            windows.trouble,
            extra={"event": "fetch.whole"},
        )
        return uid not in delivery.waiting

    async def _ask_for(self, windows: Windows) -> None:
        """Ask for windows until there is none to ask for, and wait for all of them."""
        asked: deque[asyncio.Future[Status | None]] = deque()
        while True:
            while (question := windows.ask()) is not None:
                asked.append(self._connection.begin("UID FETCH", question))
            if not asked:
                return
            status = self._connection.answered(await asyncio.shield(asked.popleft()))
            self._check(status)
            windows.answer(status)

    async def heads(self, folder: RemoteFolder, epoch: str, keys: Sequence[str], size: int = 4096) -> Mapping[str, bytes]:
        await self._be_in(folder, epoch)
        heads = Heads(epoch, keys, size, self._connection)
        unasked = blocks(heads.uids)
        asked: deque[asyncio.Future[Status | None]] = deque()
        with self._connection.listening(heads.listen):
            try:
                while True:
                    while len(asked) < IN_FLIGHT and (block := next(unasked, None)):
                        asked.append(self._connection.begin("UID FETCH", uid_set(block) + b" " + HEADS % size))
                    if not asked:
                        return heads.by_key
                    self._check(self._connection.answered(await asyncio.shield(asked.popleft())))
            except BaseException:
                self._abandon()
                raise

    def _is_in(self, folder: RemoteFolder) -> bool:
        return self._examined is not None and self._examined[0] == folder.raw

    async def _be_in(self, folder: RemoteFolder, epoch: str) -> Mailbox:
        """The folder, open, unless it is in another epoch."""
        if not self._is_in(folder):
            await self._examine(folder)
        assert self._examined is not None
        actual = self._examined[1].epoch
        if actual != epoch:
            raise StaleCursor(f"{folder.name!r} is in epoch {actual} now, not in {epoch}.", epoch=actual)
        return self._examined[1]

    def _settle(self, delivery: Delivery, block: Sequence[int], status: Status) -> None:
        """A command was answered: what it asked for and has not come is missing."""
        self._check(status)
        said = "the server's answer left it out" if status.condition == "OK" else f"the server said: {answers.words(status)}"
        delivery.give_up(block, said)

    # --- ends ------------------------------------------------------------------------------------------------------

    def _check(self, status: Status) -> None:
        """Raise where the server says that it cannot just now; what it says of the items alone is not for here."""
        if status.condition != "OK" and (temporary := answers.setback(self._connection.where, status)):
            self._end(temporary)

    def _give_up(self, what: str, status: Status) -> NoReturn:
        self._check(status)
        self._end(Transient("unavailable", f"{self._connection.where} did not {what}: {answers.words(status)}"))

    def _end(self, error: Transient) -> NoReturn:
        self._connection.end(error)
        raise error

    def _abandon(self) -> None:
        """A conversation that is left while answers are due, or reading is paused, cannot be gone on with."""
        self._connection.end(Transient("abandoned", f"{self._connection.where}: the conversation was left in the middle."))


# --- writing SEARCH ------------------------------------------------------------------------------------------------


def _search_terms(criteria: Criteria) -> list[bytes | Literal]:
    """What SEARCH is asked for. A charset is named only where it matters: some servers know none (RFC 3501, 6.4.4)."""
    terms: list[bytes | Literal] = [b"UNSEEN"] if criteria.unseen else []
    texts = {b"FROM": criteria.sender, b"TO": criteria.to, b"SUBJECT": criteria.subject}
    for name, text in texts.items():
        if text is not None:
            terms += [name, astring(text.encode())]
    if not all((text or "").isascii() for text in texts.values()):
        terms.insert(0, IN_UTF8)
    return terms or [b"ALL"]


# --- LIST ----------------------------------------------------------------------------------------------------------


def _list_options(capabilities: Set[str], cursors: bool) -> Iterator[bytes]:
    """What to ask for with the names of the folders (RFC 5258, 6154 and 5819), and what instead when that is refused."""
    use = [b"SPECIAL-USE"] if {"SPECIAL-USE", "LIST-EXTENDED"} <= capabilities else []
    if cursors and {"LIST-STATUS", "CONDSTORE"} <= capabilities:
        yield b" RETURN (" + b" ".join([*use, STATUS_ITEMS]) + b")"
    if use:
        yield b" RETURN (SPECIAL-USE)"
    yield b""


@dataclass
class _Listed:
    """One folder, from every line that names it."""

    path: tuple[str, ...]
    attributes: set[bytes]
    selectable: bool


def _folders(told: Sequence[Data]) -> Iterator[RemoteFolder]:
    """Each folder once. The kind is what the server declares; where it declares none at all, what the names suggest."""
    listed: dict[bytes, _Listed] = {}
    for attributes, delimiter, raw in filter(None, (_list_line(data) for data in told if data.name == "LIST")):
        selectable = not attributes & {b"\\NOSELECT", b"\\NONEXISTENT"}
        folder = listed.setdefault(raw, _Listed(names.path_of(raw, delimiter), set(), False))
        folder.attributes |= attributes
        folder.selectable |= selectable
    declared = any(names.declared_kind(folder.attributes) for folder in listed.values())
    for raw, folder in listed.items():
        if raw == names.INBOX:
            kind = FolderKind.INBOX
        else:
            found = names.declared_kind(folder.attributes) if declared else names.customary_kind(folder.path)
            kind = found or FolderKind.OTHER
        yield RemoteFolder(raw, folder.path, kind, folder.selectable)


def _list_line(data: Data) -> tuple[set[bytes], bytes | None, bytes] | None:
    """Attributes in upper case, delimiter and raw name; None for a line that names no folder."""
    values: Sequence[Value] = data.values
    if len(values) < 3 or not isinstance(values[0], list):
        return None
    attributes = {attribute.upper() for attribute in values[0] if isinstance(attribute, bytes)}
    delimiter, name = values[1], values[2]
    if isinstance(name, list) or not (delimiter is None or isinstance(delimiter, bytes)):
        return None
    raw = name if isinstance(name, bytes) else b"NIL"
    return attributes, delimiter, names.canonical(raw)
