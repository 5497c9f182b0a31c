"""Origins that break the connection at one message or one folder: all the rest is stored, and what breaks it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

from haulapi import calls
from hauld.engine.suspects import MOST, Suspects
from support.engine import Engine, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, fetched, is_in

INBOX = b"INBOX"
WHOLE = b"BODY.PEEK[])"


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, count + 1)})


def breaks_at(
    honest: Honest,
    bad: Mapping[bytes, Sequence[int]],
    *,
    first: bytes = b"",
    mended: Callable[[list[bytes]], bool] = lambda _: False,
) -> list[bytes]:
    """The server sends what comes before a bad message, ``first`` of that one's answer, and closes the connection, until it is
    ``mended``; what bodies it was asked for when it did."""
    asked: list[bytes] = []

    @honest.instead_of("UID FETCH")
    async def breaks(client: Client, command: Command) -> None:
        wanted, _, items = command.arguments.partition(b" ")
        box = honest._open[client]
        (name,) = (name for name, each in honest.mailboxes.items() if each is box)
        uids = bad.get(name, ())
        if b"BODY" not in items or not any(is_in(uid, wanted) for uid in uids) or mended(asked):
            await honest.answer(client, command)
            return
        asked.append(wanted)
        for uid in box.uids:
            if is_in(uid, wanted) and uid in uids:
                await client.send(first)
                await client.close()
                return
            if is_in(uid, wanted):
                await client.send(fetched(uid, uid, box.messages[uid]))

    return asked


async def not_stored(engine: Engine, job: calls.Job) -> dict[tuple[str, str], calls.Item]:
    page = await engine.commands.items_list(calls.ItemListParams(job=job.id, limit=1000))
    return {(item.folder, item.key): item for item in page.items if item.status != "completed"}


async def item_of(engine: Engine, job: calls.Job, key: str) -> calls.Item:
    page = await engine.commands.items_list(calls.ItemListParams(job=job.id, limit=1000))
    return next(item for item in page.items if item.key == key)


# --- messages ---


async def test_a_message_that_breaks_the_connection_costs_only_itself_and_is_told(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(10), b"Sent": mailbox(3)})
    asked = breaks_at(honest, {INBOX: [5]})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 12, 1)
        ((name, bad),) = (await not_stored(engine, job)).items()
        assert (name, bad.status, bad.retry_count) == (("INBOX", "1.5"), "failed", 3)
        assert bad.error is not None
        assert "The connection breaks each time that this item is asked for" in bad.error.message
    assert asked == [b"1:10", b"5", b"5", b"5"]


async def test_a_message_that_breaks_off_in_its_middle_is_failed_as_well(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(5)})
    breaks_at(honest, {INBOX: [3]}, first=b"* 3 FETCH (UID 3 RFC822.SIZE 100 BODY[] {100}\r\nSubject: 3\r\n")
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.progress.downloaded_items, job.progress.failed_items) == (4, 1)


async def test_of_a_large_folder_on_several_sessions_only_the_bad_message_is_missing(tmp_path: Path) -> None:
    honest = Honest({b"Archive": mailbox(1100), INBOX: mailbox(120), b"Sent": mailbox(100)})
    asked = breaks_at(honest, {b"Archive": [905]})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 1319, 1)
        assert list(await not_stored(engine, job)) == [("Archive", "1.905")]
    assert len(asked) < 10


async def test_bad_messages_side_by_side_and_in_another_folder_are_each_found(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(30), b"Sent": mailbox(3)})
    breaks_at(honest, {INBOX: [7, 8], b"Sent": [2]})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items) == ("completed", 30)
        assert {name: item.retry_count for name, item in (await not_stored(engine, job)).items()} == {
            ("INBOX", "1.7"): 3,
            ("INBOX", "1.8"): 3,
            ("Sent", "1.2"): 3,
        }


async def test_a_job_of_nothing_but_bad_messages_ends(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(2)})
    breaks_at(honest, {INBOX: [1, 2]})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 0, 2)


async def test_a_bad_message_that_comes_at_the_second_try_is_stored_and_its_tries_are_told(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(6)})
    asked = breaks_at(honest, {INBOX: [4]}, mended=lambda asked: b"4" in asked)
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 6, 0)
        assert (await item_of(engine, job, "1.4")).retry_count == 1
    assert asked == [b"1:6", b"4"]


async def test_a_bad_message_that_is_mended_comes_when_it_is_retried(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(4)})
    breaks_at(honest, {INBOX: [2]})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert job.progress.failed_items == 1
        honest.be_honest()
        await engine.commands.jobs_retry(calls.RetryParams(job=job.id))
        job = await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 4)
        assert job.progress.failed_items == 0


# --- large messages ---


def large() -> Honest:
    return Honest({INBOX: Mailbox({1: b"a\r\n", 2: b"Subject: 2\r\n\r\n" + b"x" * 100_000, 3: b"c\r\n"}), b"Sent": mailbox(3)})


async def test_a_large_message_whose_windows_break_the_connection_costs_only_itself(tmp_path: Path) -> None:
    honest = large()
    asked: list[bytes] = []

    @honest.instead_of("UID FETCH")
    async def breaks_behind_the_first_window(client: Client, command: Command) -> None:
        if b"<" in command.arguments and command.arguments.startswith(b"2 ") and b"<0.20000>" not in command.arguments:
            asked.append(command.arguments)
            await client.close()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(window=20_000)) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 5, 1)
        assert list(await not_stored(engine, job)) == [("INBOX", "1.2")]
    assert len(asked) < 10


async def test_a_large_message_that_gets_further_each_time_is_stored_however_often_the_line_breaks(tmp_path: Path) -> None:
    honest = large()
    given: dict[Client, int] = {}

    @honest.instead_of("UID FETCH")
    async def one_window_a_connection(client: Client, command: Command) -> None:
        if b"<" in command.arguments and command.arguments.startswith(b"2 "):
            given[client] = given.get(client, 0) + 1
            if given[client] > 1:
                await client.close()
                return
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(window=20_000)) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 6, 0)
        assert (await item_of(engine, job, "1.2")).retry_count == 0
    assert len(given) > 4


# --- outages ---


async def during(engine: Engine, server: ScriptedServer, job: calls.Job, connections: int) -> calls.Job:
    """The job after so many more connections."""
    end = server.connections + connections
    return await engine.until(job.id, lambda _: server.connections >= end)


async def test_an_origin_that_goes_away_in_the_middle_fails_no_item(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(20)})
    away: list[bytes] = []

    @honest.instead_of("UID FETCH")
    async def goes_away(client: Client, command: Command) -> None:
        if WHOLE in command.arguments:
            away.append(command.arguments)
            for uid in range(1, 6):
                await client.send(fetched(uid, uid, honest.mailboxes[INBOX].messages[uid]))
            await client.reset()
        else:
            await honest.answer(client, command)

    async def play(client: Client) -> None:
        await (client.reset() if away else honest(client))

    async with ScriptedServer(play) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(live=False)
        await during(engine, server, job, 8)
        assert {item.retry_count for item in (await not_stored(engine, job)).values()} == {0}
        away.clear()
        honest.be_honest()
        job = await engine.ended(job.id)
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 20, 0)


async def test_an_origin_that_gives_no_message_at_all_for_a_while_fails_none(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        honest.mailboxes[INBOX] = mailbox(6)
        honest.mailboxes[INBOX].touch()

        @honest.instead_of("UID FETCH")
        async def gives_none(client: Client, command: Command) -> None:
            await (client.close() if b"BODY" in command.arguments else honest.answer(client, command))

        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        await during(engine, server, job, 12)
        assert {item.retry_count for item in (await not_stored(engine, job)).values()} == {0}
        honest.be_honest()
        job = await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 6)
        assert job.progress.failed_items == 0


async def test_an_origin_that_gives_one_message_a_connection_gives_all_of_them(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(8)})

    @honest.instead_of("UID FETCH")
    async def gives_one(client: Client, command: Command) -> None:
        wanted, _, items = command.arguments.partition(b" ")
        if WHOLE not in items:
            await honest.answer(client, command)
            return
        uid = next(uid for uid in range(1, 9) if is_in(uid, wanted))
        await client.send(fetched(uid, uid, honest.mailboxes[INBOX].messages[uid]))
        await client.close()

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.failed_items) == ("completed", 8, 0)


# --- folders ---


def does_not_open(honest: Honest, closes: Callable[[bytes], bool]) -> list[bytes]:
    """The server closes the connection when one of these folders is opened; which it was asked for."""
    asked: list[bytes] = []

    @honest.instead_of("EXAMINE")
    async def breaks(client: Client, command: Command) -> None:
        if closes(command.arguments):
            asked.append(command.arguments)
            await client.close()
        else:
            await honest.answer(client, command)

    return asked


async def test_a_folder_that_breaks_the_connection_is_told_and_the_others_are_stored(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(10), b"Bad": mailbox(3), b"Sent": mailbox(3)})
    asked = does_not_open(honest, lambda name: b"Bad" in name)
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.progress.remaining_items) == ("completed", 13, 0)
        assert job.error is not None
        assert "'Bad'" in job.error.message
        folders = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        (bad,) = (folder for folder in folders if folder.error is not None)
        assert bad.error is not None
        assert "The connection breaks each time that the folder 'Bad' is listed" in bad.error.message
        assert len(asked) == 6, "once more in each comparison"
        honest.be_honest()
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        job = await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 16)
        assert (await engine.until(job.id, lambda seen: seen.status == "completed")).error is None


async def test_the_only_folder_is_not_blamed_for_a_connection_that_breaks_when_it_is_opened(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(3)})
    asked = does_not_open(honest, lambda _: True)
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(live=False)
        waiting = await engine.until(job.id, lambda seen: len(asked) >= 5 and seen.phase == "waiting")
        assert waiting.error is not None
        assert "the connection was closed by the server" in waiting.error.message
        honest.be_honest()
        job = await engine.ended(job.id)
        assert (job.status, job.progress.downloaded_items, job.error) == ("completed", 3, None)


async def test_more_bad_folders_than_may_break_at_once_keep_no_other_waiting(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(3), b"Bad 1": mailbox(1), b"Bad 2": mailbox(1), b"Bad 3": mailbox(1)})
    does_not_open(honest, lambda name: b"Bad" in name)
    with mock.patch("hauld.engine.comparison.BREAKS", 2):
        async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
            job = await engine.finish()
            assert (job.status, job.progress.downloaded_items) == ("completed", 3)
            assert job.error is not None
            assert "3 of the account's folders" in job.error.message


async def test_an_origin_that_opens_no_folder_for_a_while_has_them_all_listed_afterwards(tmp_path: Path) -> None:
    names = [INBOX, *(b"F%d" % number for number in range(5))]
    honest = Honest({name: mailbox(1) for name in names})
    asked = does_not_open(honest, lambda _: True)
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(live=False)
        await engine.until(job.id, lambda _: len(asked) >= 9)
        honest.be_honest()
        job = await engine.ended(job.id)
        assert (job.status, job.progress.downloaded_items, job.error) == ("completed", 6, None)


async def test_on_a_line_that_breaks_everywhere_no_folder_is_blamed(tmp_path: Path) -> None:
    honest = Honest({INBOX: mailbox(2), b"Sent": mailbox(2), b"Work": mailbox(2)})
    opened: dict[bytes, int] = {}

    @honest.instead_of("EXAMINE")
    async def breaks(client: Client, command: Command) -> None:
        name = command.arguments
        opened[name] = opened.get(name, 0) + 1
        odd = b"Sent" in name and opened[name] % 2
        if odd or (b"Work" in name and opened[name] <= 8):
            await client.close()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, job.error) == ("completed", 6, None)


# --- what is remembered ---


def test_suspects_are_asked_for_in_ever_smaller_company() -> None:
    suspects = Suspects()
    suspects.add(range(500))
    assert suspects.company(0) == 62
    suspects.add(range(62))
    assert (suspects.company(0), suspects.company(100)) == (7, 62)
    suspects.add(range(7))
    assert suspects.company(0) == 1
    suspects.clear(range(500))
    assert not suspects


def test_no_more_suspects_are_remembered_than_there_is_room_for() -> None:
    suspects = Suspects()
    suspects.add(range(MOST + 5))
    assert (suspects.company(4), suspects.company(5) is None) == (None, False)


def test_a_suspect_of_which_more_comes_than_ever_before_gets_further() -> None:
    suspects = Suspects()
    suspects.add([1])
    assert [suspects.got_further(1, reached) for reached in (0, 10, 10, 5, 11)] == [False, True, False, False, True]


def test_a_folder_that_gets_further_than_ever_before_has_not_broken() -> None:
    suspects = Suspects()
    for reached, breaks in ((1000, 0), (2000, 0), (2000, 1), (500, 2)):
        suspects.broke(1, reached)
        assert suspects.breaks(1) == breaks
    suspects.listed(1)
    assert suspects.breaks(1) == 0
