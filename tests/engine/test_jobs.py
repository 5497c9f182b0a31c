"""The life of a job, and what the door may ask of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from haulapi import calls
from hauld.clock import SystemClock
from hauld.engine.account import Account
from hauld.errors import HaulError, NeedsAttention, Refused, Transient
from hauld.model import Job, JobStatus
from hauld.retry import RetryPolicy
from hauld.state.sqlite import SqliteState
from support.engine import Engine, Gate, running, settings
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

PATIENT = RetryPolicy(initial=3600.0, longest=3600.0)
"""Nothing is tried again before somebody asks for it."""


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, count + 1)})


async def watching(engine: Engine, **params: object) -> calls.Job:
    """A live job that has imported everything and watches; what it wants whole is listened to by then."""
    job = await engine.create(**params)
    (account,) = engine.supervisor.accounts.values()

    def settled(seen: calls.Job) -> bool:
        listening = [each for each in account.listeners if each.stage == "listening" or each.trouble is not None]
        return seen.status == "completed" and (bool(listening) or "strategy" in params)

    return await engine.until(job.id, settled)


async def test_a_live_job_asked_to_compare_fetches_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5), b"Sent": mailbox(2)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await watching(engine)
        honest.mailboxes[b"INBOX"].add(6, b"new\r\n")
        fetches = len(server.asked("UID FETCH"))
        await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        done = await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 8 and seen.status == "completed")
        assert done.progress.total_items == 8
        bodies = [command for command in server.asked("UID FETCH")[fetches:] if b"BODY" in command]
        assert bodies == [b"UID FETCH 6 (UID RFC822.SIZE BODY.PEEK[])"]


async def test_a_comparison_that_finds_nothing_moves_only_the_time_of_the_last_one(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await watching(engine)
        events = (await engine.state.event_span())[1]
        fetches = len(server.asked("UID FETCH"))
        synced = await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        assert synced.status == "completed"
        assert str(synced.last_sync_at) >= str(job.last_sync_at)
        assert len(server.asked("UID FETCH")) == fetches
        assert [event.kind for event in await engine.state.events(events) if event.kind == "job.status"] == []


async def test_a_live_job_compares_again_by_its_schedule(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), interval=0.05) as engine:
        job = await watching(engine)
        honest.mailboxes[b"INBOX"].add(2, b"new\r\n")
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 2)


async def test_a_job_that_selects_no_folder_looks_for_one_now_and_then_and_not_all_the_time(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(1)})) as server, running(tmp_path, server.source()) as engine:
        nothing = calls.WantedStrategy(kind="selected-folders", folders=["Nowhere"])
        job = await watching(engine, strategy=nothing)
        assert job.progress.total_items == 0
        for _ in range(3):
            await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        assert len(server.asked("LIST")) == 4


async def test_a_folder_that_is_gone_is_not_looked_for_all_the_time(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1), b"Old": mailbox(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), interval=0.2) as engine:
        job = await watching(engine)
        del honest.mailboxes[b"Old"]
        listed = len(server.asked("LIST"))
        honest.mailboxes[b"INBOX"].add(2, b"new\r\n")
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 3)
        honest.mailboxes[b"INBOX"].add(3, b"new\r\n")
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 4)
        assert len(server.asked("LIST")) - listed <= 4
        folders = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        assert {folder.name: folder.downloaded_items for folder in folders} == {"INBOX": 3, "Old": 1}


async def test_asking_to_compare_says_why_it_could_not_be_done(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), policy=PATIENT) as engine:
        job = await watching(engine)

        @honest.instead_of("LIST")
        async def is_away(client: Client, command: Command) -> None:
            await client.send(command.no(b"[UNAVAILABLE] the disks are being changed"))

        with pytest.raises(Transient, match="the disks are being changed"):
            await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        assert (await engine.job(job.id)).status == "completed"
        account = await engine.commands.accounts_get(calls.AccountParams(account="a"))
        assert (account.state, account.error is not None) == ("waiting", True)
        honest.be_honest()
        await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        account = await engine.commands.accounts_get(calls.AccountParams(account="a"))
        assert account.error is None


async def test_a_comparison_that_had_begun_before_one_was_asked_for_is_not_the_answer(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    begun: asyncio.Queue[None] = asyncio.Queue()
    go_on = asyncio.Semaphore(0)
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await watching(engine)

        @honest.instead_of("LIST")
        async def dawdles(client: Client, command: Command) -> None:
            begun.put_nowait(None)
            await go_on.acquire()
            await honest.answer(client, command)

        keeper = engine.supervisor.keeper((await engine.state.job(job.id)).number)
        assert keeper is not None
        first = asyncio.create_task(keeper.sync())
        await begun.get()
        second = asyncio.create_task(keeper.sync())
        await engine.job(job.id)  # the second has asked by now
        go_on.release()
        await first
        await begun.get()
        assert not second.done()
        go_on.release()
        await second


async def test_asking_to_compare_where_nobody_answers_tries_once_and_then_waits_again(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(1), b"Work": mailbox(1)})) as server:
        gate = Gate(server.source(), is_open=True)
        async with running(tmp_path, gate, policy=PATIENT) as engine:
            nobody_listens = calls.WantedStrategy(kind="selected-folders", folders=["Work"])
            job = await watching(engine, strategy=nobody_listens)
            (account,) = engine.supervisor.accounts.values()
            gate.is_open = False
            await account.drop_idle()
            with mock.patch.object(account, "failed", wraps=account.failed) as failed:
                for _ in range(2):
                    with pytest.raises(Transient, match="cannot be reached"):
                        await engine.commands.jobs_sync(calls.JobParams(job=job.id))
                for _ in range(100):
                    await asyncio.sleep(0)
            assert failed.call_count == 2


async def test_a_session_that_died_while_it_was_idle_is_replaced_without_a_word(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    clients: list[Client] = []

    async def play(client: Client) -> None:
        clients.append(client)
        await honest(client)

    honest.capabilities = honest.capabilities.replace(b"IDLE ", b"")
    async with ScriptedServer(play) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await watching(engine)
        (account,) = engine.supervisor.accounts.values()
        before = server.connections
        for client in clients:
            await client.close()
        await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        assert server.connections == before + 1
        assert account.trouble is None


async def test_a_job_that_was_not_started_waits_until_it_is(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await engine.create(live=False, start=False)
            assert job.status == "pending"
        async with running(tmp_path, server.source()) as engine:
            assert (await engine.job(job.id)).status == "pending"
            assert server.connections == 0
            started = await engine.commands.jobs_start(calls.JobParams(job=job.id))
            assert started.status in ("pending", "running")
            assert (await engine.ended(job.id)).progress.downloaded_items == 3


async def test_starting_what_runs_or_waits_for_a_slot_is_refused_in_words(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    asked, go_on = asyncio.Event(), asyncio.Event()

    @honest.instead_of("LIST")
    async def dawdles(client: Client, command: Command) -> None:
        asked.set()
        await go_on.wait()
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), slots=1) as engine:
        await engine.supervisor.accounts["a"].reach(1)
        first, second = await engine.create(live=False), await engine.create(live=False)
        await asked.wait()
        with pytest.raises(Refused, match="already running"):
            await engine.commands.jobs_start(calls.JobParams(job=first.id))
        with pytest.raises(Refused, match="already waiting for a free slot"):
            await engine.commands.jobs_start(calls.JobParams(job=second.id))
        go_on.set()
        assert (await engine.ended(first.id)).status == (await engine.ended(second.id)).status == "completed"


async def test_a_finished_job_started_again_finds_everything_stored(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        with pytest.raises(Refused, match="watches nothing"):
            await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        again = await engine.ended(job.id)
        assert (again.status, again.progress.downloaded_items) == ("completed", 3)


async def test_a_running_job_goes_on_by_itself_after_a_restart(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    asked = asyncio.Event()

    @honest.instead_of("UID FETCH")
    async def never_answers(client: Client, command: Command) -> None:
        asked.set()

    async with ScriptedServer(honest) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await engine.create(live=False)
            await asked.wait()
        honest.be_honest()
        async with running(tmp_path, server.source()) as engine:
            done = await engine.ended(job.id)
            assert (done.status, done.progress.downloaded_items) == ("completed", 3)


async def test_a_job_whose_account_is_gone_fails_and_says_so(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server:
        async with running(tmp_path, {"old": server.source()}) as engine:
            job = await watching(engine, account="old")
        async with running(tmp_path, {"new": server.source()}) as engine:
            failed = await engine.job(job.id)
            assert failed.status == "failed"
            assert failed.error is not None
            assert "'old'" in failed.error.message
            with pytest.raises(Refused, match="no longer configured"):
                await engine.commands.jobs_start(calls.JobParams(job=job.id))


async def test_C11_the_same_key_makes_one_job(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server, running(tmp_path, server.source()) as engine:
        first = await engine.create(live=False, idempotency_key="once")
        second = await engine.create(live=False, idempotency_key="once")
        assert first.id == second.id
        await engine.ended(first.id)
        assert len((await engine.commands.jobs_list(calls.JobListParams())).jobs) == 1


@pytest.mark.parametrize(
    ("strategy", "folders"),
    [
        ({}, {"INBOX", "Sent", "Projects/x"}),
        ({"kind": "full-sync", "exclude": ["Projects/*"]}, {"INBOX", "Sent"}),
        ({"kind": "inbox-only"}, {"INBOX"}),
        ({"kind": "selected-folders", "folders": ["S*", "Projects/x"]}, {"Sent", "Projects/x"}),
    ],
)
async def test_a_strategy_chooses_folders(tmp_path: Path, strategy: dict[str, object], folders: set[str]) -> None:
    honest = Honest({b"INBOX": mailbox(1), b"Sent": mailbox(1), b"Projects/x": mailbox(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish(strategy=calls.WantedStrategy(**strategy))  # type: ignore[arg-type]
        items = (await engine.commands.items_list(calls.ItemListParams(job=job.id))).items
        assert {item.folder for item in items} == folders


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"account": "b"}, "No account is called 'b'"),
        ({"strategy": calls.WantedStrategy(kind="everything")}, "no strategy 'everything'"),
        ({"strategy": calls.WantedStrategy(kind="search")}, "needs from or subject or to"),
        ({"strategy": calls.WantedStrategy(kind="date-range", since="yesterday")}, "'yesterday' is no day"),
        ({"strategy": calls.WantedStrategy(kind="date-range", since="2026-02-30")}, "2026-02-30"),
        ({"strategy": calls.WantedStrategy(kind="date-range", since="2026-02-01", before="2026-01-01")}, "No day is from"),
        ({"strategy": calls.WantedStrategy(kind="selected-folders")}, "needs folders"),
        ({"strategy": calls.WantedStrategy(kind="inbox-only", folders=["x"])}, "takes no folders"),
        ({"strategy": calls.WantedStrategy(since="2026-01-01")}, "takes no since"),
        ({"priority": 9}, "Priority 9"),
    ],
)
async def test_a_job_that_cannot_be_is_refused_in_words(tmp_path: Path, params: dict[str, object], words: str) -> None:
    async with ScriptedServer(Honest()) as server, running(tmp_path, server.source()) as engine:
        with pytest.raises(Refused, match=words):
            await engine.create(**params)  # type: ignore[arg-type]
        assert (await engine.commands.jobs_list(calls.JobListParams())).jobs == []


async def test_questions_that_make_no_sense_are_refused_in_words(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(2)})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        ask = engine.commands
        for question, words in (
            (ask.folders_list(calls.FolderListParams()), "either a job or an account"),
            (ask.items_list(calls.ItemListParams(job=job.id, status="lost")), "'lost' is no item status"),
            (ask.items_list(calls.ItemListParams(job=job.id, limit=0)), "A page of 0"),
            (ask.items_list(calls.ItemListParams(job=job.id, after="-1")), "not where a page ended"),
            (ask.jobs_list(calls.JobListParams(status="odd")), "'odd' is no job status"),
            (ask.jobs_get(calls.JobParams(job="zzzz")), "zzzz"),
        ):
            with pytest.raises(HaulError, match=words):
                await question  # type: ignore[misc]


async def test_pages_of_items_and_jobs_follow_each_other(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(25)})) as server, running(tmp_path, server.source()) as engine:
        jobs = [await engine.finish() for _ in range(3)]
        seen: list[str] = []
        after = None
        while True:
            page = await engine.commands.items_list(calls.ItemListParams(job=jobs[0].id, limit=10, after=after))
            seen += [item.key for item in page.items]
            after = page.next
            if after is None:
                break
        assert sorted(seen, key=lambda key: int(key[2:])) == [f"1.{uid}" for uid in range(1, 26)]
        newest = await engine.commands.jobs_list(calls.JobListParams(limit=2))
        rest = await engine.commands.jobs_list(calls.JobListParams(limit=2, after=newest.next))
        assert [job.id for job in newest.jobs + rest.jobs] == [job.id for job in reversed(jobs)]
        assert rest.next is None
        assert (await engine.commands.jobs_list(calls.JobListParams(account="a", status="running"))).jobs == []


async def test_status_shows_accounts_jobs_and_what_is_stored(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(4)})) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        status = await engine.commands.daemon_status(calls.NoParams())
        (account,) = status.accounts
        assert (account.name, account.items, account.folders) == ("a", 4, 1)
        assert account.bytes == sum(len(body) for body in engine.bodies())
        assert status.jobs[JobStatus.COMPLETED] == 1
        assert status.memory_bytes > 10**6
        listed = await engine.commands.accounts_list(calls.NoParams())
        assert [one.name for one in listed.accounts] == ["a"]
        folders = await engine.commands.folders_list(calls.FolderListParams(account="a"))
        assert [(folder.name, folder.downloaded_items) for folder in folders.folders] == [("INBOX", 4)]


async def test_an_account_is_tested_by_signing_in_and_listing_folders(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1), b"Public": Mailbox(attributes=rb"\Noselect")})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        tested = await engine.commands.accounts_test(calls.AccountParams(account="a"))
        assert {folder.name: folder.selectable for folder in tested.folders} == {"INBOX": True, "Public": False}
        assert "CONDSTORE" in tested.capabilities
        honest.password = b"another"
        with pytest.raises(NeedsAttention) as refused:
            await engine.commands.accounts_test(calls.AccountParams(account="a"))
        assert refused.value.kind == "sign-in"


class Broken:
    """A source with a defect."""

    def session(self) -> object:
        raise ZeroDivisionError("this cannot be")


async def test_R6_a_defect_fails_the_job_that_met_it_and_leaves_a_traceback_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedServer(Honest({b"INBOX": mailbox(2)}))
    async with server, running(tmp_path, {"bad": Broken(), "good": server.source()}) as engine:  # type: ignore[dict-item]
        failed = await engine.finish("bad")
        assert (failed.status, failed.error.kind if failed.error else None) == ("failed", "internal")
        assert "ZeroDivisionError" in caplog.text
        assert (await engine.finish("good")).progress.downloaded_items == 2


class Stuck(SqliteState):
    """A ledger that refuses the first three moves."""

    refusals = 3

    async def move_job(self, *args: object, **options: object) -> Job:
        if self.refusals:
            self.refusals -= 1
            raise Transient("locked", "Another program has locked the ledger.")
        return await super().move_job(*args, **options)  # type: ignore[arg-type]


async def test_L9_a_ledger_that_is_locked_for_a_while_delays_a_job_and_no_more(tmp_path: Path) -> None:
    server = ScriptedServer(Honest({b"INBOX": mailbox(2)}))
    async with server, running(tmp_path, server.source(), state=Stuck) as engine:
        assert (await engine.finish()).status == "completed"


async def test_a_session_that_nobody_uses_is_closed_after_a_while(tmp_path: Path) -> None:
    gone = asyncio.Event()
    honest = Honest({b"INBOX": mailbox(2)})

    @honest.instead_of("LOGOUT")
    async def leaves(client: Client, command: Command) -> None:
        await honest.answer(client, command)
        gone.set()

    async with ScriptedServer(honest) as server:
        account = Account(settings("a", connections=1, interval=60), 1, server.source(), SystemClock(), idle_limit=0.01)
        async with account.session(2) as session:
            assert session.alive
        async with asyncio.timeout(30):
            await gone.wait()
        assert account.connections == 0


async def test_a_chore_that_fails_is_done_again_next_time(tmp_path: Path) -> None:
    done = asyncio.Event()
    tries = iter([Transient("locked", "not now"), Transient("locked", "not yet")])

    async def chore() -> None:
        if (error := next(tries, None)) is not None:
            raise error
        done.set()

    async with ScriptedServer(Honest()) as server, running(tmp_path, server.source()) as engine:
        engine.supervisor.tend("sweeping", chore, 0.01)
        await done.wait()
