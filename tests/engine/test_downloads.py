"""One run of a job, against a server that says what a test wants: what is listed is stored, or visibly is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from haulapi import calls
from hauld.errors import Transient
from hauld.model import PendingItem, Setback, Stored
from hauld.state.base import Committed
from hauld.state.sqlite import SqliteState
from support.engine import Engine, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer


def mailbox(count: int, size: int = 200) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\n" % uid + b"x" * size + b"\r\n" for uid in range(1, count + 1)})


async def items_of(engine: Engine, job: calls.Job, **params: object) -> list[calls.Item]:
    page = await engine.commands.items_list(calls.ItemListParams(job=job.id, limit=1000, **params))  # type: ignore[arg-type]
    return page.items


async def test_everything_the_server_lists_is_stored_once(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(700), b"Sent": mailbox(30)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert job.status == "completed"
        assert (job.progress.total_items, job.progress.downloaded_items) == (730, 730)
        everything = [body for box in honest.mailboxes.values() for body in box.messages.values()]
        assert engine.bodies() == sorted(everything)


@pytest.mark.parametrize(
    ("limits", "most"), [({"batch_items": 3}, 3), ({"batch_bytes": 500}, 2)], ids=["three items", "500 bytes"]
)
async def test_no_more_is_asked_for_at_once_than_the_account_allows(tmp_path: Path, limits: dict[str, int], most: int) -> None:
    async with (
        ScriptedServer(Honest({b"INBOX": mailbox(10)})) as server,
        running(tmp_path, server.source(), connections=1) as engine,
    ):
        account = engine.supervisor.accounts["a"]
        account.settings = replace(account.settings, **limits)
        job = await engine.finish()
        assert job.progress.downloaded_items == 10
        asked = [re.findall(rb"\d+", command.split()[2]) for command in server.asked("UID FETCH") if b"PEEK" in command]
        assert [int(uids[-1]) - int(uids[0]) + 1 for uids in asked] == [most] * (10 // most) + [10 % most] * (10 % most > 0)


async def test_P1_a_message_left_out_of_one_answer_is_asked_for_again_singly_in_the_same_run(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(50)})
    left_out: list[int] = []

    @honest.instead_of("UID FETCH")
    async def leaves_out_once(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments or left_out:
            await honest.answer(client, command)
            return
        left_out.append(7)
        box = honest.mailboxes[b"INBOX"]
        answers = [honest.body(box, uid, uid) for uid in box.uids if uid != 7]
        await client.send(*answers, command.ok())

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert left_out == [7]
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 50, 0)
        assert engine.bodies() == sorted(honest.mailboxes[b"INBOX"].messages.values())
        assert server.asked("UID FETCH 7 (UID RFC822.SIZE BODY.PEEK[])")


async def test_P2_a_message_left_out_of_every_answer_fails_visibly_and_alone(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(20)})

    @honest.instead_of("UID FETCH")
    async def never_gives_five(client: Client, command: Command) -> None:
        box = honest.mailboxes[b"INBOX"]
        body = box.messages[5]
        if b"BODY" in command.arguments:
            box.messages.pop(5)
        await honest.answer(client, command)
        box.messages[5] = body

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 19, 1)
        (failed,) = await items_of(engine, job, status="failed")
        assert failed.key == "1.5"
        assert failed.error is not None
        assert "left it out of 3 answers" in failed.error.message
        assert failed.retry_count == 3

        honest.be_honest()
        assert await engine.state.retry_failed((await engine.state.job(job.id)).number) == 1
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        job = await engine.ended(job.id)
        assert (job.progress.downloaded_items, job.progress.failed_items) == (20, 0)


async def test_P17_a_message_that_goes_before_it_was_fetched_is_no_failure(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(20)})

    @honest.instead_of("UID FETCH")
    async def five_goes(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments:
            honest.mailboxes[b"INBOX"].messages.pop(5, None)
            honest.mailboxes[b"INBOX"].touch()
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        progress = job.progress
        assert (job.status, progress.downloaded_items, progress.failed_items, progress.skipped_items) == ("completed", 19, 0, 1)
        (gone,) = await items_of(engine, job, status="skipped")
        assert gone.key == "1.5"
        assert gone.removed_at is not None


@pytest.mark.parametrize("end", ["reset", "close"], ids=["N1", "N2"])
async def test_N1_N2_a_connection_that_ends_inside_a_message_costs_nothing_but_time(tmp_path: Path, end: str) -> None:
    honest = Honest({b"INBOX": mailbox(6, size=300)})
    answer = b"".join(honest.body(honest.mailboxes[b"INBOX"], uid, uid) for uid in range(1, 7))
    cuts = list(range(1, len(answer), 97))

    @honest.instead_of("UID FETCH")
    async def breaks_off(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments or not cuts:
            await honest.answer(client, command)
            return
        await client.send(answer[: cuts.pop(0)])
        await (client.reset() if end == "reset" else client.close())

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items) == ("completed", 6)
        assert engine.bodies() == sorted(honest.mailboxes[b"INBOX"].messages.values())
        assert not list((engine.root / ".haul" / "stage").iterdir())


async def test_what_is_larger_than_the_account_allows_is_skipped_and_says_so(tmp_path: Path) -> None:
    box = mailbox(5)
    box.messages[3] = b"x" * 5000
    server = ScriptedServer(Honest({b"INBOX": box}))
    async with server, running(tmp_path, server.source(max_message_size=1000)) as engine:
        job = await engine.finish()
        assert (job.progress.downloaded_items, job.progress.skipped_items, job.progress.failed_items) == (4, 1, 0)
        (skipped,) = await items_of(engine, job, status="skipped")
        assert skipped.error is not None
        assert "too large" in skipped.error.message


async def test_an_item_larger_than_the_memory_budget_goes_alone_and_arrives(tmp_path: Path) -> None:
    box = mailbox(30)
    box.messages[31] = b"y" * 3_000_000
    server = ScriptedServer(Honest({b"INBOX": box}))
    async with server, running(tmp_path, server.source(), budget=100_000) as engine:
        job = await engine.finish()
        assert job.progress.downloaded_items == 31
        assert engine.bodies() == sorted(box.messages.values())


async def test_a_folder_that_cannot_be_opened_keeps_no_other_from_being_complete(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(4), b"Locked": mailbox(4), b"Sent": mailbox(4)})

    @honest.instead_of("EXAMINE")
    async def refuses_one(client: Client, command: Command) -> None:
        if b"Locked" in command.arguments:
            await client.send(command.no(b"[NOPERM] not for you"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items) == ("completed", 8)
        assert job.error is not None
        assert "'Locked'" in job.error.message
        folders = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        complete = {folder.name: folder.is_complete for folder in folders}
        assert complete == {"INBOX": True, "Sent": True, "Locked": False}
        (locked,) = [folder for folder in folders if folder.name == "Locked"]
        assert locked.error is not None
        assert "not for you" in locked.error.message


async def test_a_second_connection_that_is_refused_leaves_the_work_to_the_first(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(400)})
    first: list[int] = []

    @honest.instead_of("AUTHENTICATE")
    async def one_only(client: Client, command: Command) -> None:
        if first and first != [client.number]:
            await client.send(command.no(b"[ALERT] Too many simultaneous connections. (Failure)"))
        else:
            first.append(client.number)
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items) == ("completed", 400)


async def test_P12_a_folder_renumbered_in_the_middle_of_a_download_is_listed_afresh(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(10)})
    renumbered: list[int] = []

    @honest.instead_of("UID FETCH")
    async def renumbers(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments and not renumbered:
            renumbered.append(1)
            honest.mailboxes[b"INBOX"].uidvalidity = 2
            await client.reset()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert job.status == "completed"
        completed = await items_of(engine, job, status="completed")
        assert sorted(item.key for item in completed) == sorted(f"2.{uid}" for uid in range(1, 11))
        assert all("V2H" in str(item.local_path) for item in completed)
        assert engine.bodies() == sorted(honest.mailboxes[b"INBOX"].messages.values())


async def test_P12_a_folder_renumbered_between_its_listing_and_its_download_is_listed_afresh(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(10), b"Sent": mailbox(5)})

    @honest.instead_of("UID FETCH")
    async def renumbers_the_other(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments:
            honest.mailboxes[b"Sent"].uidvalidity = 2
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.finish()
        assert job.status == "completed"
        sent = await items_of(engine, job, folder="Sent", status="completed")
        assert sorted(item.key for item in sent) == [f"2.{uid}" for uid in range(1, 6)]
        skipped = await items_of(engine, job, folder="Sent", status="skipped")
        assert sorted(item.key for item in skipped) == [f"1.{uid}" for uid in range(1, 6)]
        assert len(engine.bodies()) == 15


async def test_a_folder_that_closes_before_its_items_came_makes_the_job_wait_and_name_it(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5), b"Sent": mailbox(5)})
    closed = [False]

    @honest.instead_of("EXAMINE")
    async def refuses(client: Client, command: Command) -> None:
        if b"Sent" in command.arguments and closed[0]:
            await client.send(command.no(b"[INUSE] somebody repairs it"))
        else:
            await honest.answer(client, command)

    @honest.instead_of("UID FETCH")
    async def closes_the_other(client: Client, command: Command) -> None:
        closed[0] = closed[0] or b"BODY" in command.arguments
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.create(live=False)
        waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting")
        assert waiting.error is not None
        assert "'Sent'" in waiting.error.message
        assert waiting.progress.downloaded_items == 5
        honest.be_honest()
        done = await engine.ended(job.id)
        assert (done.status, done.progress.downloaded_items) == ("completed", 10)


async def test_N12_a_refused_password_is_sent_three_times_by_one_connection_and_then_no_more(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)}, password=b"another")
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert job.status == "failed"
        assert job.error is not None
        assert job.error.kind == "sign-in"
        assert len(server.asked("AUTHENTICATE")) == 3
        again = await engine.create(live=False, start=False)
        account = await engine.commands.accounts_get(calls.AccountParams(account="a"))
        assert account.state == "attention"
        honest.password = b"secret"
        await engine.commands.jobs_start(calls.JobParams(job=again.id))
        assert (await engine.ended(again.id)).status == "completed"
        account = await engine.commands.accounts_get(calls.AccountParams(account="a"))
        assert account.state in ("connected", "idle")
        assert account.error is None


async def test_a_server_that_is_away_makes_a_job_wait_and_say_why_until_it_is_back(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    away = True

    async def play(client: Client) -> None:
        if away:
            await client.send(b"* BYE [UNAVAILABLE] down for maintenance\r\n")
            await client.close()
        else:
            await honest(client)

    async with ScriptedServer(play) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(live=False)
        waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting" and server.connections > 2)
        assert waiting.status == "running"
        assert waiting.error is not None
        assert "down for maintenance" in waiting.error.message
        assert waiting.error.retry_at is not None
        assert (await engine.commands.accounts_get(calls.AccountParams(account="a"))).state == "waiting"
        away = False
        done = await engine.ended(job.id)
        assert (done.status, done.error, done.progress.downloaded_items) == ("completed", None, 3)


class Counting(Honest):
    """An honest server that remembers the UIDs of the bodies it gave."""

    def __init__(self, mailboxes: dict[bytes, Mailbox]) -> None:
        super().__init__(mailboxes)
        self.given: list[int] = []

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        self.given.append(uid)
        return super().body(mailbox, number, uid)


class ForgetsOnce(SqliteState):
    """A ledger whose disk fails once, in the worst moment: the files are there and the rows are not."""

    failures = 1

    async def record_group(self, job: int | None, stored: list[Stored], setbacks: list[Setback]) -> Committed:
        if stored and self.failures:
            self.failures -= 1
            raise Transient("disk", "The ledger could not be written.")
        return await super().record_group(job, stored, setbacks)


async def test_L14_files_without_rows_are_adopted_and_not_fetched_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(20)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), state=ForgetsOnce) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items) == ("completed", 20)
        assert engine.bodies() == sorted(honest.mailboxes[b"INBOX"].messages.values())
        assert len([asked for asked in server.asked("UID FETCH") if b"BODY" in asked]) == 1


async def test_L14_what_a_crash_left_whole_is_adopted_at_the_next_start(tmp_path: Path) -> None:
    class NeverWrites(ForgetsOnce):
        failures = 10**6

        async def adopt(self, placed: object) -> int:
            raise Transient("disk", "The ledger could not be written.")

    honest = Counting({b"INBOX": mailbox(20)})
    async with ScriptedServer(honest) as server:
        async with running(tmp_path, server.source(), state=NeverWrites) as engine:
            job = await engine.create(live=False)
            await engine.until(job.id, lambda seen: seen.phase == "waiting")
            left_whole = len(engine.bodies())
        assert left_whole > 0
        honest.given.clear()
        async with running(tmp_path, server.source()) as engine:
            done = await engine.ended(job.id)
            assert (done.status, done.progress.downloaded_items) == ("completed", 20)
            assert len(engine.bodies()) == 20
            assert len(honest.given) == 20 - left_whole


class RenumbersMeanwhile(SqliteState):
    """A ledger in which another listing opens a new epoch while a group is on its way to it."""

    async def record_group(self, job: int | None, stored: list[Stored], setbacks: list[Setback]) -> Committed:
        await self.begin_listing(1, "2")
        return await super().record_group(job, stored, setbacks)


async def test_P12_what_comes_after_its_epoch_has_passed_is_filed_nowhere(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), state=RenumbersMeanwhile) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.skipped_items) == ("completed", 0, 5)
        assert engine.bodies() == []


async def test_two_jobs_that_want_the_same_items_fetch_each_once(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(600)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        first, second = await engine.create(live=False), await engine.create(live=False)
        one, two = await asyncio.gather(engine.ended(first.id), engine.ended(second.id))
        assert one.status == two.status == "completed"
        assert one.progress.downloaded_items + two.progress.downloaded_items == 600
        assert one.progress.downloaded_items + one.progress.skipped_items == 600
        assert two.progress.downloaded_items + two.progress.skipped_items == 600
        assert len(engine.bodies()) == 600


class ReadsTogether(SqliteState):
    """A ledger in which two jobs read at the same moment what is pending, and the second one goes on when the first is over."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.readers: set[int] = set()
        self.both = asyncio.Event()
        self.first_is_over = asyncio.Event()

    async def pending(self, job: int, folder: int, *, below: int | None, limit: int) -> Sequence[PendingItem]:
        rows = await super().pending(job, folder, below=below, limit=limit)
        self.readers.add(job)
        if len(self.readers) == 2:
            self.both.set()
        await self.both.wait()
        if job == max(self.readers):
            await self.first_is_over.wait()
        return rows


@pytest.mark.parametrize("late", [False, True], ids=["at the same moment", "when the other has stored them"])
async def test_what_two_jobs_have_both_read_as_pending_is_fetched_once(tmp_path: Path, late: bool) -> None:
    honest = Counting({b"INBOX": mailbox(20)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), state=ReadsTogether) as engine:
        state = engine.state
        assert isinstance(state, ReadsTogether)
        if not late:
            state.first_is_over.set()
        first, second = await engine.create(live=False), await engine.create(live=False)
        one = await engine.ended(first.id)
        state.first_is_over.set()
        two = await engine.ended(second.id)
        assert one.status == two.status == "completed"
        assert one.progress.downloaded_items + two.progress.downloaded_items == 20
        assert sorted(honest.given) == list(range(1, 21))


HOSTILE = [
    b"INBOX",
    b"INBOX/inbox",
    b"../../etc/passwd",
    b"/abs",
    b"a/../b",
    b"..",
    b".",
    b"~root",
    b"C:\\x",
    b"CON",
    b"trailing dot.",
    b"trailing space ",
    b"cur",
    b"tmp",
    b"x" * 255,
    b"y" * 4096,
    b"two\r\nlines",
    b"na\0ught",
    "\u202egnp.exe".encode(),
    "zero\u200bwidth".encode(),
    "\U0001f4ec".encode(),
    b"twin",
    b"Twin",
    "e\u0301".encode(),
    "\u00e9".encode(),
    b"&AB",
    b"&AAA-",
    b"caf\xe9",
    b'quo"te',
    b"back\\slash",
    b"100%25",
]


async def test_P29_P30_P31_P35_every_folder_name_gets_a_place_of_its_own_below_the_root(tmp_path: Path) -> None:
    boxes = {raw: Mailbox({1: b"Subject: %d\r\n\r\n" % number}) for number, raw in enumerate(HOSTILE)}
    async with ScriptedServer(Honest(boxes)) as server, running(tmp_path / "below", server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.error, job.progress.downloaded_items) == ("completed", None, len(HOSTILE))
        assert engine.bodies() == sorted(box.messages[1] for box in boxes.values())
        items = await items_of(engine, job)
        assert len({str(item.local_path).rpartition("/")[0].casefold() for item in items}) == len(HOSTILE)
    assert {path.name for path in tmp_path.iterdir()} == {"below"}
    assert {path.name for path in (tmp_path / "below" / "mail").iterdir()} == {".haul", "a"}
