"""Origins that contradict themselves: what was stored stays, nothing is stored twice, and one folder's lies are its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from haulapi import calls
from hauld.errors import ItemRejected, Transient
from hauld.model import Deposit, Event, Place, Placed, RemoteFolder
from hauld.stores.maildir import MaildirStore
from support.engine import Engine, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, fetched


def mailbox(*uids: int, uidvalidity: int = 1) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in uids}, uidvalidity=uidvalidity)


async def items_of(engine: Engine, job: calls.Job, **params: object) -> dict[str, calls.Item]:
    page = await engine.commands.items_list(calls.ItemListParams(job=job.id, limit=1000, **params))  # type: ignore[arg-type]
    return {item.key: item for item in page.items}


async def folders_of(engine: Engine, job: calls.Job) -> dict[str, calls.Folder]:
    page = await engine.commands.folders_list(calls.FolderListParams(job=job.id))
    return {folder.name: folder for folder in page.folders}


async def told(engine: Engine, kind: str) -> list[Event]:
    return [event for event in await engine.state.events(0) if event.kind == kind]


def bodies_asked(server: ScriptedServer) -> int:
    """How many commands have asked for bodies so far."""
    return len([command for command in server.asked("UID FETCH") if b"BODY.PEEK[])" in command])


async def compared_again(engine: Engine, job: calls.Job) -> calls.Job:
    """A live job, complete once more after another comparison."""
    await engine.commands.jobs_sync(calls.JobParams(job=job.id))
    return await engine.until(job.id, lambda seen: seen.status == "completed")


# --- two bodies for one item ---


def gives_two(honest: Honest, second: bytes) -> None:
    """Message 2 comes twice, the second time as ``second``."""

    @honest.instead_of("UID FETCH")
    async def twice(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments:
            await client.send(fetched(2, 2, honest.mailboxes[b"INBOX"].messages[2]), fetched(2, 2, second))
        await honest.answer(client, command)


async def test_P20_of_two_bodies_for_one_item_both_are_kept_and_the_conflict_is_told(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3)})
    gives_two(honest, b"another body")
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.total_items, job.progress.downloaded_items) == ("completed", 3, 3)
        assert engine.bodies() == sorted([*honest.mailboxes[b"INBOX"].messages.values(), b"another body"])
        item = (await items_of(engine, job))["1.2"]
        assert await engine.store.read(str(item.local_path)) == honest.mailboxes[b"INBOX"].messages[2]
        (conflict,) = item.conflicts
        assert await engine.store.read(conflict.local_path) == b"another body"
        assert len(await told(engine, "item.conflict")) == 1


async def test_P20_the_same_body_twice_is_one_file_and_no_conflict(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3)})
    gives_two(honest, honest.mailboxes[b"INBOX"].messages[2])
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.progress.total_items, job.progress.downloaded_items) == (3, 3)
        assert engine.bodies() == sorted(honest.mailboxes[b"INBOX"].messages.values())
        assert not any(item.conflicts for item in (await items_of(engine, job)).values())
        assert await told(engine, "item.conflict") == []


# --- folders that cannot be written ---


class ReadOnlyFolder(MaildirStore):
    """A store in which one folder may be read and not written."""

    prepared = True

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        if folder.name == "Sent" and not self.prepared:
            raise self.no()
        return await super().prepare(identity, account, folder, directory)

    @asynccontextmanager
    async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
        names = {deposit.place.folder.name for deposit in group}
        if names == {"Sent"}:
            raise self.no()
        if "Sent" in names:
            raise Transient("disk", "The group could not be stored.")
        async with super().commit(group, urgent=urgent) as placed:
            yield placed

    @staticmethod
    def no() -> ItemRejected:
        return ItemRejected("folder", "Cannot write to a/Sent: Permission denied.", hint="Look who owns it.")


class UnpreparedFolder(ReadOnlyFolder):
    prepared = False


@pytest.mark.parametrize("store", [ReadOnlyFolder, UnpreparedFolder])
async def test_L13_a_folder_that_cannot_be_written_makes_the_job_wait_and_the_others_are_stored(
    tmp_path: Path, store: type[MaildirStore]
) -> None:
    honest = Honest({b"INBOX": mailbox(*range(1, 40)), b"Sent": mailbox(1, 2, 3), b"Work": mailbox(1, 2)})
    async with ScriptedServer(honest) as server:
        async with running(tmp_path, server.source(), store=store) as engine:
            job = await engine.create(live=False)
            waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting" and seen.progress.downloaded_items == 41)
            assert waiting.error is not None
            assert "Cannot write to a/Sent: Permission denied." in waiting.error.message
            folders = await folders_of(engine, job)
            assert {name: folder.is_complete for name, folder in folders.items()} == {
                "INBOX": True,
                "Sent": False,
                "Work": True,
            }
            assert folders["Sent"].error is not None
            assert folders["Sent"].error.message == "Cannot write to a/Sent: Permission denied."
            assert folders["Sent"].error.hint == "Look who owns it."
            assert not await items_of(engine, job, status="failed")
        async with running(tmp_path, server.source()) as engine:
            done = await engine.ended(job.id)
            assert (done.status, done.progress.downloaded_items) == ("completed", 44)
            assert (await folders_of(engine, job))["Sent"].error is None


@pytest.mark.parametrize(("attempts", "asked"), [(1, 1), (2, 3), (5, 9)])
async def test_a_job_asks_for_an_item_as_often_as_it_was_told_to(tmp_path: Path, attempts: int, asked: int) -> None:
    """Both items in one command first, then each alone."""
    honest = Honest({b"INBOX": mailbox(1, 2)})

    @honest.instead_of("UID FETCH")
    async def leaves_bodies_out(client: Client, command: Command) -> None:
        await (client.send(command.ok()) if b"BODY" in command.arguments else honest.answer(client, command))

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish(attempts=attempts)
        assert bodies_asked(server) == asked
        assert job.progress.failed_items == 2
        reasons = {item.error.message for item in (await items_of(engine, job)).values() if item.error is not None}
        assert reasons == {f"The origin lists it, but left it out of {attempts} answers."}


# --- folders that get new keys, or old ones ---


def renumbers_at_every_look(honest: Honest, *names: bytes) -> None:
    """These mailboxes have another UIDVALIDITY each time one of them is opened."""

    @honest.instead_of("EXAMINE")
    async def renumbers(client: Client, command: Command) -> None:
        for name in names:
            honest.mailboxes[name].uidvalidity += name in command.arguments
        await honest.answer(client, command)


async def test_P13_folders_that_are_renumbered_all_the_time_need_attention_and_the_others_are_complete(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3), b"Sent": mailbox(1, 2), b"Work": mailbox(1)})
    renumbers_at_every_look(honest, b"INBOX", b"Work")
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.create(live=False)
        waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting" and len(server.asked("LIST")) > 5)
        assert waiting.error is not None
        assert "renumbered the folder 'INBOX' 3 times within an hour" in waiting.error.message
        folders = await folders_of(engine, job)
        assert folders["INBOX"].error is not None
        assert folders["INBOX"].error.kind == "epoch"
        assert folders["Sent"].is_complete
        assert len([command for command in server.asked("EXAMINE") if b"INBOX" in command]) < 12

        honest.be_honest()
        await engine.commands.jobs_pause(calls.JobParams(job=job.id))
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        done = await engine.ended(job.id)
        assert (done.status, done.error, done.progress.remaining_items) == ("completed", None, 0)
        assert (await folders_of(engine, job))["INBOX"].error is None
        assert set(engine.bodies()) == {body for box in honest.mailboxes.values() for body in box.messages.values()}


async def test_P13_a_folder_that_is_renumbered_at_every_comparison_is_fetched_three_times_more_and_no_oftener(
    tmp_path: Path,
) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3), b"Sent": mailbox(1)})
    renumbers_at_every_look(honest, b"INBOX")
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        for _ in range(6):
            await compared_again(engine, job)
        honest.mailboxes[b"Sent"].add(2, b"new mail elsewhere")
        await compared_again(engine, job)
        error = (await folders_of(engine, job))["INBOX"].error
        assert error is not None
        assert error.kind == "epoch"
        items = await items_of(engine, job, folder="INBOX", status="completed")
        assert len({key.partition(".")[0] for key in items}) <= 4
        assert b"new mail elsewhere" in engine.bodies()


async def test_P14_a_folder_that_is_back_in_its_old_epoch_is_not_fetched_twice(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        honest.mailboxes[b"INBOX"] = mailbox(uidvalidity=2)
        await compared_again(engine, job)
        before = bodies_asked(server)
        honest.mailboxes[b"INBOX"] = mailbox(1, 2, 3)
        await compared_again(engine, job)
        assert bodies_asked(server) == before
        items = await items_of(engine, job, status="completed")
        assert {key: item.removed_at for key, item in items.items()} == {"1.1": None, "1.2": None, "1.3": None}
        assert len(engine.bodies()) == 3


async def test_P14_in_its_old_epoch_with_another_message_under_a_key_both_are_kept(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3)})
    old = honest.mailboxes[b"INBOX"].messages[2]
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        honest.mailboxes[b"INBOX"] = mailbox(uidvalidity=2)
        await compared_again(engine, job)
        honest.mailboxes[b"INBOX"] = mailbox(1, 2, 3)
        honest.mailboxes[b"INBOX"].messages[2] = b"quite another message"
        await compared_again(engine, job)
        item = (await items_of(engine, job))["1.2"]
        assert await engine.store.read(str(item.local_path)) == b"quite another message"
        assert [await engine.store.read(conflict.local_path) for conflict in item.conflicts] == [old]
        assert len(engine.bodies()) == 4


@pytest.mark.parametrize("uidvalidity", [0, 7])
async def test_P14_a_folder_that_has_a_uidvalidity_only_now_and_then_is_in_two_epochs(tmp_path: Path, uidvalidity: int) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, uidvalidity=uidvalidity)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        honest.mailboxes[b"INBOX"].uidvalidity = 7 - uidvalidity
        await compared_again(engine, job)
        items = await items_of(engine, job, status="completed")
        assert {key for key, item in items.items() if item.removed_at is None} == {f"{7 - uidvalidity}.{uid}" for uid in (1, 2)}
        assert len(items) == len(engine.bodies()) == 2


# --- folders that go, and come back ---


async def test_P34_a_folder_that_is_deleted_in_the_middle_is_marked_gone_and_its_files_are_kept(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2), b"Work": mailbox(*range(1, 801))})

    @honest.instead_of("UID FETCH")
    async def deletes(client: Client, command: Command) -> None:
        await honest.answer(client, command)
        if b"BODY" in command.arguments and b"800" in command.arguments:
            del honest.mailboxes[b"Work"]
            await client.reset()

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.remaining_items, job.progress.failed_items) == ("completed", 0, 0)
        assert job.progress.skipped_items > 0
        (folder,) = [each for each in await engine.state.folders(1) if each.name == "Work"]
        assert folder.gone_at is not None
        assert len(engine.bodies()) == job.progress.downloaded_items > 2


async def test_P34_a_folder_that_is_renamed_in_the_middle_is_whole_under_its_new_name(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2), b"Old": mailbox(*range(1, 801))})

    @honest.instead_of("UID FETCH")
    async def renames(client: Client, command: Command) -> None:
        await honest.answer(client, command)
        if b"BODY" in command.arguments and b"800" in command.arguments and b"Old" in honest.mailboxes:
            honest.mailboxes[b"New"] = honest.mailboxes.pop(b"Old")
            await client.reset()

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.remaining_items, job.progress.failed_items) == ("completed", 0, 0)
        assert len(await items_of(engine, job, folder="New", status="completed")) == 800
        gone = {folder.name: folder.gone_at is not None for folder in await engine.state.folders(1)}
        assert gone == {"INBOX": False, "New": False, "Old": True}


@pytest.mark.parametrize("uidvalidity", [1, 2])
async def test_P34_a_folder_that_is_deleted_and_made_again_has_its_new_items_and_keeps_the_old(
    tmp_path: Path, uidvalidity: int
) -> None:
    honest = Honest({b"INBOX": mailbox(1), b"Work": mailbox(1, 2, 3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        work = honest.mailboxes.pop(b"Work")
        await compared_again(engine, job)
        new = Mailbox({1: b"the first of the new folder", 2: work.messages[2]}, uidvalidity=uidvalidity)
        honest.mailboxes[b"Work"] = new
        before = bodies_asked(server)
        await compared_again(engine, job)
        assert bodies_asked(server) == before + 1
        items = await items_of(engine, job, folder="Work", status="completed")
        there = {key: item for key, item in items.items() if item.removed_at is None}
        stored = {key: await engine.store.read(str(item.local_path)) for key, item in there.items()}
        assert stored == {f"{uidvalidity}.{uid}": body for uid, body in new.messages.items()}
        assert set(work.messages.values()) < set(engine.bodies())


# --- lists that lack what was there ---


@pytest.mark.parametrize("kept", [0, 100])
async def test_P41_whatever_a_list_lacks_is_marked_and_every_file_is_kept(tmp_path: Path, kept: int) -> None:
    everything = range(1, 301)
    honest = Honest({b"INBOX": mailbox(*everything)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        honest.mailboxes[b"INBOX"] = mailbox(*everything[:kept])
        honest.mailboxes[b"INBOX"].highestmodseq = 2
        await compared_again(engine, job)
        assert len(list((tmp_path / "mail").rglob("*.haul,*"))) == 300
        (listed,) = [event for event in await told(engine, "folder.listed") if event.data["gone"]]
        assert listed.data["gone"] == 300 - kept
        before = bodies_asked(server)
        honest.mailboxes[b"INBOX"] = mailbox(*everything)
        honest.mailboxes[b"INBOX"].highestmodseq = 3
        seen = await compared_again(engine, job)
        assert bodies_asked(server) == before
        assert (seen.progress.total_items, seen.progress.downloaded_items) == (300, 300)
        assert {item.removed_at for item in (await items_of(engine, job)).values()} == {None}


async def test_P42_a_message_that_was_marked_deleted_when_first_seen_is_stored_and_stays(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2, 3)})
    honest.mailboxes[b"INBOX"].flags[2] = rb"\Deleted"
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        assert len(engine.bodies()) == 3
        honest.mailboxes[b"INBOX"].flags[2] = b""
        honest.mailboxes[b"INBOX"].touch()
        await compared_again(engine, job)
        item = (await items_of(engine, job))["1.2"]
        assert (item.status, item.flags, item.removed_at) == ("completed", [], None)


ODD_DATES = [b"", b"17-Jul-0000 02:44:25 +0000", b"17-Jul-9999 02:44:25 +0000", b"17-Jul-2020 02:44:25 +9900", b"31-Feb-2020 x"]


async def test_P45_P46_odd_dates_and_thousands_of_flags_keep_no_message_from_being_stored(tmp_path: Path) -> None:
    box = mailbox(*range(1, len(ODD_DATES) + 4))
    box.dates = dict(enumerate(ODD_DATES, 1))
    box.flags = {6: b" ".join(b"k%d" % n for n in range(10_000)), 7: b"x" * 1024 + b" \\* \xff\xfe \x1b[31m", 8: rb"\Seen \Odd"}
    async with ScriptedServer(Honest({b"INBOX": box})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items) == ("completed", 8)
        items = await items_of(engine, job)
        assert len(items["1.6"].flags) == 128
        assert items["1.8"].flags == [r"\Seen", r"\Odd"]
        assert engine.bodies() == sorted(box.messages.values())
