"""What every source must do, as tests. A source's test module subclasses ``SourceContract`` and overrides ``origin``.

``MemorySink`` is a sink for tests of sources: it keeps bodies in memory, can be slow, and can break.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from hauld.errors import HaulError, ItemRejected, StaleCursor, Transient
from hauld.model import OVERLAP, Buffer, Criteria, Fetched, Missing, Notice, Outcome, Page, RemoteFolder, RemoteItem, Twin, Want
from hauld.sources.base import Session, Source

LETTERS = [
    b"From: Ada <ada@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: Invoice 7\r\n\r\nfrom Eve\r\n",
    b"From: Eve <eve@example.org>\r\nTo: Ada <ada@example.net>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n",
    b'From: Eve <eve@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: a "quoted\\word"\r\n\r\ninvoice\r\n',
]


ARRIVING = b"From: Ada <ada@example.org>\r\nSubject: just now\r\n\r\nnew\r\n"
"""An item that was not there before."""

PATIENCE = 20.0
"""Seconds for which to wait for what is sure to happen."""


@dataclass(frozen=True)
class Origin:
    """A source, and what it holds: bodies by display name, at least three in one of the folders, and ``LETTERS``, all of them
    unseen, in ``Letters``. ``deliver`` puts one more body into the folder of that display name."""

    source: Source
    contents: Mapping[str, Sequence[bytes]]
    deliver: Callable[[str, bytes], Awaitable[None]]


class SourceContract:
    """``proves_unchanged`` is whether this origin's cursors can prove that nothing changed, ``pushes`` whether it tells by
    itself that something has."""

    proves_unchanged = True
    pushes = True

    @pytest.fixture
    def origin(self) -> Origin:
        raise NotImplementedError

    async def test_every_folder_is_listed_once_under_its_name(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            listed = [folder async for folder in session.folders()]
        assert sorted(folder.name for folder in listed if folder.selectable) == sorted(origin.contents)
        assert len({folder.raw for folder in listed}) == len(listed)

    async def test_a_session_says_what_it_speaks_to(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            assert session.alive
            assert session.greeting
            assert session.capabilities

    async def test_a_listing_names_every_item_once_and_ends_with_a_cursor(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            for folder in await folders(session):
                pages = [page async for page in session.list(folder, None)]
                items = [item for page in pages for item in page.items]
                assert len(items) == len(origin.contents[folder.name])
                assert len({item.key for item in items}) == len({item.ordinal for item in items}) == len(items)
                assert {page.epoch for page in pages} == {pages[0].epoch}
                assert pages[-1].whole
                assert pages[-1].cursor
                assert not any(page.cursor or page.whole for page in pages[:-1])

    async def test_a_cursor_that_proves_that_nothing_changed_comes_back_without_items(self, origin: Origin) -> None:
        if not self.proves_unchanged:
            pytest.skip("this origin cannot prove that nothing changed")
        async with origin.source.session() as session:
            for folder in await folders(session):
                cursor = (await listing(session, folder))[-1].cursor
                assert [(page.items, page.cursor, page.whole) async for page in session.list(folder, cursor)] == [
                    ((), cursor, False)
                ]

    async def test_a_cursor_of_something_else_proves_nothing(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            pages = [page async for page in session.list(folder, b"\x00 not a cursor")]
            assert sum(len(page.items) for page in pages) == len(origin.contents[folder.name])
            assert pages[-1].whole

    async def test_every_want_gets_its_exact_bytes_in_one_outcome(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            for folder in await folders(session):
                sink = MemorySink()
                epoch, items = await items_of(session, folder)
                outcomes = await fetched(session, folder, epoch, [item.key for item in items], sink)
                assert sorted(outcome.key for outcome in outcomes) == sorted(item.key for item in items)
                assert sorted(body_of(outcome) for outcome in outcomes) == sorted(origin.contents[folder.name])
                assert not sink.unfinished

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    async def test_an_item_is_gone_on_with_behind_what_is_there_of_it(self, origin: Origin, share: float) -> None:
        async with origin.source.session() as session:
            for folder in await folders(session):
                epoch, items = await items_of(session, folder)
                whole = await fetched(session, folder, epoch, [item.key for item in items])
                bodies = {outcome.key: body_of(outcome) for outcome in whole}
                sink = MemorySink()
                sink.left = {key: body[: int(share * len(body))] for key, body in bodies.items()}
                wants = [Want(item.key, item.size) for item in items]
                outcomes = [outcome async for some in session.fetch(folder, epoch, wants, sink) for outcome in some]
                assert {outcome.key: body_of(outcome) for outcome in outcomes} == bodies
                assert len(outcomes) == len(bodies)
                assert not sink.unfinished

    @pytest.fixture
    def doubling(self) -> Origin | None:
        """An origin like ``origin`` that gives each body a second time, with other bytes; None where this kind cannot."""
        return None

    async def test_P20_a_second_body_for_a_key_is_a_twin_behind_its_outcome(self, doubling: Origin | None) -> None:
        if doubling is None:
            pytest.skip("this origin never gives a second body")
        async with doubling.source.session() as session:
            folder = await fullest(session, doubling)
            sink = MemorySink()
            epoch, items = await items_of(session, folder)
            keys = sorted(item.key for item in items)
            told = await fetched(session, folder, epoch, keys, sink)
            assert sorted(outcome.key for outcome in told if not isinstance(outcome, Twin)) == keys
            assert sorted(outcome.key for outcome in told if isinstance(outcome, Twin)) == keys
            for key in keys:
                first, second = (outcome for outcome in told if outcome.key == key)
                assert (type(first), type(second)) == (Fetched, Twin)
                assert body_of(first) in doubling.contents[folder.name]
                assert body_of(second) not in doubling.contents[folder.name]
            assert not sink.unfinished
            assert session.alive

    async def test_only_what_is_wanted_is_fetched(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            sink = MemorySink()
            (outcome,) = await fetched(session, folder, epoch, [items[1].key], sink)
            assert outcome.key == items[1].key
            assert len(sink.writers) == 1
            assert await fetched(session, folder, epoch, [], sink) == []

    async def test_an_item_that_is_not_there_is_missing(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            unknown = self.unknown_key(epoch)
            outcomes = {outcome.key: outcome for outcome in await fetched(session, folder, epoch, [items[0].key, unknown])}
            assert isinstance(outcomes[items[0].key], Fetched)
            assert isinstance(outcomes[unknown], Missing)
            assert session.alive

    def unknown_key(self, epoch: str) -> str:
        """A well-formed key that the origin does not have."""
        return f"{epoch}.999999"

    async def test_another_epoch_is_stale_before_any_byte(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            sink = MemorySink()
            with pytest.raises(StaleCursor) as stale:
                await fetched(session, folder, epoch + "0", [items[0].key], sink)
            assert stale.value.epoch == epoch
            assert not sink.writers
            assert session.alive

    @pytest.mark.parametrize("size", [10, 4096])
    async def test_the_beginnings_of_items_come_by_key(self, origin: Origin, size: int) -> None:
        async with origin.source.session() as session:
            for folder in await folders(session):
                epoch, items = await items_of(session, folder)
                outcomes = await fetched(session, folder, epoch, [item.key for item in items])
                heads = await session.heads(folder, epoch, [item.key for item in items], size)
                assert heads == {outcome.key: body_of(outcome)[:size] for outcome in outcomes}
            assert session.alive

    async def test_a_beginning_that_the_origin_does_not_have_is_left_out(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            assert await session.heads(folder, epoch, []) == {}
            heads = await session.heads(folder, epoch, [items[0].key, self.unknown_key(epoch), "no key"])
            assert heads.keys() == {items[0].key}

    async def test_the_beginnings_of_another_epoch_are_stale(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            with pytest.raises(StaleCursor) as stale:
                await session.heads(folder, epoch + "0", [items[0].key])
            assert stale.value.epoch == epoch
            assert session.alive

    async def test_a_folder_that_is_not_there_is_rejected_and_others_can_be_read(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            with pytest.raises(ItemRejected) as rejected:
                await listing(session, RemoteFolder(b"no such folder", ("no such folder",)))
            assert rejected.value.kind == "folder"
            assert session.alive
            assert await listing(session, await fullest(session, origin))

    @pytest.mark.parametrize(
        ("criteria", "found"),
        [
            (Criteria(), [0, 1, 2]),
            (Criteria(unseen=True), [0, 1, 2]),
            (Criteria(sender="eve"), [1, 2]),
            (Criteria(to="bob@example.net"), [0, 2]),
            (Criteria(subject="INVOICE"), [0]),
            (Criteria(subject="gr\u00fc\u00dfe"), [1]),
            (Criteria(subject='"quoted\\word"'), [2]),
            (Criteria(unseen=True, sender="Eve", to="bob"), [2]),
            (Criteria(sender="nobody"), []),
        ],
    )
    async def test_a_search_names_the_items_that_fit(self, origin: Origin, criteria: Criteria, found: list[int]) -> None:
        async with origin.source.session() as session:
            letters = next(folder for folder in await folders(session) if folder.name == "Letters")
            epoch, _ = await items_of(session, letters)
            keys = [key async for some in session.search(letters, epoch, criteria) for key in some]
            bodies = sorted(body_of(outcome) for outcome in await fetched(session, letters, epoch, keys))
            assert bodies == sorted(LETTERS[number] for number in found)

    async def test_a_search_in_another_epoch_is_stale(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, _ = await items_of(session, folder)
            with pytest.raises(StaleCursor) as stale:
                await anext(session.search(folder, epoch + "0", Criteria(unseen=True)))
            assert stale.value.epoch == epoch
            assert session.alive

    async def test_arrivals_are_the_items_above_an_ordinal(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            for folder in await folders(session):
                epoch, items = await items_of(session, folder)
                ordinals = sorted(item.ordinal for item in items)
                for after in {0, *ordinals[:2], *ordinals[-2:], *(ordinal + 7 for ordinal in ordinals[-1:])}:
                    found = await arrived(session, folder, epoch, after)
                    assert sorted(found, key=by_age) == sorted((item for item in items if item.ordinal > after), key=by_age)
            assert session.alive

    async def test_what_arrived_since_the_listing_is_among_the_arrivals(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            newest = max(item.ordinal for item in items)
            await origin.deliver(folder.name, ARRIVING)
            (item,) = await arrived(session, folder, epoch, newest)
            assert item.ordinal > newest
            assert item.size == len(ARRIVING)
            (outcome,) = await fetched(session, folder, epoch, [item.key])
            assert body_of(outcome) == ARRIVING
            assert await arrived(session, folder, epoch, item.ordinal) == []

    async def test_the_pages_of_arrivals_have_no_cursor(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, _ = await items_of(session, folder)
            pages = [page async for page in session.arrivals(folder, epoch, 0)]
            assert pages
            assert {(page.epoch, page.cursor, page.whole) for page in pages} == {(epoch, None, False)}
            assert all(page.items for page in pages)

    async def test_arrivals_of_another_epoch_are_stale(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, _ = await items_of(session, folder)
            with pytest.raises(StaleCursor) as stale:
                await arrived(session, folder, epoch + "0", 0)
            assert stale.value.epoch == epoch
            assert session.alive

    async def test_a_folder_that_is_not_there_has_neither_arrivals_nor_news(self, origin: Origin) -> None:
        nowhere = RemoteFolder(b"no such folder", ("no such folder",))
        async with origin.source.session() as session:
            with pytest.raises(ItemRejected) as rejected:
                await arrived(session, nowhere, "1", 0)
            assert rejected.value.kind == "folder"
            with pytest.raises(ItemRejected) as rejected:
                await session.watch(nowhere, PATIENCE)
            assert rejected.value.kind == ("folder" if self.pushes else "push")
            assert session.alive

    async def test_where_nothing_happens_a_watch_has_nothing_to_tell(self, origin: Origin) -> None:
        self.expect_push()
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            await listing(session, folder)
            for patience in (0.0, 0.05, 0.05):
                assert await session.watch(folder, patience) is None
            assert session.alive

    async def test_a_watch_ends_as_soon_as_something_arrives(self, origin: Origin) -> None:
        self.expect_push()
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            newest = max(item.ordinal for item in items)
            for _ in range(2):
                watching = asyncio.create_task(session.watch(folder, PATIENCE))
                await asyncio.sleep(0)  # it has begun, as far as it gets
                await origin.deliver(folder.name, ARRIVING)
                notice = await watching
                assert notice is not None
                assert notice.new
                (item,) = await arrived(session, folder, epoch, newest)
                (outcome,) = await fetched(session, folder, epoch, [item.key])
                assert body_of(outcome) == ARRIVING
                newest = item.ordinal
            assert len((await items_of(session, folder))[1]) == len(items) + 2

    async def test_what_happened_between_two_watches_is_told_by_the_next(self, origin: Origin) -> None:
        self.expect_push()
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            await listing(session, folder)
            assert await session.watch(folder, 0.05) is None
            await origin.deliver(folder.name, ARRIVING)
            notice = await session.watch(folder, PATIENCE)
            assert notice is not None
            assert notice.new

    async def test_of_a_folder_that_the_session_left_anything_is_told(self, origin: Origin) -> None:
        self.expect_push()
        async with origin.source.session() as session:
            first, second, *_ = await folders(session)
            assert await session.watch(first, PATIENCE) == Notice(new=True, other=True)
            await listing(session, second)
            assert await session.watch(first, PATIENCE) == Notice(new=True, other=True)
            assert await session.watch(first, 0.05) is None

    async def test_a_watch_that_is_cancelled_ends_the_session(self, origin: Origin) -> None:
        self.expect_push()
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            await listing(session, folder)
            watching = asyncio.create_task(session.watch(folder, PATIENCE))
            await asyncio.sleep(0)
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching
            assert not session.alive
            with pytest.raises(HaulError):
                await session.watch(folder, PATIENCE)

    async def test_an_origin_without_push_says_so_and_stays(self, origin: Origin) -> None:
        if self.pushes:
            pytest.skip("this origin pushes")
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            with pytest.raises(ItemRejected) as rejected:
                await session.watch(folder, PATIENCE)
            assert rejected.value.kind == "push"
            assert session.alive

    def expect_push(self) -> None:
        if not self.pushes:
            pytest.skip("this origin does not push")

    async def test_a_slow_sink_gets_every_byte_all_the_same(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            sink = MemorySink(slow=True)
            outcomes = await fetched(session, folder, epoch, [item.key for item in items], sink)
            assert sorted(body_of(outcome) for outcome in outcomes) == sorted(origin.contents[folder.name])
            assert sink.pauses

    async def test_trouble_with_the_sink_ends_the_session_with_that_error(self, origin: Origin) -> None:
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            with pytest.raises(Transient) as trouble:
                await fetched(session, folder, epoch, [item.key for item in items], MemorySink(broken=True))
            assert trouble.value.kind == "disk"
            assert not session.alive

    async def test_a_fetch_that_is_closed_before_its_end_ends_the_session(self, origin: Origin) -> None:
        sink = MemorySink()
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            async with aclosing(session.fetch(folder, epoch, [Want(item.key) for item in items], sink)) as fetching:
                assert await anext(fetching)
            assert not session.alive
        assert not sink.unfinished

    async def test_a_session_left_in_the_middle_keeps_nothing_half_done(self, origin: Origin) -> None:
        sink = MemorySink(stuck=True)
        async with origin.source.session() as session:
            folder = await fullest(session, origin)
            epoch, items = await items_of(session, folder)
            fetching = asyncio.create_task(fetched(session, folder, epoch, [item.key for item in items], sink))
            await sink.reached.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            assert not session.alive
            with pytest.raises(HaulError):
                await listing(session, folder)
        assert not sink.unfinished
        async with origin.source.session() as session:
            assert await listing(session, folder)


# --- asking --------------------------------------------------------------------------------------------------------


async def folders(session: Session) -> list[RemoteFolder]:
    return [folder async for folder in session.folders() if folder.selectable]


async def fullest(session: Session, origin: Origin) -> RemoteFolder:
    return max(await folders(session), key=lambda folder: len(origin.contents[folder.name]))


async def listing(session: Session, folder: RemoteFolder) -> list[Page]:
    return [page async for page in session.list(folder, None)]


async def items_of(session: Session, folder: RemoteFolder) -> tuple[str, list[RemoteItem]]:
    pages = await listing(session, folder)
    return pages[0].epoch, [item for page in pages for item in page.items]


async def arrived(session: Session, folder: RemoteFolder, epoch: str, after: int) -> list[RemoteItem]:
    return [item async for page in session.arrivals(folder, epoch, after) for item in page.items]


def by_age(item: RemoteItem) -> int:
    return item.ordinal


async def fetched(
    session: Session, folder: RemoteFolder, epoch: str, keys: Sequence[str], sink: MemorySink | None = None
) -> list[Outcome | Twin]:
    """All outcomes of one fetch, and twins where the origin gives any."""
    wants = [Want(key) for key in keys]
    outcomes: list[Outcome | Twin] = []
    async for some in session.fetch(folder, epoch, wants, sink or MemorySink()):
        assert some
        outcomes += some
    return outcomes


def body_of(outcome: Outcome | Twin) -> bytes:
    assert isinstance(outcome, Fetched | Twin), outcome
    assert isinstance(outcome.body, MemoryWriter)
    return bytes(outcome.body.data)


# --- a sink --------------------------------------------------------------------------------------------------------


class MemorySink:
    """Keeps what it is given. ``slow``: asks to wait after every write; ``stuck``: for ever; ``broken``: the disk is full.
    ``reached`` is set by the first write. What ``left`` has by key is where ``resume`` goes on, and where it is left again."""

    def __init__(self, *, slow: bool = False, stuck: bool = False, broken: bool = False) -> None:
        self.left: dict[str, bytes] = {}
        self.slow = slow
        self.stuck = stuck
        self.broken = broken
        self.pauses = 0
        self.reached = asyncio.Event()
        self.writers: list[MemoryWriter] = []

    def open(self, key: str, size: int) -> MemoryWriter:
        self.writers.append(MemoryWriter(self, key, size))
        return self.writers[-1]

    async def resume(self, key: str, size: int) -> MemoryWriter:
        writer = self.open(key, size)
        writer.begin(self.left.pop(key, b""))
        return writer

    @property
    def unfinished(self) -> list[MemoryWriter]:
        """Writers neither finished, left nor discarded."""
        return [writer for writer in self.writers if not (writer.finished or writer.discarded)]


class MemoryWriter:
    """A writer, and the body it makes."""

    def __init__(self, sink: MemorySink, key: str, announced: int) -> None:
        self.key = key
        self.announced = announced
        self.data = bytearray()
        self.offset = 0
        self.tail = b""
        self.finished = False
        self.discarded = False
        self._sink = sink

    def begin(self, data: bytes) -> None:
        """Go on behind these bytes."""
        self.data += data
        self.offset = len(data)
        self.tail = data[-OVERLAP:]

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: Buffer) -> bool:
        self._expect_open()
        self._sink.reached.set()
        if self._sink.broken:
            raise Transient("disk", "No space left on device.")
        self.data += data
        return not (self._sink.slow or self._sink.stuck)

    def when_ready(self, resume: Callable[[], None]) -> None:
        self._sink.pauses += 1
        if not self._sink.stuck:
            asyncio.get_running_loop().call_soon(resume)

    def finish(self) -> MemoryWriter:
        self._expect_open()
        self.finished = True
        return self

    def discard(self) -> None:
        self.discarded = self.discarded or not self.finished

    def leave(self) -> None:
        if not (self.finished or self.discarded):
            self.discarded = True
            self._sink.left[self.key] = bytes(self.data)

    def _expect_open(self) -> None:
        assert not self.finished, "after finish"
        assert not self.discarded, "after discard"
