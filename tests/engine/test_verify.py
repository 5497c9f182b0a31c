"""What is stored is read again: what is wrong is found and told, and mended where the origin still has it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from haulapi import calls
from hauld.errors import Refused
from hauld.stores.maildir import MaildirStore
from support.engine import Engine, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nthe body of message %d\r\n" % (uid, uid) for uid in range(1, count + 1)})


def files(engine: Engine, folder: str = "INBOX") -> list[Path]:
    return sorted((engine.root / "a" / folder).rglob("*.haul,*"))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x20
    path.write_bytes(content)


async def verify(engine: Engine, **params: object) -> calls.Verification:
    """Have it verified, and wait for the end."""
    await engine.commands.verify_start(calls.VerifyParams(**params))  # type: ignore[arg-type]
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "verification")
    await task
    return await engine.commands.verify_status(calls.VerifyStatusParams())


def of(found: calls.Verification, folder: str = "INBOX") -> calls.VerifiedFolder:
    return next(each for each in found.folders if each.name == folder)


async def test_what_is_whole_is_found_whole_and_complete(tmp_path: Path) -> None:
    async with (
        ScriptedServer(Honest({b"INBOX": mailbox(20), b"Sent": mailbox(3)})) as server,
        running(tmp_path, server.source()) as engine,
    ):
        assert (await engine.commands.verify_status(calls.VerifyStatusParams())).status == "never"
        await engine.finish()
        found = await verify(engine)
        assert (found.status, found.phase, found.checked_items, found.total_items) == ("completed", None, 23, 23)
        assert found.checked_bytes == sum(path.stat().st_size for path in files(engine) + files(engine, "Sent"))
        assert [(each.name, each.checked, each.is_complete, each.problems) for each in found.folders] == [
            ("INBOX", 20, True, []),
            ("Sent", 3, True, []),
        ]
        assert await engine.state.verified_at() is not None


async def test_L11_a_flipped_byte_is_found_and_the_message_fetched_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(10)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        bodies = engine.bodies()
        flip_a_byte(files(engine)[4])
        found = await verify(engine)
        assert (found.damaged_items, found.missing_items, found.repaired_items) == (1, 0, 0)
        assert not of(found).is_complete
        assert "other bytes than were stored" in of(found).problems[0]
        assert engine.bodies() != bodies, "without repair nothing is changed"
        found = await verify(engine, repair=True)
        assert (found.damaged_items, found.repaired_items, of(found).is_complete) == (1, 1, True)
        assert engine.bodies() == bodies
        assert (await verify(engine)).damaged_items == 0


async def test_L11_files_that_were_cut_or_deleted_are_found_and_fetched_again(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(10)})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        bodies = engine.bodies()
        cut, deleted, *_ = files(engine)
        cut.write_bytes(cut.read_bytes()[:7])
        deleted.unlink()
        found = await verify(engine, repair=True)
        assert (found.damaged_items, found.missing_items, found.repaired_items) == (1, 1, 2)
        assert found.unknown_files == 0, "a damaged item is still an item"
        assert engine.bodies() == bodies
        assert of(found).is_complete


async def test_what_the_origin_no_longer_has_stays_where_it_is_when_damaged(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(10)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        damaged, deleted = files(engine)[2], files(engine)[5]
        flip_a_byte(damaged)
        deleted.unlink()
        for path in (damaged, deleted):
            uid = int(path.name.partition(".U")[2].partition("V")[0])
            honest.mailboxes[b"INBOX"].messages.pop(uid)
        found = await verify(engine, repair=True)
        assert (found.damaged_items, found.missing_items, found.repaired_items) == (1, 1, 0)
        assert damaged.exists(), "nobody else has it"
        again = await verify(engine)
        assert (again.damaged_items, again.missing_items) == (1, 0), "what is lost is told once, and then known for it"
        assert "The origin no longer has it" in of(again).problems[0]


async def test_files_that_nobody_knows_are_told_and_stay(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(4)})) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        foreign = files(engine)[0].with_name("1700000000.M1P2.another:2,S")
        foreign.write_bytes(b"not ours\r\n")
        stray = engine.root / "notes.txt"
        stray.write_text("whose is this?")
        found = await verify(engine, repair=True)
        assert (found.unknown_files, of(found).unknown, found.strays) == (2, 1, ["notes.txt"])
        assert of(found).is_complete
        assert "1700000000.M1P2.another" in of(found).problems[0]
        assert foreign.exists()
        assert stray.exists()


async def test_L11_files_whose_names_are_no_text_are_told_with_these_escaped(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(4)})) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        foreign = files(engine)[0].with_name(os.fsdecode(b"\xff\xfe:2,S"))
        stray = engine.root / os.fsdecode(b"stray\xe4")
        for path in (foreign, stray):
            path.write_bytes(b"not ours\r\n")
        found = await verify(engine, repair=True)
        assert (found.status, found.unknown_files, of(found).unknown, found.strays) == ("completed", 2, 1, ["stray\\xe4"])
        assert of(found).problems[0].startswith("a/INBOX/cur/\\xff\\xfe:2,S is in the folder")
        assert msgspec.json.encode(found), "it can be sent"
        assert foreign.exists()
        assert stray.exists()


async def test_a_job_that_somebody_paused_is_not_started_by_a_repair_and_it_says_so(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        await engine.commands.jobs_pause(calls.JobParams(job=job.id))
        files(engine)[0].unlink()
        found = await verify(engine, repair=True)
        assert (found.missing_items, found.repaired_items, of(found).pending) == (1, 0, 1)
        assert not of(found).is_complete
        assert f"haulctl start {job.id}" in of(found).problems[0]
        assert (await engine.job(job.id)).status == "paused"
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        await engine.until(job.id, lambda seen: seen.status == "completed")
        assert of(await verify(engine)).is_complete


async def test_where_no_job_wants_what_was_damaged_it_says_how_to_have_it(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        await engine.commands.jobs_delete(calls.DeleteParams(job=job.id))
        flip_a_byte(files(engine)[0])
        found = await verify(engine, repair=True)
        assert (found.damaged_items, found.repaired_items) == (1, 0)
        assert "haulctl create a" in of(found).problems[0]
        assert not of(await verify(engine)).is_complete, "it is still told the next time"
        await engine.finish()
        assert of(await verify(engine)).is_complete


async def test_the_origin_s_own_list_shows_what_the_ledger_does_not_know(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        honest.mailboxes[b"INBOX"].add(6, b"came later\r\n")
        assert of(await verify(engine)).is_complete
        found = await verify(engine, origin=True)
        assert (of(found).pending, of(found).is_complete) == (1, False)
        found = await verify(engine, origin=True, repair=True)
        assert (of(found).pending, of(found).is_complete) == (0, True)


async def test_an_origin_that_is_away_ends_in_words_and_what_was_read_is_told(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        flip_a_byte(files(engine)[0])

        @honest.instead_of("LIST")
        async def is_away(client: Client, command: Command) -> None:
            await client.send(command.no(b"[UNAVAILABLE] the disks are being changed"))

        found = await verify(engine, origin=True)
        assert found.status == "failed"
        assert found.error is not None
        assert "the disks are being changed" in found.error.message
        assert (found.checked_items, found.damaged_items) == (5, 1)
        assert await engine.state.verified_at() is None


class HoldsStill(MaildirStore):
    """A store that answers nothing about bytes until it is let go."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def digest(self, paths: Sequence[str]) -> Sequence[tuple[int, str] | None]:
        self.asked.set()
        await self.go_on.wait()
        return await super().digest(paths)


async def test_one_verification_at_a_time_and_it_outlives_whoever_asked(tmp_path: Path) -> None:
    async with (
        ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server,
        running(tmp_path, server.source(), store=HoldsStill) as engine,
    ):
        await engine.finish()
        begun = await engine.commands.verify_start(calls.VerifyParams())
        assert (begun.status, begun.account, begun.repair) == ("running", None, False)
        assert isinstance(engine.store, HoldsStill)
        await engine.store.asked.wait()
        with pytest.raises(Refused, match="running already") as refused:
            await engine.commands.verify_start(calls.VerifyParams(repair=True))
        assert (refused.value.kind, refused.value.hint is not None) == ("wrong_state", True)
        seen = await engine.commands.verify_status(calls.VerifyStatusParams())
        assert (seen.status, seen.phase, seen.total_items, seen.checked_items) == ("running", "reading", 5, 0)
        engine.store.go_on.set()
        (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "verification")
        await task
        assert (await engine.commands.verify_status(calls.VerifyStatusParams())).checked_items == 5


async def test_a_verification_ends_with_the_daemon(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server:
        async with running(tmp_path, server.source(), store=HoldsStill) as engine:
            await engine.finish()
            await engine.commands.verify_start(calls.VerifyParams())
            assert isinstance(engine.store, HoldsStill)
            await engine.store.asked.wait()
        seen = await engine.commands.verify_status(calls.VerifyStatusParams())
        assert (seen.status, seen.error is not None) == ("failed", True)


async def test_what_is_stored_meanwhile_is_not_called_unknown(tmp_path: Path) -> None:
    """A file is there before its row is: a look in between must wait for the row."""

    class LooksInBetween(MaildirStore):
        looked = False

        def look(self, place):  # type: ignore[no-untyped-def]
            found = list(super().look(place))
            if not self.looked:
                self.looked = True
                found.append(found[0].__class__(path="a/INBOX/just.arrived", size=1))
            return iter(found)

    async with (
        ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server,
        running(tmp_path, server.source(), store=LooksInBetween) as engine,
    ):
        await engine.finish()
        found = await verify(engine)
        assert (found.unknown_files, of(found).problems) == (0, [])


async def test_a_file_that_another_program_renamed_is_not_missing(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        for path in files(engine):
            path.rename(path.with_name(path.name.partition(":2,")[0] + ":2,FRS"))
        found = await verify(engine)
        assert (found.missing_items, found.unknown_files, of(found).is_complete) == (0, 0, True)


async def test_hashes_of_which_a_rebuild_knew_the_half_are_whole_after_a_verification(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server:
        async with running(tmp_path, server.source()) as engine:
            await engine.finish()
        for path in tmp_path.glob("haul.db*"):
            if path.is_file():
                path.unlink()
        for path in (tmp_path / "haul.db.copies").glob("*"):
            path.unlink()
        async with running(tmp_path, server.source()) as engine:
            job = await engine.finish()
            items = await engine.commands.items_list(calls.ItemListParams(job=job.id))
            assert {len(item.sha256 or "") for item in items.items} == {32}
            assert (await verify(engine)).damaged_items == 0
            items = await engine.commands.items_list(calls.ItemListParams(job=job.id))
            assert {len(item.sha256 or "") for item in items.items} == {64}


async def test_the_folders_come_in_pages(tmp_path: Path) -> None:
    origin = Honest({b"Box%d" % number: mailbox(1) for number in range(5)})
    async with ScriptedServer(origin) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        names: list[str] = []
        page = await verify(engine)
        everything = [each.name for each in page.folders]
        page = await engine.commands.verify_status(calls.VerifyStatusParams(limit=2))
        while True:
            names += [each.name for each in page.folders]
            if page.next is None:
                break
            assert len(page.folders) == 2
            page = await engine.commands.verify_status(calls.VerifyStatusParams(limit=2, after=page.next))
        assert names == everything
        assert len(names) == 5


async def test_what_is_stored_is_verified_by_itself_when_it_was_not_for_a_week(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        verifier = engine.supervisor.verifier
        await verifier.run_when_due()
        first = verifier.findings
        assert first is not None
        assert first.checked_items == 5
        await verifier.run_when_due()
        assert verifier.findings is first, "it is not due again"
        kinds = [event.kind for event in await engine.state.events(0)]
        assert kinds.count("store.verified") == 1
