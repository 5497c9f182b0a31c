"""What every store must keep, as tests. A store's own module derives from ``StoreContract`` and says how one is made.

``store_factory`` makes a store on the same tree each time, at ``root``; at most one of them is started at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec import structs

from hauld.errors import Fatal, ItemRejected
from hauld.model import OVERLAP, Deposit, FolderKind, PartWriter, Place, Placed, RemoteFolder, Writer
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


def items_in(store: Store) -> list[Placed]:
    """Everything that the tree itself tells to be stored."""
    return [found.placed for place in store.places() for found in store.look(place) if found.placed is not None]


async def write_all(writer: Writer, chunk: bytes, times: int) -> None:
    """So many chunks, resting whenever the writer asks for it."""
    for _ in range(times):
        if not writer.write(chunk):
            ready = asyncio.Event()
            writer.when_ready(ready.set)
            await ready.wait()


HALF = bytes(range(256)) * 2000


async def resumed(store: Store, place: Place, *, epoch: str = "7", key: str = "7.1", size: int = 1_000_000) -> PartWriter:
    """A writer for a large item; there is nobody else at it."""
    writer = await store.sink(place, epoch).resume(key, size)
    assert writer is not None
    return writer


async def leave_part(store: Store, place: Place, *, key: str = "7.1") -> None:
    """Half of an item, left."""
    writer = await resumed(store, place, key=key)
    assert writer.offset == 0
    await write_all(writer, HALF, 1)
    writer.leave()


class StoreContract:
    """The promises of ``hauld.stores.base.Store``."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "mail"

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
        assert [item.key for item in items_in(store)] == ["7.2"]
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

    # --- parts of large items ---

    async def test_a_part_that_was_left_is_gone_on_with_at_the_byte(
        self, store: Store, inbox: Place, store_factory: StoreFactory
    ) -> None:
        await leave_part(store, inbox)
        writer = await resumed(store, inbox)
        assert (writer.offset, writer.tail) == (len(HALF), HALF[-OVERLAP:])
        writer.write(b"more")
        writer.leave()
        await store.close()
        again = store_factory()
        await again.start()
        assert list(await again.recover()) == []
        await again.settle()
        writer = await resumed(again, inbox)
        assert (writer.offset, writer.tail) == (len(HALF) + 4, (HALF + b"more")[-OVERLAP:])
        writer.write(b"rest")
        [placed] = await stored(again, Deposit(inbox, "7", "7.1", writer.finish()))
        assert await again.read(placed.path) == HALF + b"morerest"
        assert placed.sha256 == hashlib.sha256(HALF + b"morerest").hexdigest()
        assert (await resumed(again, inbox)).offset == 0
        await again.close()

    async def test_a_store_that_is_closed_keeps_the_parts_that_are_being_written(
        self, store: Store, inbox: Place, store_factory: StoreFactory
    ) -> None:
        writer = await resumed(store, inbox)
        await write_all(writer, HALF, 1)
        await store.close()
        writer.leave()
        again = store_factory()
        await again.start()
        assert list(await again.recover()) == []
        assert (await resumed(again, inbox)).offset == len(HALF)
        await again.close()

    async def test_a_part_is_of_exactly_one_item(self, store: Store, inbox: Place) -> None:
        await leave_part(store, inbox)
        await leave_part(store, inbox, key="7.2")
        other = await store.prepare(IDENTITY, "work", RemoteFolder(b"other", ("other",)), None)
        foreign = await store.prepare("imap:you@mail.example.org", "work", INBOX, None)
        for place, key in ((inbox, "7.3"), (other, "7.1"), (foreign, "7.1")):
            assert (await resumed(store, place, key=key)).offset == 0
        assert (await resumed(store, inbox)).offset == len(HALF)

    @pytest.mark.parametrize("change", [{"size": 1_000_001}, {"epoch": "8", "key": "8.1"}, {"epoch": "8"}], ids=str)
    async def test_a_part_of_another_size_or_epoch_is_not_used_and_goes(
        self, store: Store, inbox: Place, store_factory: StoreFactory, change: dict[str, object]
    ) -> None:
        await leave_part(store, inbox)
        await store.close()
        again = store_factory()
        await again.start()
        writer = await resumed(again, inbox, **change)  # type: ignore[arg-type]
        assert (writer.offset, writer.tail) == (0, b"")
        assert (await resumed(again, inbox)).offset == 0
        await again.close()

    async def test_a_part_that_is_discarded_is_gone_before_or_after_it_is_finished(self, store: Store, inbox: Place) -> None:
        for finished in (False, True):
            await leave_part(store, inbox)
            writer = await resumed(store, inbox)
            if finished:
                writer.finish().discard()
            else:
                writer.discard()
            again = await resumed(store, inbox)
            assert again.offset == 0
            again.leave()

    async def test_a_part_that_somebody_is_writing_is_nobody_else_s(self, store: Store, inbox: Place) -> None:
        writer = await resumed(store, inbox)
        assert await store.sink(inbox, "7").resume("7.1", 1_000_000) is None
        await write_all(writer, HALF, 1)
        await store.recover()
        await store.settle()
        [placed] = await stored(store, Deposit(inbox, "7", "7.1", writer.finish()))
        assert await store.read(placed.path) == HALF

    async def test_a_small_item_of_a_folder_s_sink_is_staged_as_any_other(self, store: Store, inbox: Place) -> None:
        writer = store.sink(inbox, "7").open("7.1", 3)
        writer.write(b"abc")
        [placed] = await stored(store, Deposit(inbox, "7", "7.1", writer.finish()))
        assert await store.read(placed.path) == b"abc"

    # --- commits and crashes ---

    async def test_a_commit_left_in_order_is_not_reported_again(self, store: Store, inbox: Place) -> None:
        await stored(store, staged(store, inbox, "7.1", b"one"))
        assert list(await store.recover()) == []

    async def test_a_group_that_was_written_beforehand_is_stored_like_any_other(self, store: Store, inbox: Place) -> None:
        group = [staged(store, inbox, f"7.{uid}", b"%d" % uid, date=1_000_000_000_000) for uid in range(1, 9)]
        async with store.commit(group[:4]) as first:
            await store.write(group[4:])
            assert {item.key for item in items_in(store)} == {item.key for item in first}, "what is only written is not stored"
        second = await stored(store, *group[4:])
        assert [await store.read(item.path) for item in (*first, *second)] == [b"%d" % uid for uid in range(1, 9)]
        assert list(await store.recover()) == []

    async def test_L14_what_was_written_beforehand_and_given_up_is_swept(self, store: Store, inbox: Place, root: Path) -> None:
        group = [staged(store, inbox, f"7.{uid}", b"%d" % uid) for uid in range(1, 9)]
        await store.write(group)
        assert list(await store.recover()) == []
        for deposit in group[:4]:
            deposit.body.discard()
        assert list(await store.recover()) == []
        assert len(await stored(store, *group[4:])) == 4, "a recovery takes nothing that is still wanted"
        assert os.listdir(root / ".haul/stage") == []

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
        assert items_in(again) == []
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
        assert len(items_in(store)) == 1

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
        assert sorted(item.key for task in running for item in task.result()) == sorted(item.key for item in items_in(store))

    async def test_urgent_groups_are_stored_beside_others(self, store: Store, inbox: Place) -> None:
        async def commit(start: int, count: int, *, urgent: bool) -> Sequence[Placed]:
            group = [staged(store, inbox, f"7.{uid}", b"%d" % uid) for uid in range(start, start + count)]
            async with store.commit(group, urgent=urgent) as placed:
                return placed

        bulk = [commit(start, 20, urgent=False) for start in (100, 200, 300)]
        news = [commit(start, 2, urgent=True) for start in range(2, 20, 2)]
        found = [item for placed in await asyncio.gather(*bulk, *news) for item in placed]
        assert [await store.read(item.path) for item in found] == [item.key[2:].encode() for item in found]
        assert sorted(item.key for item in items_in(store)) == sorted(item.key for item in found)
        assert len(found) == 78
        assert list(await store.recover()) == []

    async def test_an_urgent_group_that_is_durable_and_has_no_rows_yet_keeps_no_other_waiting(
        self, store: Store, inbox: Place
    ) -> None:
        async with store.commit([staged(store, inbox, "7.1", b"one")], urgent=True) as first:
            second = await stored(store, staged(store, inbox, "7.2", b"two"))
            async with store.commit([staged(store, inbox, "7.3", b"three")], urgent=True) as third:
                assert {item.key for item in items_in(store)} == {item.key for item in (*first, *second, *third)}
        assert list(await store.recover()) == []

    async def test_an_urgent_group_whose_rows_failed_is_reported(self, store: Store, inbox: Place) -> None:
        with pytest.raises(RowsFailed):
            async with store.commit([staged(store, inbox, "7.1", b"one")], urgent=True) as placed:
                raise RowsFailed
        assert list(await store.recover()) == list(placed)

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
        assert len(items_in(store)) % 3 == 0

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

    async def test_L5_a_probe_leaves_nothing_behind_and_disturbs_nothing_that_waits(self, store: Store, inbox: Place) -> None:
        waiting = staged(store, inbox, "7.1", b"x" * 3_000_000)
        await store.probe()
        await store.probe()
        [placed] = await stored(store, waiting)
        assert await store.read(placed.path) == b"x" * 3_000_000
        assert [item.path for item in items_in(store)] == [placed.path]
        assert list(await store.recover()) == []

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
        assert [item.path for item in items_in(store)] == [placed.path]

    # --- what the tree itself tells ---

    async def test_L10_the_tree_tells_everything_stored_without_a_ledger(
        self, store: Store, inbox: Place, store_factory: StoreFactory
    ) -> None:
        other = await store.prepare(IDENTITY, "work", RemoteFolder(b"a&-b\xff", ("a&b", "c\udcff"), FolderKind.SENT), None)
        placed = [
            *await stored(
                store,
                staged(store, inbox, "7.1", b"one", date=1_700_000_000_000, flags=["\\Seen", "\\Flagged"]),
                staged(store, inbox, "7.4294967295", b""),
            ),
            *await stored(store, staged(store, other, "8.1", b"one"), staged(store, other, "file-Id_1 ü/%.", b"drive")),
        ]
        await store.close()
        again = store_factory()
        await again.start()
        places = list(again.places())
        assert {place.folder.raw: place for place in places} == {b"INBOX": inbox, b"a&-b\xff": other}
        found = {(seen.placed.folder, seen.placed.key): seen for place in places for seen in again.look(place) if seen.placed}
        assert set(found) == {(item.folder, item.key) for item in placed}
        for item in placed:
            seen = found[item.folder, item.key]
            assert seen.placed is not None
            assert (seen.path, seen.size) == (item.path, item.size)
            assert item == structs.replace(seen.placed, sha256=item.sha256)
            assert item.sha256.startswith(seen.placed.sha256)
            assert len(seen.placed.sha256) >= 32
        assert set(found[b"INBOX", "7.1"].flags) == {"\\Seen", "\\Flagged"}
        assert found[b"INBOX", "7.1"].date == 1_700_000_000_000
        assert found[b"INBOX", "7.4294967295"].date is None
        assert list(again.strays()) == []
        await again.close()

    async def test_a_look_tells_of_one_folder_only(self, store: Store, inbox: Place) -> None:
        other = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("INBOX", "below")), None)
        await stored(store, staged(store, inbox, "7.1", b"one"), staged(store, other, "7.2", b"two"))
        assert [found.placed.key for found in store.look(inbox) if found.placed] == ["7.1"]
        assert [found.placed.key for found in store.look(other) if found.placed] == ["7.2"]

    async def test_a_digest_tells_what_is_there_now(self, store: Store, inbox: Place) -> None:
        placed = await stored(store, *(staged(store, inbox, f"7.{uid}", b"%d" % uid * uid) for uid in range(1, 40)))
        gone = placed[5]
        await store.remove(gone.path)
        paths = [item.path for item in placed]
        expected = [None if item == gone else (item.size, item.sha256) for item in placed]
        assert list(await store.digest(paths)) == expected
        assert list(await store.digest([*reversed(paths), paths[0], "../../etc/passwd", ""])) == [
            *reversed(expected),
            expected[0],
            None,
            None,
        ]
        assert list(await store.digest([])) == []

    @pytest.mark.parametrize("size", [3, 100_000, 4_000_000])
    async def test_the_beginnings_of_items_are_what_is_there_now(self, store: Store, inbox: Place, size: int) -> None:
        bodies = [b"", b"ab", b"abc", b"the third" * 300_000, b"gone"]
        placed = [(await stored(store, staged(store, inbox, f"7.{uid}", body)))[0] for uid, body in enumerate(bodies, 1)]
        await store.remove(placed[-1].path)
        paths = [item.path for item in placed]
        expected = [*(body[:size] for body in bodies[:-1]), None]
        assert list(await store.heads(paths, size)) == expected
        assert list(await store.heads([paths[3], *reversed(paths), "../../etc/passwd", ""], size)) == [
            expected[3],
            *reversed(expected),
            None,
            None,
        ]
        assert list(await store.heads([], size)) == []

    async def test_an_item_that_was_set_aside_is_in_no_folder_and_in_nobodys_way(
        self, store: Store, inbox: Place, root: Path, store_factory: StoreFactory
    ) -> None:
        for _ in range(2):
            [placed] = await stored(store, staged(store, inbox, "7.1", b"one"))
            aside = await store.set_aside(placed.path)
            assert aside is not None
            assert (root / aside).exists()
            assert list(await store.digest([placed.path])) == [None]
            assert await store.set_aside(placed.path) is None
        assert len([file for file in (root / ".haul/aside").rglob("*") if file.is_file()]) == 2
        await store.recover()
        await store.settle()
        assert list(store.strays()) == []
        await store.close()
        again = store_factory()
        await again.start()
        assert list(await again.recover()) == []
        assert len([file for file in (root / ".haul/aside").rglob("*") if file.is_file()]) == 2
        [placed] = await stored(again, staged(again, inbox, "7.1", b"one"))
        assert await again.read(placed.path) == b"one"
        await again.close()

    async def test_files_of_nobody_are_strays(self, store: Store, inbox: Place, root: Path) -> None:
        await stored(store, staged(store, inbox, "7.1", b"one"))
        (root / "notes").write_bytes(b"a person's")
        (root / "elsewhere/cur").mkdir(parents=True)
        (root / "elsewhere/cur/letter").write_bytes(b"a person's, too")
        assert sorted(store.strays()) == ["elsewhere/cur/letter", "notes"]

    # --- bodies that nobody commits ---

    async def test_a_body_that_was_discarded_leaves_nothing(self, store: Store, root: Path) -> None:
        writer = store.open("7.1", 400_000)
        writer.write(b"x" * 400_000)
        bodies = [writer.finish(), store.open("7.2", 0).finish()]
        for body in bodies:
            body.discard()
            body.discard()
        await store.close()
        assert list((root / ".haul/stage").iterdir()) == []

    async def test_a_body_that_was_committed_may_be_discarded(self, store: Store, inbox: Place) -> None:
        deposits = [staged(store, inbox, "7.1", b"x" * 400_000), staged(store, inbox, "7.2", b"small")]
        placed = await stored(store, *deposits)
        for deposit in deposits:
            deposit.body.discard()
        assert [len(await store.read(item.path)) for item in placed] == [400_000, 5]
