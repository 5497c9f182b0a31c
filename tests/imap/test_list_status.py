"""LIST-STATUS: what is told along with the folders' names spares opening those in which nothing changed, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from haulapi import calls
from hauld.errors import HaulError
from hauld.model import RemoteFolder
from hauld.sources.base import Session
from hauld.sources.imap import ImapOptions, ImapSource
from support.dovecot import Dovecot, User
from support.engine import Engine, running
from support.messages import messages
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, quoted

OFFERED = b"IMAP4rev1 AUTH=PLAIN SASL-IR CONDSTORE SPECIAL-USE LIST-EXTENDED LIST-STATUS"
ASKED = b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))'
NAMES = (b"INBOX", b"Sent", b"a b")


def status_of(name: bytes, mailbox: Mailbox) -> bytes:
    told = (len(mailbox.messages), max(mailbox.uids, default=0) + 1, mailbox.uidvalidity, mailbox.highestmodseq or 0)
    return b"* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d)\r\n" % (quoted(name), *told)


def telling(*said: bytes, silent: tuple[bytes, ...] = ()) -> Honest:
    """An honest server that tells of its folders along with their names, but for the ``silent`` ones, and says this, too."""
    bodies = {uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, 4)}
    honest = Honest({name: Mailbox(dict(bodies)) for name in NAMES}, capabilities=OFFERED)

    @honest.instead_of("LIST")
    async def tells(client: Client, command: Command) -> None:
        if b"STATUS (" in command.line:
            spoken = [(name, mailbox) for name, mailbox in honest.mailboxes.items() if name not in silent]
            await client.send(*(status_of(*each) for each in spoken), *said)
        await honest.answer(client, command)

    return honest


async def told(session: Session) -> dict[bytes, RemoteFolder]:
    return {folder.raw: folder async for folder in session.folders(cursors=True)}


async def cursor_of(session: Session, folder: RemoteFolder) -> bytes | None:
    """Where a listing of the folder ends."""
    return [page async for page in session.list(folder, None)][-1].cursor


async def compare(engine: Engine, job: calls.Job) -> calls.Job:
    """Once more, with the downloads that it brings."""
    await engine.commands.jobs_sync(calls.JobParams(job=job.id))
    return await engine.until(job.id, lambda seen: seen.status == "completed")


async def imported(engine: Engine, **params: object) -> calls.Job:
    job = await engine.create(**params)
    return await engine.until(job.id, lambda seen: seen.status == "completed")


# --- what is told ---


async def test_what_is_told_along_is_where_a_listing_ends():
    async with ScriptedServer(telling()) as server, server.source().session() as session:
        for name, folder in (await told(session)).items():
            assert name in NAMES
            assert folder.cursor
            assert folder.cursor == await cursor_of(session, folder)
        assert server.asked("LIST") == [ASKED]


async def test_a_real_server_tells_where_a_listing_ends(dovecot: Dovecot, mail_user: User):
    dovecot.fill(mail_user, "INBOX", messages(3, size=500))
    dovecot.fill(mail_user, "Grüße/a b", messages(2, size=500))

    async def secret() -> str:
        return mail_user.password

    source = ImapSource(ImapOptions(dovecot.host, mail_user.name, dovecot.port, tls="none"), secret)
    async with source.session() as session:
        ends = {folder.raw: await cursor_of(session, folder) for folder in (await told(session)).values() if folder.selectable}
    async with source.session() as session:
        assert {raw: folder.cursor for raw, folder in (await told(session)).items() if folder.selectable} == ends
        opened = (await told(session))[b"INBOX"]
        assert [page.cursor async for page in session.list(opened, opened.cursor)] == [opened.cursor]
        dovecot.append(mail_user, "INBOX", b"Subject: new\r\n\r\n")
        assert (await told(session))[b"INBOX"].cursor is None  # it is open here: what is told of it may be old
    async with source.session() as session:
        assert (await told(session))[b"INBOX"].cursor != ends[b"INBOX"]


@pytest.mark.parametrize("missing", [b" LIST-STATUS", b" CONDSTORE"])
async def test_it_is_not_asked_where_it_would_prove_nothing(missing):
    honest = telling()
    honest.capabilities = OFFERED.replace(missing, b"")
    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [folder.cursor for folder in (await told(session)).values()] == [None, None, None]
        assert server.asked("LIST") == [b'LIST "" "*" RETURN (SPECIAL-USE)']


@pytest.mark.parametrize("refusal", [Command.no, Command.bad])
async def test_P41_a_server_that_offers_it_and_refuses_is_asked_without(refusal):
    honest = telling()

    @honest.instead_of("LIST")
    async def refuses(client: Client, command: Command) -> None:
        if b"STATUS" in command.line:
            await client.send(refusal(command, b"what?"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert {name: folder.cursor for name, folder in (await told(session)).items()} == dict.fromkeys(NAMES)


UNBELIEVABLE = {
    "nothing": b"",
    "no mod-sequence": b"* STATUS Sent (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 1)\r\n",
    "a mailbox without mod-sequences": b"* STATUS Sent (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 1 HIGHESTMODSEQ 0)\r\n",
    "no UIDNEXT": b"* STATUS Sent (MESSAGES 3 UIDVALIDITY 1 HIGHESTMODSEQ 1)\r\n",
    "no UIDVALIDITY": b"* STATUS Sent (MESSAGES 3 UIDNEXT 4 HIGHESTMODSEQ 1)\r\n",
    "no number": b"* STATUS Sent (MESSAGES -3 UIDNEXT 4 UIDVALIDITY 1 HIGHESTMODSEQ x)\r\n",
    "two things": b"".join(b"* STATUS Sent (MESSAGES %d UIDNEXT 4 UIDVALIDITY 1 HIGHESTMODSEQ 1)\r\n" % n for n in (3, 4, 3)),
    "no sense": b"* STATUS\r\n* STATUS ()\r\n* STATUS (MESSAGES 3) Sent\r\n* STATUS Sent MESSAGES\r\n* NO odd\r\n",
    "another name": b"* STATUS sent (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 1 HIGHESTMODSEQ 1)\r\n",
}


@pytest.mark.parametrize("said", UNBELIEVABLE.values(), ids=UNBELIEVABLE.keys())
async def test_P41_of_a_folder_that_is_told_less_of_or_nonsense_nothing_is_concluded(said):
    async with ScriptedServer(telling(said, silent=(b"Sent",))) as server, server.source().session() as session:
        folders = await told(session)
        assert folders.keys() == set(NAMES)
        assert [name for name, folder in folders.items() if folder.cursor is None] == [b"Sent"]


# --- what it spares ---


async def test_folders_in_which_nothing_changed_are_not_opened(tmp_path: Path) -> None:
    honest = telling()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await imported(engine)
        assert server.asked("LIST") == [b'LIST "" "*" RETURN (SPECIAL-USE)']  # of what is new, all would be opened anyway
        await compare(engine, job)
        listed = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        events = (await engine.state.event_span())[1]
        before = len(server.commands)
        honest.mailboxes[b"Sent"].add(4, b"Subject: 4\r\n\r\nnew\r\n")
        done = await compare(engine, job)
        assert done.progress.downloaded_items == 10
        said = server.commands[before:]
        assert said[0] == ASKED
        opened = {command for command in said if command.startswith(b"EXAMINE")}
        assert opened == {b'EXAMINE "Sent" (CONDSTORE)', b'EXAMINE "a b" (CONDSTORE)'}  # the other one was open before
        assert [each.folder for each in await engine.state.events(events) if each.kind == "folder.listed"] == ["Sent"]
        after = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        assert all(str(one.last_sync_at) > str(other.last_sync_at) for one, other in zip(after, listed, strict=True))


async def test_one_folder_of_many_that_is_due_is_asked_about_by_itself(tmp_path: Path) -> None:
    honest = telling()
    honest.mailboxes |= {b"F%d" % number: Mailbox() for number in range(10)}
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await imported(engine, strategy=calls.WantedStrategy(kind="selected-folders", folders=["Sent"]))
        await compare(engine, job)
        assert ASKED not in server.asked("LIST")


async def test_another_job_wants_what_is_known_of_folders_that_need_not_be_opened(tmp_path: Path) -> None:
    honest = telling()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        await imported(engine)
        before = len(server.commands)
        done = await engine.finish()
        assert (done.status, done.progress.skipped_items, done.progress.total_items) == ("completed", 9, 9)
        opened = [command for command in server.commands[before:] if command.startswith(b"EXAMINE")]
        assert len([command for command in opened if b"INBOX" not in command]) <= 1  # that one is looked into for news


async def test_a_job_that_searches_has_every_folder_searched(tmp_path: Path) -> None:
    honest = telling()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        await imported(engine)
        done = await engine.finish(strategy=calls.WantedStrategy(kind="search", subject="2"))
        assert done.progress.total_items == 3
        assert len([command for command in server.asked("UID SEARCH") if b"SUBJECT" in command]) == 3


async def test_P11_items_under_new_keys_are_looked_for_where_that_was_broken_off(tmp_path: Path) -> None:
    honest = telling()

    @honest.instead_of("UID FETCH")
    async def goes(client: Client, command: Command) -> None:
        if b"<0." in command.arguments:
            await client.reset()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await imported(engine)
            honest.mailboxes[b"Sent"].uidvalidity = 2
            with pytest.raises(HaulError, match="connection"):
                await compare(engine, job)
        honest.instead_of("UID FETCH")(honest.answer)
        asked = len([command for command in server.asked("UID FETCH") if b"PEEK[])" in command])
        async with running(tmp_path, server.source()) as engine:
            await compare(engine, job)
            assert len(engine.bodies()) == 9
        assert len([command for command in server.asked("UID FETCH") if b"PEEK[])" in command]) == asked


async def test_a_folder_that_could_not_be_read_is_looked_at_again(tmp_path: Path) -> None:
    honest = telling()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1) as engine:
        job = await imported(engine)
        honest.mailboxes[b"Sent"].touch()

        @honest.instead_of("EXAMINE")
        async def refuses(client: Client, command: Command) -> None:
            await client.send(command.no(b"[INUSE] locked"))

        await compare(engine, job)
        honest.mailboxes[b"Sent"].highestmodseq = 1
        honest.instead_of("EXAMINE")(honest.answer)
        await compare(engine, job)
        folders = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        assert [folder.error for folder in folders] == [None, None, None]
