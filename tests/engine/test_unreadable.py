"""A bad sector beneath one file that had no row yet: the daemon starts, and fetches that item again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from hauld.errors import Transient
from hauld.state.sqlite import SqliteState
from hauld.stores.maildir import MaildirStore
from support.disks import BadSectors
from support.engine import running
from support.scripted_imap import Honest, Mailbox, ScriptedServer


class NeverRecords(SqliteState):
    """What is stored has its final name, and no row."""

    async def record_group(self, *args: object) -> object:  # type: ignore[override]
        raise Transient("disk", "The ledger could not be written.")

    adopt = record_group  # type: ignore[assignment]


async def test_L7_a_daemon_starts_beside_a_file_that_cannot_be_read_and_fetches_what_was_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Honest({b"INBOX": Mailbox({uid: b"body %d" % uid for uid in range(1, 6)})})
    disk = BadSectors()
    async with ScriptedServer(origin) as server:
        async with running(tmp_path, server.source(), state=NeverRecords) as engine:
            job = await engine.create(live=False)
            await engine.until(job.id, lambda seen: seen.phase == "waiting")
            stored = sorted(path for path in engine.root.rglob("*.haul,*") if path.parent.name == "cur")
        assert stored
        disk.bad.add(stored[0].name)
        asked = len(server.commands)
        async with running(tmp_path, server.source(), store=partial(MaildirStore, disk=disk)) as engine:
            (account,) = engine.supervisor.accounts.values()
            assert (await engine.state.account_totals(account.number)).items == len(stored) - 1
            assert (await engine.ended(job.id)).status == "completed"
            assert engine.bodies() == [b"body %d" % uid for uid in range(1, 6)]
        fetched = [command for command in server.commands[asked:] if b"BODY.PEEK[]" in command]
        assert fetched
    assert stored[0].name in caplog.text
