"""Lists in pages: every element once, in order, and no reply longer than a line may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from haulapi import calls
from haulapi.envelope import Reply
from haulapi.frames import MAX_LINE, encode
from hauld.engine.pages import LARGEST_PAGE, ROOM, page
from hauld.errors import Refused
from support.engine import Engine, running
from support.scripted_imap import Honest, Mailbox, ScriptedServer


async def pages(engine: Engine, job: str, limit: int) -> list[list[str]]:
    """The names of all folders of a job, page by page."""
    found: list[list[str]] = []
    after = None
    while True:
        listed = await engine.commands.folders_list(calls.FolderListParams(job=job, limit=limit, after=after))
        assert len(encode(Reply(id="x" * 200, result=listed))) <= MAX_LINE
        found.append([folder.name for folder in listed.folders])
        if (after := listed.next) is None:
            return found


async def test_folders_come_in_pages_each_once_and_in_the_order_of_fetching(tmp_path: Path) -> None:
    boxes = {b"INBOX": Mailbox(), **{b"Folder %d" % number: Mailbox() for number in range(20)}}
    async with ScriptedServer(Honest(boxes)) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        whole = await pages(engine, job.id, 1000)
        assert len(whole) == 1
        assert [name for each in await pages(engine, job.id, 4) for name in each] == whole[0]
        assert [len(each) for each in await pages(engine, job.id, 7)] == [7, 7, 7]
        assert len(await pages(engine, job.id, 1)) == 21
        of_account = await engine.commands.folders_list(calls.FolderListParams(account="a", limit=20))
        assert [folder.name for folder in of_account.folders] == whole[0][:20]
        rest = await engine.commands.folders_list(calls.FolderListParams(account="a", after=of_account.next))
        assert ([folder.name for folder in rest.folders], rest.next) == (whole[0][20:], None)


async def test_P29_folders_with_names_of_4_kb_come_in_pages_that_fit_a_line(tmp_path: Path) -> None:
    boxes = {b"%d " % number + b"x" * 4000: Mailbox() for number in range(300)}
    async with ScriptedServer(Honest(boxes)) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await engine.create(start=False)
        await engine.create(dry_run=True)
        found = await pages(engine, job.id, 1000)
        assert len(found) > 1
        assert sorted(name.encode() for each in found for name in each) == sorted(boxes)


@pytest.mark.parametrize("after", ["x", "-1", "4711", "1" * 30, ""], ids=lambda after: after[:5] or "nothing")
async def test_what_is_not_where_a_page_ended_is_refused(tmp_path: Path, after: str) -> None:
    async with ScriptedServer(Honest()) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(start=False)
        with pytest.raises(Refused, match="is not where a page ended") as refused:
            await engine.commands.folders_list(calls.FolderListParams(job=job.id, after=after))
        assert refused.value.hint
        with pytest.raises(Refused, match="A page of 0 is not possible"):
            await engine.commands.folders_list(calls.FolderListParams(job=job.id, limit=0))


@pytest.mark.parametrize("attempts", [0, -1, 101])
async def test_so_many_attempts_are_refused(tmp_path: Path, attempts: int) -> None:
    async with ScriptedServer(Honest()) as server, running(tmp_path, server.source()) as engine:
        with pytest.raises(Refused, match="1 to 100"):
            await engine.create(attempts=attempts)


async def test_a_job_keeps_its_attempts(tmp_path: Path) -> None:
    async with ScriptedServer(Honest()) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(attempts=7, start=False)
        assert job.attempts == 7
        assert (await engine.job(job.id)).attempts == 7
        assert (await engine.create(start=False)).attempts is None


@pytest.mark.parametrize(("count", "limit", "taken"), [(0, 5, 0), (4, 5, 4), (5, 5, 5), (6, 5, 5)])
def test_a_page_has_as_many_as_were_asked_for(count: int, limit: int, taken: int) -> None:
    assert page(range(count), limit) == (list(range(taken)), taken < count)


def test_a_page_has_no_more_bytes_than_fit_but_one_element_always() -> None:
    large = "x" * (ROOM // 2 - 10)
    assert page([large] * 3, LARGEST_PAGE) == ([large] * 2, True)
    assert page(["x" * (2 * ROOM)] * 2, LARGEST_PAGE)[1] is True
    assert len(page(["x" * (2 * ROOM)] * 2, LARGEST_PAGE)[0]) == 1
