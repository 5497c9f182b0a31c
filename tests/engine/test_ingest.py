"""The commit, where one folder cannot be written and the others can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from haulapi import calls
from hauld.model import Deposit, Place, Placed, RemoteFolder
from hauld.stores.maildir import MaildirStore
from support.engine import running
from support.scripted_imap import Honest, Mailbox, ScriptedServer


def mailbox(count: int, name: str) -> Mailbox:
    return Mailbox({uid: f"Subject: {name} {uid}\r\n\r\nbody\r\n".encode() for uid in range(1, count + 1)})


class Counting(Honest):
    """An honest server that remembers which bodies it gave."""

    def __init__(self, mailboxes: dict[bytes, Mailbox]) -> None:
        super().__init__(mailboxes)
        self.given: list[bytes] = []

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        body = super().body(mailbox, number, uid)
        self.given.append(body)
        return body


class LosesSent(MaildirStore):
    """A store in which the folder Sent cannot be written any more once it has its place. Its first group waits until somebody
    says so, so that the second one has items of several folders."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.groups: list[set[str]] = []
        self.go_on = asyncio.Event()
        self.loses = True

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        place = await super().prepare(identity, account, folder, directory)
        current = self.root / place.directory / "cur"
        if self.loses and folder.name == "Sent" and current.is_dir():
            current.rename(current.with_name("away"))
            current.write_text("not a directory")
        return place

    @asynccontextmanager
    async def commit(self, group: Sequence[Deposit]) -> AsyncIterator[Sequence[Placed]]:
        self.groups.append({deposit.place.folder.name for deposit in group})
        if len(self.groups) == 1:
            await self.go_on.wait()
        async with super().commit(group) as placed:
            yield placed


async def test_L13_a_folder_that_cannot_be_written_fails_alone_though_it_came_with_others(tmp_path: Path) -> None:
    honest = Counting({b"INBOX": mailbox(120, "in"), b"Sent": mailbox(60, "sent"), b"Work": mailbox(60, "work")})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), store=LosesSent) as engine:
        job = await engine.create(live=False)
        assert isinstance(engine.store, LosesSent)
        await engine.until(job.id, lambda seen: seen.progress.in_progress_items == 240)
        engine.store.go_on.set()

        async def folders() -> dict[str, calls.Folder]:
            listed = await engine.commands.folders_list(calls.FolderListParams(job=job.id))
            return {folder.name: folder for folder in listed.folders}

        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 180 and seen.phase == "waiting")
        assert any(len(group) > 1 for group in engine.store.groups), "several folders were in one group"
        whole = [body for body in honest.given if b"Subject: sent" not in body]
        assert len(whole) == len(set(whole)), "what the other folders have was fetched once"
        seen = await folders()
        assert (seen["INBOX"].downloaded_items, seen["Work"].downloaded_items) == (120, 60)
        assert seen["Sent"].error is not None
        assert (seen["INBOX"].error, seen["Work"].error) == (None, None)
        current = engine.root / "a" / "Sent" / "cur"
        current.unlink()
        current.with_name("away").rename(current)
        engine.store.loses = False
        await engine.commands.jobs_sync(calls.JobParams(job=job.id))
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 240)
