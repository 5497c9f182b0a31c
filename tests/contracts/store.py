"""What every store must keep, as tests. A store's own module derives from ``StoreContract`` and says how one is made.

``store_factory`` makes a store on the same tree each time; at most one of them is started at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from hauld.errors import Fatal, ItemRejected
from hauld.model import Deposit, FolderKind, Place, Placed, RemoteFolder, Writer
from hauld.stores.base import Store

StoreFactory = Callable[[], Store]

INBOX = RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX)
IDENTITY = "imap:me@mail.example.org"

ODD_BODIES = {
    "nothing": b"",
    "only CRLF": b"\r\n",
    "only LF": b"\n",
    "NUL": b"a: b\r\n\r\n\x00\x00\r\n",
    "bare LF and bare CR": b"a: b\nc: d\r\r\nbody\r",
    "no headers": b"\r\nbody",
    "no blank line": b"Subject: x",
    "eight bits": bytes(range(256)),
    "mbox look-alike": b"From me\r\n\r\n>From you\r\n",
    "dot alone": b"a: b\r\n\r\n.\r\n",
}


class RowsFailed(Exception):
    """The caller could not commit its rows."""


def staged(store: Store, place: Place, key: str, *chunks: bytes, flags: Sequence[str] = (), date: int | None = None) -> Deposit:
    """An item whose bytes came as these chunks."""
    writer = store.open(key, sum(map(len, chunks)))
    for chunk in chunks:
        writer.write(chunk)
    return Deposit(place, key.partition(".")[0], key, writer.finish(), tuple(flags), date)


async def stored(store: Store, *group: Deposit) -> Sequence[Placed]:
    """The group, committed and its rows too."""
    async with store.commit(group) as placed:
        return placed


async def write_all(writer: Writer, chunk: bytes, times: int) -> None:
    """So many chunks, resting whenever the writer asks for it."""
    for _ in range(times):
        if not writer.write(chunk):
            ready = asyncio.Event()
            writer.when_ready(ready.set)
            await ready.wait()


class StoreContract:
    """The promises of ``hauld.stores.base.Store``."""

    @pytest_asyncio.fixture
    async def store(self, store_factory: StoreFactory) -> AsyncIterator[Store]:
        store = store_factory()
        await store.start()
        yield store
        await store.close()

    @pytest_asyncio.fixture
    async def inbox(self, store: Store) -> Place:
        return await store.prepare(IDENTITY, "work", INBOX, None)

    # --- bytes ---

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    async def test_P36_P37_bytes_come_back_exactly_as_they_came(self, store: Store, inbox: Place, body: bytes) -> None:
        [placed] = await stored(store, staged(store, inbox, "7.1", body))
        assert await store.read(placed.path) == body
        assert placed.size == len(body)
        assert placed.sha256 == hashlib.sha256(body).hexdigest()

    async def test_a_group_is_placed_in_its_order(self, store: Store, inbox: Place) -> None:
        keys = [f"7.{uid}" for uid in (9, 2, 5, 1, 3, 8)]
        placed = await stored(store, *(staged(store, inbox, key, key.encode()) for key in keys))
        assert [item.key for item in placed] == keys
        assert {(item.identity, item.folder, item.epoch) for item in placed} == {(IDENTITY, b"INBOX", "7")}
        assert [await store.read(item.path) for item in placed] == [key.encode() for key in keys]

    async def test_an_empty_group_is_nothing(self, store: Store) -> None:
        assert list(await stored(store)) == []

    async def test_a_large_body_in_many_chunks_is_stored_whole(self, store: Store, inbox: Place) -> None:
        chunk = bytes(range(256)) * 400
        writer = store.open("7.1", len(chunk) * 40)
        await write_all(writer, chunk, 40)
        [placed] = await stored(store, Deposit(inbox, "7", "7.1", writer.finish()))
        assert await store.read(placed.path) == chunk * 40

    async def test_the_bytes_given_to_a_writer_may_change_afterwards(self, store: Store, inbox: Place) -> None:
        buffer = bytearray(b"x" * 400_000)
        writer = store.open("7.1", 800_000)
        for letter in b"ab":
            buffer[:] = bytes([letter]) * len(buffer)
            writer.write(memoryview(buffer))
        buffer[:] = b"!" * len(buffer)
        [placed] = await stored(store, Deposit(inbox, "7", "7.1", writer.finish()))
        assert await store.read(placed.path) == b"a" * 400_000 + b"b" * 400_000

    async def test_a_writer_that_never_had_to_wait_is_ready_at_once(self, store: Store) -> None:
        ready = asyncio.Event()
        store.open("7.1", 10).when_ready(ready.set)
        await asyncio.wait_for(ready.wait(), 10)

    async def test_a_broken_off_item_leaves_nothing(self, store: Store, inbox: Place, store_factory: StoreFactory) -> None:
        for chunks in (1, 30):
            writer = store.open("7.1", 30 * 100_000)
            for _ in range(chunks):
                writer.write(b"x" * 100_000)
            writer.discard()
        await stored(store, staged(store, inbox, "7.2", b"other"))
        assert [item.key for item in store.scan()] == ["7.2"]
        await store.close()
        again = store_factory()
        await again.start()
        assert list(await again.recover()) == []
        await again.close()

    async def test_discarding_a_finished_item_does_nothing(self, store: Store, inbox: Place) -> None:
        writer = store.open("7.1", 3)
        writer.write(b"abc")
        body = writer.finish()
        writer.discard()
        [placed] = await stored(store, Deposit(inbox, "7", "7.1", body))
        assert await store.read(placed.path) == b"abc"

    # --- commits and crashes ---

    async def test_a_commit_left_in_order_is_not_reported_again(self, store: Store, inbox: Place) -> None:
        await stored(store, staged(store, inbox, "7.1", b"one"))
        assert list(await store.recover()) == []

    async def test_a_group_whose_rows_failed_is_reported_until_settled(self, store: Store, inbox: Place) -> None:
        with pytest.raises(RowsFailed):
            async with store.commit([staged(store, inbox, f"7.{uid}", b"%d" % uid) for uid in (1, 2)]) as placed:
                raise RowsFailed
        assert list(await store.recover()) == list(placed)
        assert list(await store.recover()) == list(placed)
        await store.settle()
        assert list(await store.recover()) == []
        assert [await store.read(item.path) for item in placed] == [b"1", b"2"]

    async def test_a_group_whose_rows_failed_is_reported_after_a_restart(
        self, store: Store, inbox: Place, store_factory: StoreFactory
    ) -> None:
        with pytest.raises(RowsFailed):
            async with store.commit([staged(store, inbox, "7.1", b"one")]) as placed:
                raise RowsFailed
        await store.close()
        again = store_factory()
        await again.start()
        assert list(await again.recover()) == list(placed)
        await again.settle()
        assert list(await again.recover()) == []
        await again.close()

    async def test_L14_what_was_staged_and_never_committed_is_swept(
        self, store: Store, inbox: Place, store_factory: StoreFactory
    ) -> None:
        staged(store, inbox, "7.1", b"x" * 1_000_000)
        await store.close()
        again = store_factory()
        await again.start()
        assert list(await again.recover()) == []
        assert list(again.scan()) == []
        await again.close()

    async def test_recovery_leaves_alone_what_is_being_written(self, store: Store, inbox: Place) -> None:
        writer = store.open("7.1", 800_000)
        writer.write(b"a" * 400_000)
        await store.recover()
        await store.settle()
        writer.write(b"b" * 400_000)
        [placed] = await stored(store, Deposit(inbox, "7", "7.1", writer.finish()))
        assert await store.read(placed.path) == b"a" * 400_000 + b"b" * 400_000

    async def test_storing_an_item_again_makes_no_second_one(self, store: Store, inbox: Place) -> None:
        [first] = await stored(store, staged(store, inbox, "7.1", b"same", date=1_700_000_000_000))
        [second] = await stored(store, staged(store, inbox, "7.1", b"same", date=1_700_000_000_000))
        assert first == second
        assert len(list(store.scan())) == 1

    async def test_P20_two_bodies_under_one_key_are_both_kept(self, store: Store, inbox: Place) -> None:
        [first] = await stored(store, staged(store, inbox, "7.1", b"one"))
        [second] = await stored(store, staged(store, inbox, "7.1", b"two"))
        assert [await store.read(item.path) for item in (first, second)] == [b"one", b"two"]

    async def test_commits_wait_for_each_other(self, store: Store, inbox: Place) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(stored(store, *(staged(store, inbox, f"7.{task * 10 + n}", b"%d" % n) for n in range(5))))
                for task in range(4)
            ]
        assert sorted(item.key for task in running for item in task.result()) == sorted(item.key for item in store.scan())

    async def test_a_cancelled_commit_is_whole_or_absent(self, store: Store, inbox: Place) -> None:
        for turns in range(6):
            group = [staged(store, inbox, f"7.{turns * 10 + n}", b"%d" % n) for n in range(3)]
            commit = asyncio.create_task(stored(store, *group))
            for _ in range(turns):
                await asyncio.sleep(0)
            commit.cancel()
            await asyncio.wait([commit])
            known = list(await store.recover()) if commit.cancelled() else list(commit.result())
            assert len(known) in (0, 3)
            await store.settle()
        assert len(list(store.scan())) % 3 == 0

    # --- places ---

    async def test_a_folder_keeps_its_place(self, store: Store, inbox: Place, store_factory: StoreFactory) -> None:
        assert await store.prepare(IDENTITY, "work", INBOX, None) == inbox
        assert await store.prepare(IDENTITY, "work", INBOX, inbox.directory) == inbox
        await store.close()
        again = store_factory()
        await again.start()
        assert await again.prepare(IDENTITY, "work", INBOX, None) == inbox
        assert await again.prepare(IDENTITY, "renamed", INBOX, inbox.directory) == Place(
            IDENTITY, "renamed", INBOX, inbox.directory
        )
        await again.close()

    async def test_P29_P31_folders_that_look_alike_stay_apart(self, store: Store) -> None:
        folders = [
            RemoteFolder(b"1", ("Caf\u00e9",)),
            RemoteFolder(b"2", ("Cafe\u0301",)),
            RemoteFolder(b"3", ("CAF\u00c9",)),
            RemoteFolder(b"4", ("INBOX",)),
            RemoteFolder(b"5", ("inbox",)),
            RemoteFolder(b"6", ("INBOX", "inbox")),
            RemoteFolder(b"7", ("a/b",)),
            RemoteFolder(b"8", ("a", "b")),
            RemoteFolder(b"9", ("a", "b")),
            RemoteFolder(b"10", ()),
        ]
        places = [await store.prepare(IDENTITY, "work", folder, None) for folder in folders]
        assert len({place.directory.casefold() for place in places}) == len(folders)

    async def test_two_accounts_with_one_label_stay_apart(self, store: Store) -> None:
        first = await store.prepare("imap:a@example.org", "work", INBOX, None)
        second = await store.prepare("imap:b@example.org", "work", INBOX, None)
        assert first.directory != second.directory

    async def test_L15_a_second_store_on_the_tree_is_refused(self, store: Store, store_factory: StoreFactory) -> None:
        second = store_factory()
        with pytest.raises(Fatal, match="Another process has the store"):
            await second.start()
        await second.close()

    async def test_L16_what_a_closed_store_held_is_free(self, store: Store, store_factory: StoreFactory) -> None:
        await store.close()
        await store.close()
        second = store_factory()
        await second.start()
        await second.close()

    # --- at rest ---

    async def test_a_removed_item_is_gone_and_removing_it_again_does_nothing(self, store: Store, inbox: Place) -> None:
        [gone, stays] = await stored(store, staged(store, inbox, "7.1", b"one"), staged(store, inbox, "7.2", b"two"))
        await store.remove(gone.path)
        await store.remove(gone.path)
        with pytest.raises(ItemRejected) as raised:
            await store.read(gone.path)
        assert raised.value.kind == "missing"
        assert await store.read(stays.path) == b"two"

    @pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "", "x", "work/INBOX/../../x", "work/INBOX/nothing"])
    async def test_P29_a_path_that_is_no_item_is_missing(self, store: Store, inbox: Place, path: str) -> None:
        with pytest.raises(ItemRejected):
            await store.read(path)

    async def test_changed_flags_leave_the_path_valid(self, store: Store, inbox: Place) -> None:
        [placed] = await stored(store, staged(store, inbox, "7.1", b"one", flags=["\\Seen"]))
        for flags in (["\\Flagged", "\\Answered"], ["\\Seen"], []):
            await store.relabel(placed.path, flags)
            assert await store.read(placed.path) == b"one"
        assert [item.path for item in store.scan()] == [placed.path]

    async def test_a_scan_tells_everything_stored_from_names_alone(self, store: Store, inbox: Place) -> None:
        other = await store.prepare(IDENTITY, "work", RemoteFolder(b"a&-b\xff", ("a&b", "c")), None)
        placed = [
            *await stored(store, staged(store, inbox, "7.1", b"one", date=1_000), staged(store, inbox, "7.4294967295", b"")),
            *await stored(store, staged(store, other, "8.1", b"one"), staged(store, other, "file-Id_1 ü/%.", b"drive")),
        ]
        found = {item.path: item for item in store.scan()}
        assert set(found) == {item.path for item in placed}
        for item in placed:
            seen = found[item.path]
            assert (seen.identity, seen.folder, seen.epoch, seen.key, seen.size) == (
                item.identity,
                item.folder,
                item.epoch,
                item.key,
                item.size,
            )
            assert item.sha256.startswith(seen.sha256)
            assert len(seen.sha256) >= 32
