"""Random commands on three jobs, with kills in between: ledger, counters and files agree whatever people do.

``HAUL_SEQUENCES`` says how many sequences are tried (default 6; a release is tried with 200).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hauld.clock import SystemClock
from hauld.state.sqlite import SqliteState
from support.daemon import Hauld
from support.dovecot import Dovecot
from support.messages import messages

SEQUENCES = int(os.environ.get("HAUL_SEQUENCES", "6"))
STRATEGIES: list[dict[str, Any]] = [
    {"kind": "full"},
    {"kind": "inbox-only"},
    {"kind": "selected-folders", "folders": ["Projects/*"]},
    {"kind": "unseen"},
    {"kind": "date-range", "since": "2026-01-01", "before": "2026-01-02"},
]
EXPECTED = {"wrong_state", "not_found", "try_again"}
"""Kinds of refusal that a command given at a random moment may meet."""


class People(RuleBasedStateMachine):
    """What people do to one daemon and one mailbox of ``dovecot``."""

    dovecot: Dovecot

    jobs = st.integers(0, 2)

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sequence-"))
        self.user = self.dovecot.add_user()
        self.dovecot.fill(self.user, "INBOX", messages(120, size=1500))
        self.dovecot.fill(self.user, "Projects/a b", messages(40, size=1500, seed=2))
        account = self.dovecot.account(self.user, tls="none")
        self.hauld = Hauld(self.directory / "haul", {"a": account}).start()
        self.ids: list[str] = []
        self.delivered = 0

    def ask(self, method: str, job: int, **params: Any) -> None:
        if job >= len(self.ids):
            return
        try:
            self.hauld.call(method, job=self.ids[job], **params)
        except RuntimeError as refused:
            if refused.args[0]["data"]["kind"] not in EXPECTED:
                raise

    @rule(strategy=st.sampled_from(STRATEGIES), live=st.booleans(), start=st.booleans(), priority=st.integers(1, 3))
    def create(self, strategy: dict[str, Any], live: bool, start: bool, priority: int) -> None:
        if len(self.ids) < 3:
            params = {"strategy": strategy, "live": live, "start": start, "priority": priority}
            self.ids.append(self.hauld.call("jobs.create", account="a", **params)["id"])

    @rule(job=jobs)
    def start(self, job: int) -> None:
        self.ask("jobs.start", job)

    @rule(job=jobs)
    def pause(self, job: int) -> None:
        self.ask("jobs.pause", job)

    @rule(job=jobs)
    def cancel(self, job: int) -> None:
        self.ask("jobs.cancel", job)

    @rule(job=jobs)
    def retry(self, job: int) -> None:
        self.ask("jobs.retry", job)

    @rule(job=jobs)
    def sync(self, job: int) -> None:
        self.ask("jobs.sync", job)

    @rule(job=jobs, purge=st.booleans())
    def delete(self, job: int, purge: bool) -> None:
        self.ask("jobs.delete", job, purge=purge)
        del self.ids[job : job + 1]

    @rule()
    def deliver(self) -> None:
        self.delivered += 1
        self.dovecot.append(self.user, "INBOX", next(messages(1, size=500, seed=1000 + self.delivered)))

    @rule()
    def kill(self) -> None:
        self.hauld.kill()
        self.hauld.start()

    @invariant()
    def progress_adds_up(self) -> None:
        for job in self.hauld.call("jobs.list")["jobs"] if hasattr(self, "hauld") else ():
            progress = job["progress"]
            parts = ("downloaded_items", "failed_items", "skipped_items", "remaining_items")
            assert progress["total_items"] == sum(progress[part] for part in parts)

    def teardown(self) -> None:
        if not hasattr(self, "hauld"):
            return
        try:
            self.finish()
        finally:
            self.hauld.__exit__()
            shutil.rmtree(self.directory)

    def finish(self) -> None:
        """Have everything imported, and look whether all agree."""
        done = self.hauld.haulctl("create", "a", "--once", "--wait")
        assert done.returncode == 0, done.stderr + self.hauld.log()
        truth = {folder: kept for folder, kept in self.dovecot.read_all(self.user).items() if kept}
        assert {folder: kept for folder, kept in self.hauld.stored("a").items() if kept} == truth
        job = self.hauld.call("jobs.list", limit=1)["jobs"][0]["id"]
        for item in self.hauld.call("items.list", job=job, limit=1000)["items"]:
            directory, _, unique = item["local_path"].rpartition("/")
            (path,) = (self.hauld.mail / directory / "cur").glob(f"{unique}*")
            assert hashlib.sha256(path.read_bytes()).hexdigest() == item["sha256"]
        assert self.hauld.stop() == 0
        assert asyncio.run(check(self.hauld.state)) == []


async def check(path: Path) -> list[str]:
    """What is wrong in a ledger that nobody uses."""
    state = SqliteState(path, SystemClock())
    await state.start()
    try:
        return list(await state.check())
    finally:
        await state.close()


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_whatever_people_do_to_three_jobs_everything_agrees_in_the_end(dovecot: Dovecot) -> None:
    run_state_machine_as_test(
        type("PeopleHere", (People,), {"dovecot": dovecot}),
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=14,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
