"""What a new configuration changes in a running engine, and how often it is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from haulapi import calls
from hauld.app import account_of
from hauld.clock import SystemClock
from hauld.config import AccountConfig, Config, ConfigurationError, Problem
from hauld.config.keys import DaemonConfig, RetryConfig, StoreConfig
from hauld.engine.declared import Declared
from hauld.errors import Refused, Transient
from hauld.model import Strategy
from hauld.reload import Difference, InForce, Reloader, difference
from hauld.systemd import Notifier
from support.configs import make_account
from support.engine import Engine, running
from support.scripted_imap import Honest, Mailbox, ScriptedServer

NOTHING = Difference(added=(), removed=(), changed=(), renamed=(), unchanged=(), applied=(), restart_needed=())


def config(*accounts: AccountConfig, **daemon: Any) -> Config:
    here = Path("/etc/haul")
    return Config(
        path=here / "haul.toml",
        daemon=DaemonConfig(**{"state": here / "haul.db", "socket": here / "haul.sock", **daemon}),
        store=StoreConfig(path=here / "mail"),
        retry=RetryConfig(),
        accounts={account.name: account for account in accounts},
    )


# --- what is different ---------------------------------------------------------------------------------------------

WORK, HOME = make_account("work"), make_account("home", user="you@example.org")


@pytest.mark.parametrize(
    ("after", "different"),
    [
        (config(WORK), {"unchanged": ("work",)}),
        (config(WORK, HOME), {"unchanged": ("work",), "added": ("home",)}),
        (config(), {"removed": ("work",)}),
        (config(HOME), {"removed": ("work",), "added": ("home",)}),
        (config(replace(WORK, connections=9)), {"changed": ("work",)}),
        (config(replace(WORK, mirror=Strategy())), {"changed": ("work",)}),
        (config(replace(WORK, file=Path("/etc/haul/accounts.d/work.toml"))), {"unchanged": ("work",)}),
        (config(replace(WORK, port=143, tls="starttls")), {"changed": ("work",)}),
        (config(replace(WORK, name="office")), {"renamed": (("work", "office"),)}),
    ],
)
def test_accounts_are_added_removed_changed_or_left_alone(after, different):
    assert difference(config(WORK), after) == replace(NOTHING, **different)


@pytest.mark.parametrize("key", ["host", "user"])
def test_G4_another_host_or_user_is_another_account(key):
    found = difference(config(WORK), config(replace(WORK, **{key: "other.example.org"})))
    assert found == replace(NOTHING, removed=("work",), added=("work",))


def test_two_accounts_that_swap_their_names_are_both_renamed():
    swapped = config(replace(WORK, name="home"), replace(HOME, name="work"))
    assert difference(config(WORK, HOME), swapped) == replace(NOTHING, renamed=(("work", "home"), ("home", "work")))


def test_keys_that_need_a_restart_are_told_apart_from_those_that_do_not():
    after = replace(
        config(log_level="debug", memory_budget=1, socket=Path("/run/other")),
        store=StoreConfig(path=Path("/srv/mail"), mode=0o600),
        retry=RetryConfig(attempts=9),
    )
    found = difference(config(), after)
    assert found.applied == ("daemon.log_level", "retry.attempts")
    assert found.restart_needed == ("daemon.socket", "daemon.memory_budget", "store.path", "store.mode")


# --- doing it ------------------------------------------------------------------------------------------------------


@dataclass
class Daemon:
    """An engine whose configuration a test changes. ``settled`` are configurations whose shared keys were applied."""

    engine: Engine
    in_force: InForce
    settled: list[Config]
    server: ScriptedServer
    password: Path

    def account(self, name: str = "a", **keys: Any) -> AccountConfig:
        here = {"host": "127.0.0.1", "port": self.server.port, "tls": "none", "user": "alice", "password_file": self.password}
        return make_account(name, **{**here, **keys})

    async def change(self, *accounts: AccountConfig, **daemon: Any) -> calls.Reload:
        return await self.in_force.change(config(*accounts, **daemon))

    async def jobs(self) -> list[calls.Job]:
        return (await self.engine.commands.jobs_list(calls.JobListParams())).jobs

    async def settled_job(self) -> calls.Job:
        """The one job, once it has imported everything."""
        (job,) = await self.jobs()
        return await self.engine.until(job.id, lambda seen: seen.status == "completed")


@asynccontextmanager
async def daemon(root: Path) -> AsyncIterator[Daemon]:
    password = root / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    honest = Honest({b"INBOX": Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, 6)})})
    async with ScriptedServer(honest) as server, running(root, {}) as engine:
        settled: list[Config] = []
        clock = SystemClock()
        declared = Declared(engine.supervisor, engine.state, clock)
        make = partial(account_of, engine.state, clock)
        yield Daemon(
            engine,
            InForce(config(), engine.supervisor, engine.state, declared, make, settled.append),
            settled,
            server,
            password,
        )


async def test_an_account_that_is_added_with_a_mirror_is_imported_and_a_change_elsewhere_leaves_it_alone(tmp_path):
    async with daemon(tmp_path) as one:
        mirrored = one.account(mirror=Strategy())
        assert (await one.change(mirrored)).added == ["a"]
        job = await one.settled_job()
        assert (job.requester, job.live, len(one.engine.bodies())) == ("configuration", True, 5)
        kept, connections = one.engine.supervisor.accounts["a"], one.server.connections
        told = await one.change(mirrored, one.account("b", user="bob"))
        assert (told.added, told.unchanged) == (["b"], ["a"])
        assert (one.engine.supervisor.accounts["a"], one.server.connections) == (kept, connections)


async def test_an_account_that_is_removed_fails_its_jobs_and_keeps_its_files_and_back_again_its_mirror_goes_on(tmp_path):
    async with daemon(tmp_path) as one:
        await one.change(one.account(mirror=Strategy()))
        job = await one.settled_job()
        assert (await one.change()).removed == ["a"]
        failed = await one.engine.job(job.id)
        assert (failed.status, failed.error.kind) == ("failed", "configuration")
        assert "no longer configured" in failed.error.message
        assert len(one.engine.bodies()) == 5
        await one.change(one.account(mirror=Strategy()))
        back = await one.settled_job()
        assert (back.id, back.progress.downloaded_items, back.error) == (job.id, 5, None)


async def test_an_account_with_other_settings_goes_on_with_them(tmp_path):
    async with daemon(tmp_path) as one:
        await one.change(one.account(mirror=Strategy()))
        job = await one.settled_job()
        told = await one.change(one.account(mirror=Strategy(), connections=1, folders=("INBOX",)))
        assert (told.changed, told.added, told.removed) == (["a"], [], [])
        assert one.engine.supervisor.accounts["a"].settings.connections == 1
        assert (await one.settled_job()).id == job.id


async def test_an_account_with_another_name_is_the_same_account_and_its_jobs_go_on(tmp_path):
    async with daemon(tmp_path) as one:
        await one.change(one.account())
        made = await one.engine.create("a")
        await one.settled_job()
        assert (await one.change(one.account("office"))).changed == ["office"]
        job = await one.settled_job()
        assert (job.id, job.account, job.progress.downloaded_items) == (made.id, "office", 5)


async def test_G4_another_user_under_the_same_name_begins_with_an_empty_ledger(tmp_path):
    async with daemon(tmp_path) as one:
        await one.change(one.account())
        await one.engine.create("a")
        old = await one.settled_job()
        told = await one.change(one.account(user="alice@example.org"))
        assert (told.added, told.removed, told.changed) == (["a"], ["a"], [])
        assert (await one.engine.job(old.id)).status == "failed"
        assert (await one.engine.commands.accounts_get(calls.AccountParams(account="a"))).items == 0


async def test_a_mirror_that_changes_disturbs_no_connection(tmp_path):
    async with daemon(tmp_path) as one:
        await one.change(one.account(mirror=Strategy()))
        await one.settled_job()
        kept = one.engine.supervisor.accounts["a"]
        assert (await one.change(one.account())).changed == ["a"]
        assert one.engine.supervisor.accounts["a"] is kept
        (job,) = await one.jobs()
        assert (job.status, job.error.kind) == ("paused", "configuration")


async def test_what_needs_a_restart_keeps_its_value_and_is_told_until_then(tmp_path):
    async with daemon(tmp_path) as one:
        for _ in range(2):
            assert (await one.change(memory_budget=1)).restart_needed == ["daemon.memory_budget"]
        assert (await one.change()).restart_needed == []


async def test_trouble_half_way_is_gone_on_from_by_the_next_reload(tmp_path, monkeypatch):
    async with daemon(tmp_path) as one:
        await one.change(one.account(mirror=Strategy()))
        ledger, known = one.engine.state, one.engine.state.account

        async def locked(*arguments: Any) -> int:
            raise Transient("locked", "The ledger is locked.")

        monkeypatch.setattr(ledger, "account", locked)
        wanted = one.account("b", user="bob", mirror=Strategy())
        with pytest.raises(Transient):
            await one.change(wanted)
        monkeypatch.setattr(ledger, "account", known)
        told = await one.change(wanted)
        assert (told.added, told.removed) == (["b"], [])
        assert list(one.engine.supervisor.accounts) == ["b"]


async def test_jobs_of_a_renamed_account_go_on_with_the_next_reload_after_trouble_half_way(tmp_path, monkeypatch):
    async with daemon(tmp_path) as one:
        await one.change(one.account())
        made = await one.engine.create("a")
        await one.settled_job()

        async def locked(*arguments: Any) -> int:
            raise Transient("locked", "The ledger is locked.")

        with monkeypatch.context() as patched:
            patched.setattr(one.engine.state, "account", locked)
            with pytest.raises(Transient):
                await one.change(one.account("office"))
        await one.change(one.account("office"))
        job = await one.settled_job()
        assert (job.id, job.account, job.progress.downloaded_items) == (made.id, "office", 5)


# --- being asked for it --------------------------------------------------------------------------------------------


@asynccontextmanager
async def reloading(root: Path, read: Callable[[], Config]) -> AsyncIterator[tuple[Reloader, asyncio.Event]]:
    """A reloader of a daemon without accounts, and the event that a signal sets."""
    async with daemon(root) as one:
        asked = asyncio.Event()
        reloader = Reloader(read, one.in_force, Notifier(), asked)
        task = asyncio.create_task(reloader.run())
        try:
            yield reloader, asked
        finally:
            task.cancel()


async def test_L3_however_many_ask_during_a_reload_they_share_one_more(tmp_path):
    reads = threading.Semaphore(0)
    begun: list[int] = []

    def read() -> Config:
        begun.append(len(begun))
        reads.acquire()
        return config()

    async with reloading(tmp_path, read) as (reloader, asked):
        first = asyncio.ensure_future(reloader.reload())
        while not begun:
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(reloader.reload()) for _ in range(100)]
        for _ in range(100):
            asked.set()
            await asyncio.sleep(0)
        reads.release(2)
        await asyncio.gather(first, *others)
        assert len(begun) == 2


async def test_who_asks_and_goes_away_spoils_nothing_for_the_others(tmp_path):
    async with reloading(tmp_path, config) as (reloader, _):
        gone, other = (asyncio.ensure_future(reloader.reload()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await other).unchanged == []


async def test_G1_a_wrong_configuration_is_told_whole_to_who_asks_and_until_it_is_mended(tmp_path, caplog):
    problems = [Problem("work", "prot", "there is no such key"), Problem(None, "", "is not TOML", Path("/etc/haul/a.toml"))]
    wrong = ConfigurationError(Path("/etc/haul/haul.toml"), problems)
    found: list[Config | ConfigurationError] = [wrong, config()]

    def read() -> Config:
        if isinstance(now := found.pop(0), ConfigurationError):
            raise now
        return now

    async with reloading(tmp_path, read) as (reloader, _):
        with pytest.raises(Refused) as caught:
            await reloader.reload()
        assert caught.value.kind == "configuration"
        assert caught.value.message.splitlines()[1:] == [
            "/etc/haul/haul.toml: account work: prot: there is no such key",
            "/etc/haul/a.toml: is not TOML",
        ]
        assert reloader.error == wrong.message
        assert [record.event for record in caplog.records if "reload" in getattr(record, "event", "")] == ["reload.failed"]
        await reloader.reload()
        assert reloader.error is None
