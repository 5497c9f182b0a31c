"""The engine in the test's own process: real ledger, real store, a source of the test's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from haulapi import calls
from hauld.clock import Clock, SystemClock
from hauld.engine.account import IDLE_LIMIT, Account, AccountSettings
from hauld.engine.commands import Commands, Premises
from hauld.engine.ingest import Ingest
from hauld.engine.limits import ByteBudget
from hauld.engine.supervisor import Supervisor
from hauld.engine.workshop import Workshop
from hauld.errors import Refused, Transient
from hauld.model import FolderKind
from hauld.retry import RetryPolicy
from hauld.sources.base import Session, Source
from hauld.state.sqlite import SqliteState
from hauld.stores.maildir import MaildirStore

QUICK = RetryPolicy(initial=0.01, longest=0.05, attempts=3)
PATIENCE = 30.0


def settings(name: str, *, connections: int, interval: float, host: str | None = None) -> AccountSettings:
    return AccountSettings(
        name=name,
        identity=f"imap://{name}@test.example",
        source="imap",
        host=host or f"{name}.test.example",
        user=name,
        connections=connections,
        folders=("*",),
        exclude=(),
        intervals=dict.fromkeys(FolderKind, interval),
    )


async def no_reload() -> calls.Reload:
    raise Refused("failed", "This engine has no configuration.")


async def no_doctor(_: str | None) -> calls.Diagnosis:
    raise Refused("failed", "This engine has no doctor.")


class Gate:
    """An origin that can be reached while the gate is open."""

    def __init__(self, source: Source, *, is_open: bool) -> None:
        self.is_open = is_open
        self._source = source

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        if not self.is_open:
            raise Transient("network", "gate.example:993 cannot be reached.")
        async with self._source.session() as session:
            yield session


class Engine:
    """One running engine and what a test asks of it."""

    def __init__(self, supervisor: Supervisor, workshop: Workshop, state: SqliteState, store: MaildirStore, root: Path) -> None:
        self.supervisor = supervisor
        self.machine = workshop.machine
        self.state = state
        self.store = store
        self.root = root
        premises = Premises("0", "state", "store", lambda: 0, no_reload, lambda: None, no_doctor)
        self.commands = Commands(supervisor, state, workshop.clock, premises)

    async def create(self, account: str = "a", **params: object) -> calls.Job:
        return await self.commands.jobs_create(calls.CreateParams(account=account, **params))  # type: ignore[arg-type]

    async def job(self, job: str) -> calls.Job:
        return await self.commands.jobs_get(calls.JobParams(job=job))

    async def finish(self, account: str = "a", **params: object) -> calls.Job:
        """Create a job that is not live, and wait until it has ended."""
        job = await self.create(account, live=False, **params)
        return await self.ended(job.id)

    async def ended(self, job: str) -> calls.Job:
        """Wait until the job's keeper has nothing more to do."""
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == f"job {job}"]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
        return await self.job(job)

    async def until(self, job: str, true: Callable[[calls.Job], bool]) -> calls.Job:
        """Look at the job until it is so."""
        async with asyncio.timeout(PATIENCE):
            while not true(seen := await self.job(job)):
                await asyncio.sleep(0.005)  # figures such as rates are told by no event
        return seen

    def bodies(self) -> list[bytes]:
        """Everything stored, sorted."""
        found = (path for path in self.root.rglob("*.haul,*") if path.parent.name == "cur")
        return sorted(path.read_bytes() for path in found if ".haul" not in path.parts)


@asynccontextmanager
async def running(
    root: Path,
    sources: Source | Mapping[str, Source],
    *,
    connections: int = 2,
    interval: float = 3600.0,
    policy: RetryPolicy = QUICK,
    budget: int = 1 << 20,
    slots: int = 3,
    state: Callable[[Path, Clock], SqliteState] = SqliteState,
    store: Callable[[Path], MaildirStore] = MaildirStore,
    clock: Clock | None = None,
    idle_limit: float = IDLE_LIMIT,
    hosts: Mapping[str, str] | None = None,
) -> AsyncIterator[Engine]:
    """An engine on one account, ``a``, or on several by name, over whatever ``root`` holds already. Each account has a host of
    its own, but those that have one in ``hosts``."""
    clock = clock or SystemClock()
    ledger = state(root / "haul.db", clock)
    maildirs = store(root / "mail")
    await ledger.start()
    try:
        await maildirs.start()
        try:
            accounts = {}
            for name, source in (sources if isinstance(sources, Mapping) else {"a": sources}).items():
                host = (hosts or {}).get(name)
                each = settings(name, connections=connections, interval=interval, host=host)
                number = await ledger.account(each.identity, each.name, each.source)
                accounts[each.name] = Account(each, number, source, clock, idle_limit)
            workshop = Workshop(ledger, maildirs, Ingest(maildirs, ledger), ByteBudget(budget), policy, clock)
            supervisor = Supervisor(accounts, workshop, slots)
            try:
                await supervisor.start()
                async with asyncio.timeout(4 * PATIENCE):
                    yield Engine(supervisor, workshop, ledger, maildirs, root / "mail")
                assert not supervisor.fatal.done(), supervisor.fatal.result()
            finally:
                await supervisor.stop()
            assert await ledger.check() == []
        finally:
            await maildirs.close()
    finally:
        await ledger.close()
