"""A daemon's door with values behind it: the real server on a real socket, and commands that answer from what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from haulapi.calls import (
    Account,
    AccountList,
    AccountParams,
    AccountTest,
    Check,
    CreateParams,
    DaemonStatus,
    DeleteParams,
    Diagnosis,
    DoctorParams,
    ErrorInfo,
    Folder,
    FolderList,
    FolderListParams,
    Item,
    ItemList,
    ItemListParams,
    Job,
    JobList,
    JobListParams,
    JobParams,
    NoParams,
    Preview,
    PreviewFolder,
    Progress,
    Reload,
    RetryParams,
    Strategy,
    TestedFolder,
    Verification,
    VerifyParams,
    VerifyStatusParams,
)
from hauld.clock import SystemClock
from hauld.engine.events import EventLog
from hauld.errors import Refused
from hauld.model import Event
from hauld.rpc.server import Limits, Server, serve
from support.beside import beside


def job(**changes: Any) -> Job:
    """A job in the middle of its work."""
    values: dict[str, Any] = {
        "id": "job_k3x9q2m4v8zt",
        "account": "work",
        "source": "imap",
        "status": "running",
        "phase": "downloading",
        "live": True,
        "priority": 2,
        "requester": None,
        "strategy": Strategy(),
        "progress": Progress(
            total_items=20_000,
            downloaded_items=8_412,
            remaining_items=11_588,
            percent_complete=42.06,
            bytes_downloaded=1_234_567_890,
            items_per_second=950.0,
            bytes_per_second=9_100_000.0,
            estimated_completion_secs=12.2,
        ),
        "error": None,
        "created_at": "2026-01-31T11:57:00.000Z",
        "started_at": "2026-01-31T11:57:01.000Z",
        "updated_at": "2026-01-31T11:59:59.000Z",
        "completed_at": None,
        "last_sync_at": "2026-01-31T11:58:00.000Z",
    }
    return Job(**values | changes)


def done(**changes: Any) -> Job:
    """A job that has everything."""
    progress = Progress(total_items=20_000, downloaded_items=20_000, percent_complete=100.0, bytes_downloaded=2_900_000_000)
    return job(
        **{"status": "completed", "phase": None, "progress": progress, "completed_at": "2026-01-31T12:00:00.000Z"} | changes
    )


def account(**changes: Any) -> Account:
    """An account that is well."""
    values: dict[str, Any] = {
        "name": "work",
        "source": "imap",
        "host": "imap.example.org",
        "user": "me@example.org",
        "state": "connected",
        "since": "2026-01-31T11:57:00.000Z",
        "connections": 3,
        "folders": 12,
        "items": 8_412,
        "bytes": 1_234_567_890,
        "last_sync_at": "2026-01-31T11:58:00.000Z",
    }
    return Account(**values | changes)


def folder(**changes: Any) -> Folder:
    """A folder in the middle of its work."""
    values: dict[str, Any] = {
        "name": "INBOX",
        "kind": "inbox",
        "total_items": 12_000,
        "downloaded_items": 8_412,
        "failed_items": 0,
        "skipped_items": 0,
        "remaining_items": 3_588,
        "bytes": 1_234_567_890,
        "is_complete": False,
        "last_sync_at": "2026-01-31T11:58:00.000Z",
    }
    return Folder(**values | changes)


def item(number: int = 1, **changes: Any) -> Item:
    """A message that is stored."""
    values: dict[str, Any] = {
        "id": number,
        "folder": "INBOX",
        "key": f"1700000000.{number}",
        "status": "completed",
        "size": 10_240,
        "sha256": "ab" * 32,
        "local_path": f"work/INBOX/1700000000.U{number}V1700000000",
        "flags": ["\\Seen"],
        "item_type": "message",
        "error": None,
        "retry_count": 0,
        "downloaded_at": "2026-01-31T11:59:00.000Z",
        "removed_at": None,
    }
    return Item(**values | changes)


REFUSED_SIGN_IN = ErrorInfo(
    kind="sign-in",
    message="imap.example.org refused the sign-in of me@example.org: Invalid credentials.",
    hint="Check the password that password_command gives, then: haulctl start JOB",
    since="2026-01-31T10:00:00.000Z",
)
THROTTLED = ErrorInfo(
    kind="throttled",
    message="imap.example.net asks for patience.",
    since="2026-01-31T11:59:00.000Z",
    retry_at="2026-01-31T12:02:00.000Z",
)


class Told:
    """The event stream of a ledger, in memory: what an ``EventLog`` asks of a state. ``tell`` may be called in any thread."""

    def __init__(self, find: Callable[[str], Job], stream: str = "5eed5eed5eed5eed") -> None:
        self.stream_id = stream
        self._find = find
        self._events: list[Event] = []
        self._forgotten = 0
        self._bells: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []

    def tell(self, kind: str, *, job: str | None = None, folder: str | None = None, **data: Any) -> int:
        """One more event; its number."""
        number = self._forgotten + len(self._events) + 1
        self._events.append(Event(number, SystemClock().now_ms(), kind, job, folder, data))
        for loop, call in self._bells:
            if not loop.is_closed():
                loop.call_soon_threadsafe(call)
        return number

    def forget(self, number: int) -> None:
        """Keep only events after that number."""
        del self._events[: number - self._forgotten]
        self._forgotten = number

    async def stream(self) -> str:
        return self.stream_id

    async def events(self, after: int, limit: int = 1000, job: str | None = None) -> Sequence[Event]:
        return [event for event in self._events if event.number > after and job in (None, event.job)][:limit]

    async def event_span(self) -> tuple[int, int]:
        return self._forgotten + 1, self._forgotten + len(self._events)

    async def job(self, prefix: str) -> Job:
        return self._find(prefix)

    def when_told(self, call: Callable[[], None]) -> None:
        self._bells.append((asyncio.get_running_loop(), call))


@dataclass
class Answers:
    """Commands that answer from these values, and remember what they were asked; ``told`` is what followers hear of."""

    accounts: list[Account] = field(default_factory=lambda: [account()])
    jobs: list[Job] = field(default_factory=lambda: [job()])
    folders: list[Folder] = field(default_factory=lambda: [folder()])
    folders_of_account: list[Folder] = field(default_factory=lambda: [folder()])
    items: list[Item] = field(default_factory=lambda: [item(n) for n in range(1, 6)])
    verification: Verification = field(default_factory=lambda: Verification(status="never"))
    configuration_error: str | None = None
    diagnosis: Diagnosis = field(default_factory=lambda: Diagnosis(checks=[Check(name="clock", message="it says noon")]))
    reload: Reload = field(
        default_factory=lambda: Reload(
            added=["home"],
            removed=["old"],
            changed=["work"],
            unchanged=["list"],
            applied=["daemon.log_level"],
            restart_needed=["store.path"],
        )
    )
    asked: list[tuple[str, Any]] = field(default_factory=list)
    before_answer: Callable[[str], Any] | None = None
    told: Told = field(init=False)

    def __post_init__(self) -> None:
        self.told = Told(self._job)

    async def daemon_status(self, params: NoParams) -> DaemonStatus:
        counts: dict[str, int] = {}
        for each in self.jobs:
            counts[each.status] = counts.get(each.status, 0) + 1
        await self._asked("daemon.status", params)
        return DaemonStatus(
            version="0.1.0",
            uptime_seconds=273_600.0,
            pid=812,
            accounts=self.accounts,
            jobs=counts,
            connections=4,
            clients=1,
            memory_bytes=41_000_000,
            state_path="/var/lib/haul/haul.db",
            store_path="/var/lib/haul/mail",
            configuration_error=self.configuration_error,
        )

    async def daemon_reload(self, params: NoParams) -> Reload:
        await self._asked("daemon.reload", params)
        if self.configuration_error:
            message = f"The configuration cannot be used, so nothing has changed.\n{self.configuration_error}"
            raise Refused("configuration", message, hint="Mend that, then: haulctl reload")
        return self.reload

    async def daemon_doctor(self, params: DoctorParams) -> Diagnosis:
        await self._asked("daemon.doctor", params)
        return self.diagnosis

    async def accounts_list(self, params: NoParams) -> AccountList:
        await self._asked("accounts.list", params)
        return AccountList(accounts=self.accounts)

    async def accounts_get(self, params: AccountParams) -> Account:
        await self._asked("accounts.get", params)
        return self._account(params.account)

    async def accounts_test(self, params: AccountParams) -> AccountTest:
        await self._asked("accounts.test", params)
        return AccountTest(
            account=self._account(params.account).name,
            greeting="Dovecot ready.",
            capabilities=["IMAP4rev1", "IDLE", "CONDSTORE", "QRESYNC"],
            folders=[
                TestedFolder(name="INBOX", kind="inbox", selectable=True),
                TestedFolder(name="Projects", kind="other", selectable=False),
            ],
            seconds=0.42,
        )

    async def jobs_create(self, params: CreateParams) -> Job | Preview:
        await self._asked("jobs.create", params)
        self._account(params.account)
        if params.dry_run:
            return Preview(
                account=params.account,
                strategy=params.strategy,
                folders=[PreviewFolder(name=each.name, kind=each.kind, items=3_588, bytes=36_741_120) for each in self.folders],
                items=3_588 * len(self.folders),
                bytes=36_741_120 * len(self.folders),
                stored_items=8_412,
                estimated_secs=3.8,
            )
        return self.jobs[0]

    async def jobs_list(self, params: JobListParams) -> JobList:
        await self._asked("jobs.list", params)
        found = [each for each in self.jobs if params.status in (None, each.status) and params.account in (None, each.account)]
        ids = [each.id for each in found]
        start = ids.index(params.after) + 1 if params.after else 0
        page = found[start : start + params.limit]
        return JobList(jobs=page, next=page[-1].id if page and start + len(page) < len(found) else None)

    async def jobs_get(self, params: JobParams) -> Job:
        await self._asked("jobs.get", params)
        return self._job(params.job)

    async def jobs_start(self, params: JobParams) -> Job:
        await self._asked("jobs.start", params)
        if (found := self._job(params.job)).status == "running":
            raise Refused("wrong_state", f"Job {found.id} is running already.", hint="To compare now: haulctl sync JOB")
        return msgspec.structs.replace(found, status="running", phase="connecting")

    async def jobs_pause(self, params: JobParams) -> Job:
        await self._asked("jobs.pause", params)
        return self._moved(params.job, "paused")

    async def jobs_cancel(self, params: JobParams) -> Job:
        await self._asked("jobs.cancel", params)
        return self._moved(params.job, "cancelled")

    async def jobs_delete(self, params: DeleteParams) -> Job:
        await self._asked("jobs.delete", params)
        found = self._job(params.job)
        self.jobs.remove(found)
        self.told.tell("job.deleted", job=found.id)
        return found

    async def jobs_retry(self, params: RetryParams) -> Job:
        await self._asked("jobs.retry", params)
        return self._job(params.job)

    async def jobs_sync(self, params: JobParams) -> Job:
        await self._asked("jobs.sync", params)
        return self._job(params.job)

    async def folders_list(self, params: FolderListParams) -> FolderList:
        await self._asked("folders.list", params)
        listed = self.folders if params.account is None else self.folders_of_account
        start = int(params.after or 0)
        page = listed[start : start + params.limit]
        following = start + len(page)
        return FolderList(folders=page, next=str(following) if following < len(listed) else None)

    async def items_list(self, params: ItemListParams) -> ItemList:
        await self._asked("items.list", params)
        found = [each for each in self.items if params.status in (None, each.status) and params.folder in (None, each.folder)]
        start = int(params.after or 0)
        page = found[start : start + params.limit]
        following = start + len(page)
        return ItemList(items=page, next=str(following) if following < len(found) else None)

    async def verify_start(self, params: VerifyParams) -> Verification:
        await self._asked("verify.start", params)
        return self.verification

    async def verify_status(self, params: VerifyStatusParams) -> Verification:
        await self._asked("verify.status", params)
        return self.verification

    async def _asked(self, method: str, params: Any) -> None:
        self.asked.append((method, params))
        if self.before_answer is not None and (waiting := self.before_answer(method)) is not None:
            await waiting

    def _account(self, name: str) -> Account:
        for each in self.accounts:
            if each.name == name:
                return each
        raise Refused("not_found", f"No account is called {name}.", hint="See which there are: haulctl accounts")

    def _moved(self, prefix: str, to: str) -> Job:
        """The job in another status, kept and told so."""
        before = self._job(prefix)
        if before.status == to:
            raise Refused("wrong_state", f"Job {before.id} is {to} already.")
        after = msgspec.structs.replace(before, status=to, phase=None)
        self.jobs[self.jobs.index(before)] = after
        self.told.tell("job.status", job=after.id, **{"from": before.status, "to": to})
        return after

    def _job(self, prefix: str) -> Job:
        found = [each for each in self.jobs if each.id.removeprefix("job_").startswith(prefix.removeprefix("job_"))]
        if len(found) > 1:
            raise Refused("ambiguous", f"{prefix} fits several jobs.", candidates=[each.id for each in found])
        if not found:
            raise Refused("not_found", f"There is no job {prefix}.", hint="See which there are: haulctl list")
        return found[0]


def serving(path: Path, answers: Answers, **more: Any) -> AbstractAsyncContextManager[Server]:
    """The door in the test's own loop."""
    return serve(path, answers, EventLog(answers.told, SystemClock()), **more)  # type: ignore[arg-type]


@contextmanager
def daemon(path: Path, answers: Answers, limits: Limits | None = None) -> Iterator[None]:
    """The door in a thread of its own, for a test that speaks to it as another program would."""
    with beside(lambda: serving(path, answers, limits=limits), "door"):
        yield
