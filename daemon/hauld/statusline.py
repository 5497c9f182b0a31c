"""What ``systemctl status`` shows of hauld: one line that says what its accounts do, or what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hauld.engine.account import Account
from hauld.engine.supervisor import Supervisor
from hauld.errors import Transient
from hauld.model import Counters, Job, JobStatus
from hauld.state.base import State
from hauld.systemd import Notifier

EVERY = 5.0
"""Seconds between two looks. Nothing that happens more often is told."""

MOST_JOBS = 1000
"""Running jobs that are looked at."""

ORDER = ("listening", "importing", "waiting", "in need of attention")
"""What accounts do, as it is told."""


class StatusLine:
    """``look`` is to be called every ``EVERY`` seconds; it tells what has changed since."""

    def __init__(self, notifier: Notifier, supervisor: Supervisor, state: State) -> None:
        self._notifier = notifier
        self._supervisor = supervisor
        self._state = state
        self._trouble: Transient | None = None
        self._told = ""

    async def look(self) -> None:
        """Tell what the accounts do; while the whole machine is in trouble, that is told and nothing else."""
        if self._trouble is not None:
            return
        try:
            running = await self._state.jobs(status=JobStatus.RUNNING, limit=MOST_JOBS)
            counters = [await self._state.counters(job.number) for job in running]
        except Transient:
            return
        if self._trouble is None:
            self._tell(line(self._supervisor.accounts, running, counters))

    def set_trouble(self, trouble: Transient | None) -> None:
        """What the whole machine waits for, from now on; None: it goes on."""
        self._trouble = trouble
        self._tell(_accounts(len(self._supervisor.accounts)) if trouble is None else f"Waiting: {trouble}")

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._notifier.status(text)


def line(accounts: Mapping[str, Account], running: Sequence[Job], counters: Iterable[Counters]) -> str:
    """For example ``3 accounts: 2 listening, 1 importing (46 %, 12,000 of 26,000)``; ``counters`` are those of the jobs."""
    importing = {job.account_name for job in running}
    does = Counter(_what(account, is_importing=name in importing) for name, account in accounts.items())
    parts = [f"{does[what]} {what}" + (_share(counters) if what == "importing" else "") for what in ORDER if does[what]]
    return ": ".join([_accounts(len(accounts)), *([", ".join(parts)] if parts else [])])


def _what(account: Account, *, is_importing: bool) -> str | None:
    """What is to be known first of an account."""
    if account.state == "attention":
        return "in need of attention"
    if account.state == "waiting":
        return "waiting"
    if is_importing:
        return "importing"
    return "listening" if any(listener.stage == "listening" for listener in account.listeners) else None


def _share(counters: Iterable[Counters]) -> str:
    """How far the imports are, together; nothing as long as nobody knows how much there is."""
    known = list(counters)
    total = sum(each.total for each in known)
    done = sum(each.downloaded + each.skipped for each in known)
    return f" ({100 * done // total} %, {done:,} of {total:,})" if total else ""


def _accounts(count: int) -> str:
    return f"{count} account{'' if count == 1 else 's'}"
