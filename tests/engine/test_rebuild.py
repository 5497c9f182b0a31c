"""A ledger that was lost comes back from the files, and nothing is fetched again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from haulapi.calls import JobParams
from hauld.errors import Transient
from hauld.model import Found, Place
from hauld.state.sqlite import SqliteState
from support.engine import running
from support.scripted_imap import Honest, Mailbox, ScriptedServer

FOLDERS = {b"INBOX": 30, b"Sent": 12, b"Archive/2025": 7}
EVERYTHING = sum(FOLDERS.values())


def honest() -> Honest:
    return Honest(
        {
            raw: Mailbox({uid: b"Subject: %s %d\r\n\r\nbody\r\n" % (raw, uid) for uid in range(1, n + 1)})
            for raw, n in FOLDERS.items()
        }
    )


def bodies_asked_for(server: ScriptedServer) -> int:
    return sum(b"BODY" in command for command in server.asked("UID FETCH"))


def lose_the_ledger(root: Path) -> None:
    for path in root.glob("haul.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


async def test_L10_a_deleted_ledger_comes_back_from_the_files_and_no_body_is_fetched(tmp_path: Path) -> None:
    async with ScriptedServer(honest()) as server:
        async with running(tmp_path, server.source()) as engine:
            await engine.finish()
        asked = bodies_asked_for(server)
        lose_the_ledger(tmp_path)
        async with running(tmp_path, server.source()) as engine:
            assert await engine.state.reconciled()
            bodies = engine.bodies()
            job = await engine.finish()
            assert (job.progress.total_items, job.progress.skipped_items) == (EVERYTHING, EVERYTHING)
            assert engine.bodies() == bodies
        assert bodies_asked_for(server) == asked


async def test_a_job_that_a_copy_tells_of_goes_on_and_finds_everything_stored(tmp_path: Path) -> None:
    origin = honest()
    async with ScriptedServer(origin) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await engine.create(start=False)
            copy = await engine.state.save_copy()
            assert copy is not None
            await engine.commands.jobs_start(JobParams(job=job.id))
            await engine.until(job.id, lambda seen: seen.status == "completed")
            early = copy.read_bytes()
        asked = bodies_asked_for(server)
        for later in copy.parent.iterdir():
            later.unlink()
        copy.write_bytes(early)
        (tmp_path / "haul.db").write_bytes(b"\0" * 100_000)
        origin.mailboxes[b"INBOX"].add(31, b"new\r\n")
        async with running(tmp_path, server.source()) as engine:
            assert [(known.id, known.status) for known in await engine.state.jobs()] == [(job.id, "pending")]
            await engine.commands.jobs_start(JobParams(job=job.id))
            done = await engine.until(job.id, lambda seen: seen.status == "completed")
            assert (done.progress.downloaded_items, done.progress.skipped_items) == (1, EVERYTHING)
        assert bodies_asked_for(server) == asked + 1


async def test_a_job_made_shortly_before_the_end_is_in_the_copy_made_then(tmp_path: Path) -> None:
    async with ScriptedServer(honest()) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await engine.create(start=False)
        (tmp_path / "haul.db").write_bytes(b"garbage")
        async with running(tmp_path, server.source()) as engine:
            assert (await engine.job(job.id)).status == "pending"


async def test_what_the_stage_still_held_is_rebuilt_as_well(tmp_path: Path) -> None:
    class NeverRecords(SqliteState):
        async def record_group(self, *args: object) -> object:  # type: ignore[override]
            raise Transient("disk", "The ledger could not be written.")

        adopt = record_group  # type: ignore[assignment]

    async with ScriptedServer(honest()) as server:
        async with running(tmp_path, server.source(), state=NeverRecords) as engine:
            job = await engine.create(live=False)
            await engine.until(job.id, lambda seen: seen.phase == "waiting")
        asked = bodies_asked_for(server)
        kept = len(list((tmp_path / "mail").rglob("*.haul,*")))
        assert kept
        lose_the_ledger(tmp_path)
        async with running(tmp_path, server.source()) as engine:
            (account,) = engine.supervisor.accounts.values()
            assert (await engine.state.account_totals(account.number)).items == kept
            done = await engine.finish()
            assert done.progress.downloaded_items == EVERYTHING - kept
        assert bodies_asked_for(server) > asked or kept == EVERYTHING


class Dies(Exception):
    """The process is gone."""


class DiesWhileRebuilding(SqliteState):
    """A ledger whose process is killed after so many steps of the rebuild."""

    steps = 0

    async def restore(self, source: str, place: Place, found: Sequence[Found]) -> int:
        self._step()
        restored = await super().restore(source, place, found)
        self._step()
        return restored

    async def set_reconciled(self) -> None:
        self._step()
        await super().set_reconciled()

    def _step(self) -> None:
        if type(self).steps == 0:
            raise Dies
        type(self).steps -= 1


async def test_L4_a_rebuild_killed_ten_times_in_a_row_is_finished_by_the_eleventh_start(tmp_path: Path) -> None:
    async with ScriptedServer(honest()) as server:
        async with running(tmp_path, server.source()) as engine:
            await engine.finish()
            bodies = engine.bodies()
        asked = bodies_asked_for(server)
        lose_the_ledger(tmp_path)
        for kill in range(10):
            DiesWhileRebuilding.steps = kill % 7
            with pytest.raises(Dies):
                async with running(tmp_path, server.source(), state=DiesWhileRebuilding):
                    pytest.fail("the rebuild was not cut off")
        async with running(tmp_path, server.source()) as engine:
            job = await engine.finish()
            assert job.progress.skipped_items == EVERYTHING
            assert engine.bodies() == bodies
        assert bodies_asked_for(server) == asked


async def test_a_folder_that_cannot_be_looked_at_is_left_for_the_next_start(tmp_path: Path) -> None:
    async with ScriptedServer(honest()) as server:
        async with running(tmp_path, server.source()) as engine:
            await engine.finish()
        lose_the_ledger(tmp_path)
        inbox = next(path for path in (tmp_path / "mail").rglob("cur") if path.parent.name == "INBOX")
        away = inbox.rename(inbox.with_name("away"))
        inbox.write_text("not a directory")
        async with running(tmp_path, server.source()) as engine:
            assert not await engine.state.reconciled()
            (account,) = engine.supervisor.accounts.values()
            assert (await engine.state.account_totals(account.number)).items == EVERYTHING - FOLDERS[b"INBOX"]
        inbox.unlink()
        away.rename(inbox)
        async with running(tmp_path, server.source()) as engine:
            assert await engine.state.reconciled()
            assert (await engine.state.account_totals(account.number)).items == EVERYTHING


async def test_a_store_without_anything_is_reconciled_at_once(tmp_path: Path) -> None:
    async with ScriptedServer(honest()) as server, running(tmp_path, server.source()) as engine:
        assert await engine.state.reconciled()


NO_TEXT = os.fsdecode(b"\xe4rchiv")


async def test_L10_a_rebuild_passes_over_a_directory_whose_name_is_no_text_and_its_folders_are_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(honest()) as server:
        async with running(tmp_path, server.source()) as engine:
            await engine.finish()
            bodies = engine.bodies()
        stranger = (tmp_path / "mail/a").rename(tmp_path / "mail" / NO_TEXT)
        kept = {path: path.read_bytes() for path in stranger.rglob("*") if path.is_file()}
        lose_the_ledger(tmp_path)
        async with running(tmp_path, server.source()) as engine:
            assert await engine.state.reconciled()
            job = await engine.finish()
            assert (job.status, job.progress.downloaded_items) == ("completed", EVERYTHING)
            assert engine.bodies() == sorted(bodies * 2)
        assert {path: path.read_bytes() for path in kept} == kept
    assert sum("rename it back" in record.getMessage() for record in caplog.records) == 1


async def test_a_job_goes_on_beside_a_directory_whose_name_is_no_text(tmp_path: Path) -> None:
    origin = honest()
    async with ScriptedServer(origin) as server:
        async with running(tmp_path, server.source()) as engine:
            await engine.finish()
        (tmp_path / "mail/a").rename(tmp_path / "mail" / NO_TEXT)
        origin.mailboxes[b"Later"] = Mailbox({1: b"later"})
        async with running(tmp_path, server.source()) as engine:
            job = await engine.finish()
            assert (job.status, job.error, job.progress.downloaded_items) == ("completed", None, 1)
            assert (tmp_path / "mail/a/Later").is_dir()
