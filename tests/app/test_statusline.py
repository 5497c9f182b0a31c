"""What systemctl shows of the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hauld.clock import SystemClock
from hauld.errors import Transient
from hauld.model import Counters, Job
from hauld.state.sqlite import SqliteState
from hauld.statusline import StatusLine, line
from support.engine import running
from support.scripted_imap import Honest, Mailbox, ScriptedServer


def account(state: str = "idle", *stages: str) -> Any:
    """As much of an account as the line tells of."""
    return SimpleNamespace(state=state, listeners=[SimpleNamespace(stage=stage) for stage in stages])


def importing(name: str) -> Any:
    """A job that runs."""
    return SimpleNamespace(account_name=name, number=1)


def test_the_line_says_how_many_accounts_do_what_and_how_far_the_imports_are() -> None:
    accounts = {"a": account("connected", "listening"), "b": account("connected", "listening"), "c": account("connected")}
    counters = [Counters(total=20_000, downloaded=7_000, skipped=1_000), Counters(total=6_000, downloaded=4_000)]
    assert line(accounts, [importing("c"), importing("c")], counters) == (
        "3 accounts: 2 listening, 1 importing (46 %, 12,000 of 26,000)"
    )


def test_what_needs_a_person_is_told_before_anything_else_of_an_account() -> None:
    accounts = {"a": account("attention", "listening"), "b": account("waiting"), "c": account("idle", "waiting")}
    told = line(accounts, [importing("a"), importing("b")], [])
    assert told == "3 accounts: 1 waiting, 1 in need of attention"


def test_an_import_of_which_nobody_knows_the_size_yet_has_no_figures() -> None:
    assert line({"a": account("connected")}, [importing("a")], [Counters()]) == "1 account: 1 importing"


def test_where_nothing_is_done_the_line_says_how_many_accounts_there_are() -> None:
    assert line({}, [], []) == "0 accounts"
    assert line({"a": account()}, [], []) == "1 account"


class Told(list[str]):
    """What systemd was told."""

    def status(self, text: str) -> None:
        self.append(text)


async def test_systemd_is_told_what_has_changed_and_nothing_twice(tmp_path: Path) -> None:
    server = ScriptedServer(Honest({b"INBOX": Mailbox({1: b"A: b\r\n\r\n"})}))
    async with server, running(tmp_path, server.source()) as engine:
        told = Told()
        status_line = StatusLine(told, engine.supervisor, engine.state)  # type: ignore[arg-type]
        await engine.finish()
        for _ in range(3):
            await status_line.look()
        assert told == ["1 account"]
        status_line.set_trouble(Transient("disk", "No space is left."))
        await status_line.look()
        assert told[1:] == ["Waiting: No space is left."]
        status_line.set_trouble(None)
        await status_line.look()
        assert told[2:] == ["1 account"]


async def test_a_ledger_that_is_locked_keeps_the_line_as_it_is(tmp_path: Path) -> None:
    class Locked(SqliteState):
        async def counters(self, job: int) -> Counters:
            raise Transient("locked", "Another program has locked the ledger.")

        async def jobs(self, **_: object) -> Sequence[Job]:
            return [importing("a")]

    ledger = Locked(tmp_path / "haul.db", SystemClock())
    told = Told()
    await StatusLine(told, SimpleNamespace(accounts={}), ledger).look()  # type: ignore[arg-type]
    assert told == []
