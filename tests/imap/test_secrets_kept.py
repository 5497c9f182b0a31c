"""A server that repeats the password later on, in whatever it says, does not get it into an error, the log or the ledger."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from contracts.source import body_of, fetched
from haulapi import calls
from hauld.errors import HaulError
from hauld.model import RemoteFolder
from hauld.sources.imap import ImapSource
from support.engine import running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

SECRET = "correct-horse-battery"
BASE64 = base64.b64encode(f"\0alice\0{SECRET}".encode())
INBOX = RemoteFolder(b"INBOX", ("INBOX",))

Lie = Callable[[Client, Command], Awaitable[None]]


def honest(bodies: dict[int, bytes] | None = None) -> Honest:
    return Honest({b"INBOX": Mailbox(bodies or {1: b"one", 2: b"two"})}, password=SECRET.encode())


def no(text: bytes) -> Lie:
    async def answer(client: Client, command: Command) -> None:
        await client.send(command.no(text))

    return answer


def line(text: bytes) -> Lie:
    async def answer(client: Client, command: Command) -> None:
        await client.send(text + b"\r\n")

    return answer


LIES = {
    "NO": ("EXAMINE", no(b"[SERVERBUG] backend login failed: LOGIN alice " + SECRET.encode())),
    "NO, in base64": ("EXAMINE", no(b"backend: AUTHENTICATE PLAIN " + BASE64)),
    "NO, as a code": ("EXAMINE", no(b"[" + SECRET.encode() + b"] not today")),
    "NO to a list": ("LIST", no(b"cannot list for alice:" + SECRET.encode())),
    "BYE": ("EXAMINE", line(b"* BYE kicked, you said " + SECRET.encode())),
    "throttled": ("EXAMINE", no(b"[THROTTLED] LOGIN alice " + SECRET.encode())),
    "a line without sense": ("EXAMINE", line(b"!! LOGIN alice " + SECRET.encode())),
    "an answer to nothing": ("EXAMINE", line(SECRET.encode() + b" OK done")),
}


async def look(source: ImapSource) -> None:
    """List the folders, and INBOX."""
    async with source.session() as session:
        _ = [folder async for folder in session.folders()]
        _ = [page async for page in session.list(INBOX, None)]


def everything(error: BaseException | None) -> str:
    """All that an error says, with all that it comes from."""
    return "" if error is None else f"{error} {error!r} {everything(error.__cause__)} {everything(error.__context__)}"


@pytest.mark.parametrize("lie", LIES)
async def test_G7_no_error_of_a_session_holds_the_password_that_a_server_repeats(lie: str) -> None:
    origin = honest()
    verb, answer = LIES[lie]
    origin.instead_of(verb)(answer)
    async with ScriptedServer(origin) as server:
        with pytest.raises(HaulError) as raised:
            await look(server.source(password=SECRET))
        told = everything(raised.value)
        assert SECRET not in told
        assert SECRET.upper() not in told
        assert BASE64.decode() not in told


async def test_G7_the_reason_why_an_item_is_missing_does_not_hold_it_either() -> None:
    origin = honest()
    origin.instead_of("UID FETCH")(no(b"cannot read it as " + SECRET.encode()))
    async with ScriptedServer(origin) as server, server.source(password=SECRET).session() as session:
        outcomes = await fetched(session, INBOX, "1", ["1.1"])
        assert "cannot read it as ***" in repr(outcomes)
        assert SECRET not in repr(outcomes)


async def test_G7_bodies_flags_and_names_stay_what_they_are_with_the_password_in_them() -> None:
    body = f"my password is {SECRET}\r\n".encode()
    origin = honest({1: body})
    origin.mailboxes[SECRET.encode()] = Mailbox({1: body})
    folder = RemoteFolder(SECRET.encode(), (SECRET,))
    async with ScriptedServer(origin) as server, server.source(password=SECRET).session() as session:
        assert folder in [each async for each in session.folders()]
        [outcome] = await fetched(session, folder, "1", ["1.1"])
        assert body_of(outcome) == body


async def test_G7_neither_log_nor_ledger_nor_reply_holds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    origin = honest()
    origin.instead_of("EXAMINE")(LIES["NO"][1])
    async with ScriptedServer(origin) as server, running(tmp_path, server.source(password=SECRET)) as engine:
        job = await engine.finish()
        told = (await engine.commands.folders_list(calls.FolderListParams(job=job.id))).folders
        assert "backend login failed: LOGIN alice ***" in repr(told)
        await engine.state.save_copy()
    assert "backend login failed" in caplog.text
    assert SECRET not in caplog.text + repr(told)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
