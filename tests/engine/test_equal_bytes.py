"""Equal bytes that are one file: nobody's going takes it from another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hauld.clock import SystemClock
from hauld.engine.ingest import Arrival, Ingest
from hauld.errors import HaulError
from hauld.model import Deposit, FolderKind, Page, RemoteFolder, RemoteItem, Strategy
from hauld.state.sqlite import SqliteState
from hauld.stores.eml import EmlStore
from support.disks import UnsyncedDisk
from support.engine import PATIENCE

IDENTITY = "imap://a@test.example"
FOLDERS = [RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX), RemoteFolder(b"Work", ("Work",), FolderKind.OTHER)]
BODY = b"Subject: the same\r\n\r\n"


async def test_an_item_whose_epoch_has_passed_does_not_take_the_file_from_one_that_has_the_same_bytes(tmp_path: Path) -> None:
    state, store = SqliteState(tmp_path / "haul.db", SystemClock()), EmlStore(tmp_path / "mail", disk=UnsyncedDisk())
    await state.start()
    await store.start()
    ingest = Ingest(store, state)
    running = asyncio.create_task(ingest.run())
    try:
        account = await state.account(IDENTITY, "a", "imap")
        job, _ = await state.create_job(
            account, Strategy(), live=True, priority=2, requester=None, start=True, idempotency_key=None
        )
        folders = await state.record_folders(account, FOLDERS)
        [inbox], [work] = [await pending(state, job.number, folder.number) for folder in folders]
        await state.begin_listing(folders[1].number, "8")  # meanwhile its items got other keys
        for remote, item in zip(FOLDERS, (inbox, work), strict=True):
            over: asyncio.Future[HaulError | None] = asyncio.get_running_loop().create_future()
            writer = store.open("7.1", len(BODY))
            writer.write(BODY)
            place = await store.prepare(IDENTITY, "a", remote, None)
            deposit = Deposit(place, "7", "7.1", writer.finish())

            def settled(_: Sequence[Arrival], error: HaulError | None, over: asyncio.Future[HaulError | None] = over) -> None:
                over.set_result(error)

            ingest.put([Arrival(item, job.number, deposit, None, settled, lambda _: None)])
            assert await asyncio.wait_for(over, PATIENCE) is None
        await asyncio.wait_for(ingest.finish(), PATIENCE)
        [stored] = await state.stored(folders[0].number, after=0, limit=10)
        assert await state.stored(folders[1].number, after=0, limit=10) == []
        assert await store.read(stored.path) == BODY
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()
        await state.close()


async def pending(state: SqliteState, job: int, folder: int) -> list[int]:
    """The number of the folder's only item, which waits."""
    await state.begin_listing(folder, "7")
    await state.record_page(folder, Page("7", [RemoteItem("7.1", 1, len(BODY))]), [job])
    return [item.number for item in await state.pending(job, folder, below=None, limit=2)]
