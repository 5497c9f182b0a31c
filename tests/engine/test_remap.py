"""A folder whose items have new keys: what is stored stays where it is, and only what is new is fetched (P11, P14, P34)."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from haulapi import calls
from hauld.engine.remap import HEAD, ITEMS, same
from hauld.errors import HaulError
from hauld.model import Alike, PendingItem, StoredItem
from support.engine import Engine, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, literal

INBOX = b"INBOX"


def bodies(*numbers: int) -> dict[int, bytes]:
    return {number: b"Subject: %05d\r\n\r\nbody\r\n" % number for number in numbers}


def mailbox(messages: dict[int, bytes], uidvalidity: int = 1) -> Mailbox:
    return Mailbox(dict(messages), uidvalidity=uidvalidity)


def renumbered(messages: dict[int, bytes], uidvalidity: int) -> Mailbox:
    """The same messages in the same order, under UIDs from 1001 on."""
    return mailbox(dict(enumerate(messages.values(), 1001)), uidvalidity)


def bodies_asked(server: ScriptedServer) -> list[bytes]:
    """The commands that have asked for whole bodies so far."""
    return [command for command in server.asked("UID FETCH") if b"BODY.PEEK[])" in command]


def heads_asked(server: ScriptedServer) -> list[bytes]:
    return [command for command in server.asked("UID FETCH") if b"BODY.PEEK[]<" in command]


def uids_of(commands: list[bytes]) -> list[bytes]:
    """What each asks for."""
    return [command.partition(b"FETCH ")[2].split()[0] for command in commands]


async def imported(engine: Engine) -> calls.Job:
    """A live job that is complete."""
    job = await engine.create()
    return await engine.until(job.id, lambda seen: seen.status == "completed")


async def compared_again(engine: Engine, job: calls.Job) -> calls.Job:
    await engine.commands.jobs_sync(calls.JobParams(job=job.id))
    return await engine.until(job.id, lambda seen: seen.status == "completed")


async def stored(engine: Engine, job: calls.Job) -> dict[str, bytes]:
    """The bytes of what is stored and still at the origin, by key."""
    items: list[calls.Item] = []
    page = calls.ItemList(items=[], next="0")
    while page.next is not None:
        page = await engine.commands.items_list(
            calls.ItemListParams(job=job.id, status="completed", limit=1000, after=page.next)
        )
        items += page.items
    there = [item for item in items if item.removed_at is None]
    return {item.key: await engine.store.read(str(item.local_path)) for item in there}


def files(root: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of every message file, by its name."""
    found = (path for path in root.rglob("*.haul,*") if ".haul" not in path.parts)
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def keys(messages: dict[int, bytes], uidvalidity: int) -> dict[str, bytes]:
    return {f"{uidvalidity}.{uid}": body for uid, body in messages.items()}


async def test_P11_in_a_new_epoch_only_what_is_new_is_fetched_and_every_file_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    honest = Honest({INBOX: mailbox(bodies(*range(1, 1201)))})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        before, asked = files(engine.root), len(bodies_asked(server))
        new = mailbox(bodies(*range(2, 1206)), uidvalidity=2)
        honest.mailboxes[INBOX] = new
        job = await compared_again(engine, job)
        assert uids_of(bodies_asked(server)[asked:]) == [b"1201:1205"]
        assert await stored(engine, job) == keys(new.messages, 2)
        after = files(engine.root)
        assert before.items() <= after.items()
        assert len(after) == 1205
        assert (job.progress.remaining_items, job.progress.failed_items) == (0, 0)
        counts = [event.data["count"] for event in await engine.state.events(0) if event.kind == "folder.mapped"]
        assert sum(counts) == 1199  # type: ignore[arg-type]
        assert len(counts) == -(-1199 // ITEMS)
    assert "a 'INBOX': 1,199 of 1,204 items were there under other keys" in caplog.text


async def test_P11_other_uids_in_the_new_epoch_are_no_hindrance(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(bodies(1, 2, 3))})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        asked = len(bodies_asked(server))
        for uidvalidity in (2, 3):
            honest.mailboxes[INBOX] = renumbered(bodies(1, 2, 3), uidvalidity)
            await compared_again(engine, job)
            assert await stored(engine, job) == keys(honest.mailboxes[INBOX].messages, uidvalidity)
        assert len(bodies_asked(server)) == asked
        assert len(engine.bodies()) == 3


async def test_P11_equal_messages_each_keep_a_file_of_their_own(tmp_path: Path) -> None:
    twins = dict.fromkeys(range(1, 7), b"Subject: the same\r\n\r\n")
    honest = Honest({INBOX: mailbox(twins)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        asked = len(bodies_asked(server))
        honest.mailboxes[INBOX] = renumbered(twins, 2)
        await compared_again(engine, job)
        assert len(bodies_asked(server)) == asked
        page = await engine.commands.items_list(calls.ItemListParams(job=job.id, status="completed", limit=100))
        assert len({item.local_path for item in page.items}) == 6


async def test_P14_back_in_its_old_epoch_a_folder_has_its_files_under_their_old_keys(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(bodies(1, 2, 3))})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        before, asked = files(engine.root), len(bodies_asked(server))
        honest.mailboxes[INBOX] = renumbered(bodies(1, 2, 3), 2)
        await compared_again(engine, job)
        honest.mailboxes[INBOX] = mailbox(bodies(1, 2, 3, 4))
        await compared_again(engine, job)
        assert await stored(engine, job) == keys(bodies(1, 2, 3, 4), 1)
        assert len(bodies_asked(server)) == asked + 1
        assert files(engine.root).items() > before.items()


async def test_P34_of_a_folder_made_anew_only_what_is_the_same_is_mapped(tmp_path: Path) -> None:
    """Message 2 has another size, 3 another date, 4 another beginning, and 5 cannot be read any more."""
    long = b"Subject: long\r\n\r\n" + b"x" * 2 * HEAD
    old = bodies(1, 2, 3, 4, 5) | {6: long}
    honest = Honest({INBOX: mailbox({}), b"Work": mailbox(old)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        (lost,) = [path for path in files(engine.root) if path.read_bytes() == old[5]]
        lost.unlink()
        asked = len(bodies_asked(server))
        new = mailbox(old | {2: old[2] + b"more\r\n", 4: old[4].replace(b"00004", b"40000")}, uidvalidity=2)
        new.dates[3] = b"18-Jul-1996 02:44:25 -0700"
        honest.mailboxes[b"Work"] = new
        await compared_again(engine, job)
        assert uids_of(bodies_asked(server)[asked:]) == [b"2:5"]
        assert await stored(engine, job) == keys(new.messages, 2)
        assert engine.bodies() == sorted([*old.values(), new.messages[2], old[3], new.messages[4]])


async def test_an_origin_that_gives_no_beginnings_is_asked_for_bodies(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(bodies(1, 2, 3))})

    @honest.instead_of("UID FETCH")
    async def refuses_parts(client: Client, command: Command) -> None:
        if b"<0." in command.arguments:
            await client.send(command.no(b"parts are not served"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        honest.mailboxes[INBOX] = mailbox(bodies(1, 2, 3), uidvalidity=2)
        await compared_again(engine, job)
        assert await stored(engine, job) == keys(bodies(1, 2, 3), 2)


async def test_an_origin_that_answers_nonsense_is_not_asked_for_beginnings_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    honest = Honest({INBOX: mailbox(bodies(1, 2, 3))})

    @honest.instead_of("UID FETCH")
    async def sends_megabytes(client: Client, command: Command) -> None:
        if b"<0." in command.arguments:
            await client.send(b"* 1 FETCH (UID 1 BODY[]<0> " + literal(bytes(2 << 20)) + b")\r\n", command.ok())
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        honest.mailboxes[INBOX] = mailbox(bodies(1, 2, 3), uidvalidity=2)
        with pytest.raises(HaulError, match="broke the IMAP protocol"):
            await compared_again(engine, job)
        await compared_again(engine, job)
        assert await stored(engine, job) == keys(bodies(1, 2, 3), 2)
        assert len(heads_asked(server)) == 1
    assert caplog.text.count("are not asked for any more") == 1


async def test_what_was_broken_off_goes_on_and_fetches_nothing_twice(tmp_path: Path) -> None:
    many = bodies(*range(1, 2 * ITEMS + 1))
    honest = Honest({INBOX: mailbox(many)})
    lost: list[bytes] = []

    @honest.instead_of("UID FETCH")
    async def goes_once(client: Client, command: Command) -> None:
        if b"<0." in command.arguments and b"1:" in command.arguments and not lost:
            lost.append(command.arguments)
            await client.reset()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await imported(engine)
            asked = len(bodies_asked(server))
            honest.mailboxes[INBOX] = mailbox(many, uidvalidity=2)
            with pytest.raises(HaulError, match="connection"):
                await compared_again(engine, job)
            assert lost
        async with running(tmp_path, server.source()) as engine:
            await engine.until(job.id, lambda seen: seen.status == "completed")
            await compared_again(engine, job)
            assert await stored(engine, job) == keys(many, 2)
        assert len(bodies_asked(server)) == asked
        assert len(files(tmp_path)) == len(many)


async def test_a_dry_run_asks_for_no_beginnings(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(bodies(1, 2, 3))})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine)
        honest.mailboxes[INBOX] = mailbox(bodies(1, 2, 3), uidvalidity=2)
        preview = await engine.create(dry_run=True)
        assert isinstance(preview, calls.Preview)
        assert heads_asked(server) == []
        asked = len(bodies_asked(server))
        await compared_again(engine, job)
        assert heads_asked(server) != []
        assert len(bodies_asked(server)) == asked


async def test_L10_a_ledger_made_anew_from_files_with_old_names_maps_them_again(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(bodies(1, 2, 3))})
    async with ScriptedServer(honest) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await imported(engine)
            honest.mailboxes[INBOX] = renumbered(bodies(1, 2, 3), 2)
            await compared_again(engine, job)
            before, asked = files(engine.root), len(bodies_asked(server))
        for path in tmp_path.glob("haul.db*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        async with running(tmp_path, server.source()) as engine:
            job = await engine.finish()
            assert await stored(engine, job) == keys(honest.mailboxes[INBOX].messages, 2)
            assert files(engine.root) == before
        assert len(bodies_asked(server)) == asked


def alike(number: int, *sizes: int) -> Alike:
    """An item that waits, with stored ones of these sizes, numbered from 101 on."""
    item = PendingItem(number, f"2.{number}", number, 10, (), 0, 0)
    return Alike(item, tuple(StoredItem(101 + n, f"1.{n}", "1", size, "", "", False) for n, size in enumerate(sizes)))


def test_of_several_that_are_the_same_each_is_used_once() -> None:
    waiting = [alike(1, 4, 4), alike(2, 4, 4), alike(3, 4, 4)]
    remote = {f"2.{number}": b"same" for number in (1, 2, 3)}
    assert list(same(waiting, remote, {101: b"same", 102: b"same"})) == [(1, 101), (2, 102)]


def test_a_beginning_that_is_shorter_than_it_should_be_says_nothing() -> None:
    assert list(same([alike(1, 10)], {"2.1": b"short"}, {101: b"short"})) == []
    assert list(same([alike(1, 5)], {"2.1": b"short"}, {101: b"short"})) == [(1, 101)]


def test_what_cannot_be_read_on_either_side_is_not_the_same() -> None:
    assert list(same([alike(1, 0), alike(2, 0)], {"2.2": b""}, {})) == []
    assert list(same([alike(1, 0)], {}, {101: b""})) == []
