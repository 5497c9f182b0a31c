"""An access token that ends before the work does."""

from __future__ import annotations

from pathlib import Path

from support.engine import running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, is_in


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, count + 1)})


async def test_G9_a_token_that_expires_while_a_job_runs_is_renewed_and_the_job_ends_complete(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(20)}, capabilities=b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR", password=b"first")

    @honest.instead_of("UID FETCH")
    async def breaks_off_once(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments or honest.password == b"second":
            await honest.answer(client, command)
            return
        box = honest.mailboxes[b"INBOX"]
        wanted = [uid for uid in box.uids if is_in(uid, command.arguments.partition(b" ")[0])]
        await client.send(honest.body(box, box.uids.index(wanted[0]) + 1, wanted[0]))
        honest.password = b"second"
        await client.reset()

    async with ScriptedServer(honest) as server:
        source = server.source(auth="xoauth2", tokens=["first", "first", "second", "second"])
        async with running(tmp_path, source, connections=1) as engine:
            job = await engine.finish()
            assert (job.status, job.progress.downloaded_items, job.error) == ("completed", 20, None)
            assert engine.supervisor.accounts["a"].state != "attention"
            assert len(engine.bodies()) == 20
    assert honest.password == b"second"
