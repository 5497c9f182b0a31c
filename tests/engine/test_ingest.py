"""The commit, where one folder cannot be written and the others can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from haulapi import calls
from hauld.errors import Transient
from hauld.model import Deposit, Place, Placed, RemoteFolder, Setback, Stored
from hauld.state.base import Committed
from hauld.state.sqlite import SqliteState
from hauld.stores.maildir import MaildirStore
from support.engine import running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer


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
    async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
        self.groups.append({deposit.place.folder.name for deposit in group})
        if len(self.groups) == 1:
            await self.go_on.wait()
        async with super().commit(group, urgent=urgent) as placed:
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


# --- groups beside each other ---


async def test_while_a_group_is_recorded_the_next_is_made_durable_and_none_overtakes_another(tmp_path: Path) -> None:
    durable: list[list[str]] = []
    recorded: list[list[str]] = []
    first, second = asyncio.Event(), asyncio.Event()

    class Tells(MaildirStore):
        @asynccontextmanager
        async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
            async with super().commit(group, urgent=urgent) as placed:
                durable.append([item.key for item in placed])
                (second if first.is_set() else first).set()
                yield placed

    class WaitsForTheNext(SqliteState):
        async def record_group(self, job: int | None, stored: Sequence[Stored], setbacks: Sequence[Setback]) -> Committed:
            if stored:
                await second.wait()
                recorded.append([item.placed.key for item in stored])
            return await super().record_group(job, stored, setbacks)

    honest = Honest({b"INBOX": mailbox(300, "in")})
    asked: list[Command] = []

    @honest.instead_of("UID FETCH")
    async def all_but_the_first_when_that_is_durable(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments:
            asked.append(command)
            if len(asked) > 1:
                await first.wait()
        await honest.answer(client, command)

    async with (
        ScriptedServer(honest) as server,
        running(tmp_path, server.source(), state=WaitsForTheNext, store=Tells) as engine,
    ):
        assert (await engine.finish()).progress.downloaded_items == 300
    assert len(durable) > 1
    assert recorded == durable


async def test_L5_a_group_that_fails_takes_none_of_those_behind_it_along(tmp_path: Path) -> None:
    class FailsOnce(MaildirStore):
        failed = 0

        @asynccontextmanager
        async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
            if not FailsOnce.failed:
                FailsOnce.failed = len(group)
                raise Transient("disk", "No room.")
            async with super().commit(group, urgent=urgent) as placed:
                yield placed

    honest = Counting({b"INBOX": mailbox(500, "in")})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), store=FailsOnce) as engine:
        job = await engine.create(live=False)
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 500)
        assert len(honest.given) == 500 + FailsOnce.failed
        assert len(engine.bodies()) == 500
