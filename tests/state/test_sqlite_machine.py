"""Whatever order things happen in, the ledger agrees with itself and with a few lines of Python that keep the same account."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.state import IDENTITY, INBOX, INBOX_PLACE, SetClock, create, found, page, placed
from hauld.errors import Refused, StaleCursor
from hauld.model import Counters, Page, Setback, Stored
from hauld.state.base import Preview
from hauld.state.sqlite import SqliteState

UIDS = st.sets(st.integers(1, 8), max_size=8)
EPOCHS = st.sampled_from(["7", "8"])


@dataclass
class Row:
    """What is known of one item, in words of the counters; ``by`` is who downloaded it, ``mapped`` whether its file has the
    name that another key gave it."""

    uid: int
    epoch: str
    status: str = "pending"
    why: str = ""
    removed: bool = False
    by: set[int] = field(default_factory=set)
    path: str = ""
    mapped: bool = False


class Ledger(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = SetClock()
        self.directory = tempfile.TemporaryDirectory()
        self.state = SqliteState(Path(self.directory.name) / "haul.db", self.clock)
        self.jobs: list[int] = []
        self.rows: dict[str, Row] = {}
        self.wants: dict[int, set[str]] = {}
        self.epoch: str | None = None

    def do(self, what):  # type: ignore[no-untyped-def]
        return self.runner.run(what)

    @initialize()
    def begin(self) -> None:
        self.do(self.state.start())
        self.account = self.do(self.state.account(IDENTITY, "ann", "imap"))
        [folder] = self.do(self.state.record_folders(self.account, [INBOX]))
        self.folder = folder.number
        self.add_job()

    def teardown(self) -> None:
        self.do(self.state.close())
        self.runner.close()
        self.directory.cleanup()

    def numbers(self) -> dict[str, int]:
        """The number of each wanted item, by key."""
        found = [item for job in self.jobs for item in self.do(self.state.items(job))]
        return {item.key: item.number for item in found}

    def complete(self, row: Row, by: set[int]) -> None:
        """Its own file is stored."""
        row.status, row.by, row.path, row.mapped = "completed", by, placed(row.uid, row.epoch).path, False

    def file_is_anothers(self, row: Row) -> bool:
        """Whether the item has moved, and its file belongs to the one that it has become."""
        path = placed(row.uid, row.epoch).path
        others = [other for other in self.rows.values() if other.status == "completed" and other.mapped]
        return (row.status, row.why) == ("skipped", "moved") and any(other.path == path for other in others)

    # --- what happens ---

    @rule()
    def add_job(self) -> None:
        if len(self.jobs) < 3:
            self.jobs.append(self.do(create(self.state, self.account)).number)
            self.wants[self.jobs[-1]] = set()

    @rule(uids=UIDS, epoch=EPOCHS, who=st.integers(0, 2), skip=st.sampled_from([None, None, "too large"]), finish=st.booleans())
    def list(self, uids: set[int], epoch: str, who: int, skip: str | None, finish: bool) -> None:
        job = self.jobs[who % len(self.jobs)]
        self.do(self.state.begin_listing(self.folder, epoch))
        if epoch != self.epoch:
            self.forget(lambda row: row.epoch == self.epoch or (self.epoch is None and row.epoch != epoch), "epoch")
        self.epoch = epoch
        new = self.do(self.state.record_page(self.folder, page(sorted(uids), epoch, skip=skip), [job]))
        assert new == sum(f"{epoch}.{uid}" not in self.rows for uid in uids)
        for uid in uids:
            row = self.rows.setdefault(f"{epoch}.{uid}", Row(uid, epoch))
            row.removed = False
            if skip is None and row.status == "skipped" and row.why != "final":
                row.status = "pending"
            elif skip is not None and row.status == "pending":
                row.status, row.why = "skipped", "excluded"
            self.wants[job].add(f"{epoch}.{uid}")
        if finish:
            gone = self.do(self.state.finish_listing(self.folder, Page(epoch, cursor=b"c", whole=True)))
            assert gone == self.forget(lambda row: row.epoch == epoch and row.uid not in uids, "gone")

    def forget(self, chosen, why: str) -> int:  # type: ignore[no-untyped-def]
        gone = [row for row in self.rows.values() if chosen(row) and not row.removed]
        for row in gone:
            row.removed = True
            if row.status in ("pending", "failed"):
                row.status, row.why = "skipped", why
        return len(gone)

    @rule(who=st.integers(0, 2))
    def want_known(self, who: int) -> None:
        job = self.jobs[who % len(self.jobs)]
        known = {key for key, row in self.rows.items() if row.epoch == self.epoch and not row.removed}
        assert self.do(self.state.want_known(job, self.folder)) == len(known - self.wants[job])
        self.wants[job] |= known

    @rule(uids=UIDS, epoch=EPOCHS, who=st.integers(0, 2), nobody=st.booleans())
    def store(self, uids: set[int], epoch: str, who: int, nobody: bool) -> None:
        job = None if nobody else self.jobs[who % len(self.jobs)]
        numbers = self.numbers()
        keys = [f"{epoch}.{uid}" for uid in uids if f"{epoch}.{uid}" in numbers]
        group = [Stored(numbers[key], placed(self.rows[key].uid, epoch)) for key in keys]
        committed = self.do(self.state.record_group(job, group, ()))
        open_ = [key for key in keys if self.rows[key].status != "completed"]
        assert sorted(committed.refused) == sorted(numbers[key] for key in open_ if epoch != self.epoch)
        new = open_ if epoch == self.epoch else []
        assert committed.stored == len(new)
        for key in new:
            self.complete(self.rows[key], {who for who in self.jobs if who == job and key in self.wants[who]})

    @precondition(lambda self: self.epoch is not None)
    @rule(uids=UIDS)
    def remap(self, uids: set[int]) -> None:
        """Items that are of the same size and bytes in both epochs."""
        numbers = self.numbers()
        other = "8" if self.epoch == "7" else "7"
        pairs = [(f"{self.epoch}.{uid}", f"{other}.{uid}") for uid in sorted(uids)]
        pairs = [pair for pair in pairs if numbers.keys() >= {*pair}]
        so = [(new, old) for new, old in pairs if (self.rows[new].status, self.rows[old].status) == ("pending", "completed")]
        given = [(numbers[new], numbers[old]) for new, old in pairs]
        assert self.do(self.state.remap(self.folder, given)) == len(so)
        for new, old in so:
            row, before = self.rows[new], self.rows[old]
            row.status, row.by, row.path, row.mapped = "completed", set(), before.path, True
            before.status, before.why, before.by, before.removed = "skipped", "moved", set(), True

    @precondition(lambda self: self.epoch is not None)
    @rule(uids=UIDS, final=st.booleans(), skip=st.booleans())
    def set_back(self, uids: set[int], final: bool, skip: bool) -> None:
        numbers = self.numbers()
        keys = [f"{self.epoch}.{uid}" for uid in uids if f"{self.epoch}.{uid}" in numbers]
        setbacks = [Setback(numbers[key], "missing", "?", final=final, skip=skip) for key in keys]
        assert self.do(self.state.record_group(self.jobs[0], (), setbacks)).refused == ()
        for key in keys:
            if final and self.rows[key].status == "pending":
                self.rows[key].status, self.rows[key].why = ("skipped", "final") if skip else ("failed", "final")

    @rule(who=st.integers(0, 2))
    def retry(self, who: int) -> None:
        job = self.jobs[who % len(self.jobs)]
        failed = [self.rows[key] for key in self.wants[job] if self.rows[key].status == "failed"]
        assert self.do(self.state.retry_failed(job)) == len(failed)
        for row in failed:
            row.status = "pending"

    @rule(who=st.integers(0, 2), uids=UIDS)
    def retry_some(self, who: int, uids: set[int]) -> None:
        job = self.jobs[who % len(self.jobs)]
        numbers = self.numbers()
        named = [key for key in sorted(numbers) if self.rows[key].uid in uids]
        if all(key in self.wants[job] and self.rows[key].status == "failed" for key in named):
            assert self.do(self.state.retry_failed(job, items=[numbers[key] for key in named])) == len(named)
            for key in named:
                self.rows[key].status = "pending"
        else:
            with pytest.raises(Refused):
                self.do(self.state.retry_failed(job, items=[numbers[key] for key in named]))

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(who=st.integers(0, 2), purge=st.booleans())
    def delete_job(self, who: int, purge: bool) -> None:
        job = self.jobs.pop(who % len(self.jobs))
        mine = self.wants.pop(job) - set().union(*self.wants.values())
        given_up = [self.rows[key] for key in sorted(mine) if purge and self.rows[key].status == "completed"]
        paths = self.do(self.state.delete_job(job, purge=purge))
        kept = {row.path for row in self.rows.values() if row.status == "completed" and row not in given_up}
        assert sorted(paths) == sorted({row.path for row in given_up} - kept)
        for row in given_up:
            row.by = set()
            row.status, row.why = ("skipped", "gone") if row.removed else ("pending", "")
        for row in self.rows.values():
            row.by.discard(job)

    @rule(uids=UIDS, epoch=EPOCHS, who=st.integers(0, 2))
    def want_keys(self, uids: set[int], epoch: str, who: int) -> None:
        job = self.jobs[who % len(self.jobs)]
        keys = {f"{epoch}.{uid}" for uid in uids}
        if epoch != self.epoch:
            with pytest.raises(StaleCursor):
                self.do(self.state.want_keys(job, self.folder, epoch, sorted(keys)))
            return
        new = (keys & self.rows.keys()) - self.wants[job]
        assert self.do(self.state.want_keys(job, self.folder, epoch, sorted(keys))) == len(new)
        self.wants[job] |= new

    @rule(seconds=st.integers(0, 60), old=st.integers(0, 60), keep=st.integers(0, 10))
    def prune(self, seconds: int, old: int, keep: int) -> None:
        before = self.clock.pass_seconds(seconds) - old * 1000
        events = self.do(self.state.events(0))
        kept = [event for place, event in enumerate(events) if event.time >= before or place >= len(events) - keep]
        assert self.do(self.state.prune_events(before, keep)) == len(events) - len(kept)
        assert self.do(self.state.events(0)) == kept

    @rule(uids=UIDS, epoch=EPOCHS)
    def adopt(self, uids: set[int], epoch: str) -> None:
        keys = [f"{epoch}.{uid}" for uid in uids]
        known = [key for key in keys if key in self.rows and self.rows[key].status != "completed"]
        new = [key for key in known if not self.file_is_anothers(self.rows[key])]
        assert self.do(self.state.adopt([placed(uid, epoch) for uid in uids])) == len(new)
        for key in new:
            self.complete(self.rows[key], {job for job in self.jobs if key in self.wants[job]})

    @rule(uids=UIDS, epoch=EPOCHS)
    def give_up(self, uids: set[int], epoch: str) -> None:
        numbers = self.numbers()
        keys = [f"{epoch}.{uid}" for uid in uids if f"{epoch}.{uid}" in numbers]
        given_up = [key for key in keys if self.rows[key].status == "completed"]
        setbacks = [Setback(numbers[key], "damaged", "?") for key in keys]
        assert self.do(self.state.give_up(setbacks)) == len(given_up)
        for row in (self.rows[key] for key in given_up):
            row.by = set()
            there = epoch == self.epoch and not row.removed
            row.status, row.why, row.removed = ("pending", "", False) if there else ("skipped", "lost", True)

    @rule(uids=UIDS, epoch=EPOCHS)
    def restore(self, uids: set[int], epoch: str) -> None:
        keys = {uid: f"{epoch}.{uid}" for uid in uids}
        missing = [uid for uid, key in keys.items() if key not in self.rows or self.rows[key].status != "completed"]
        new = [uid for uid in missing if keys[uid] not in self.rows or not self.file_is_anothers(self.rows[keys[uid]])]
        assert self.do(self.state.restore("imap", INBOX_PLACE, found(sorted(uids), epoch))) == len(new)
        for uid in new:
            passed = self.epoch is not None and self.epoch != epoch
            row = self.rows.setdefault(keys[uid], Row(uid, epoch, removed=passed))
            self.complete(row, set())

    @rule()
    def lose_and_find_the_folder(self) -> None:
        self.do(self.state.record_folders(self.account, []))
        self.do(self.state.record_folders(self.account, [INBOX]))
        for row in self.rows.values():
            if row.status in ("pending", "failed"):
                row.status, row.why, row.removed = "skipped", "gone", True

    @rule()
    def restart(self) -> None:
        self.do(self.state.close())
        self.do(self.state.start())

    # --- what is always so ---

    @invariant()
    def the_ledger_agrees_with_itself(self) -> None:
        assert self.do(self.state.check()) == []

    @invariant()
    def every_job_counts_what_it_wants(self) -> None:
        for job in self.jobs:
            rows = [self.rows[key] for key in self.wants[job]]
            mine = [row for row in rows if row.status == "completed" and job in row.by]
            theirs = [row for row in rows if row.status == "completed" and job not in row.by]
            assert self.do(self.state.counters(job)) == Counters(
                total=len(rows),
                downloaded=len(mine),
                failed=sum(row.status == "failed" for row in rows),
                skipped=sum(row.status == "skipped" for row in rows) + len(theirs),
                bytes=sum(100 + row.uid for row in mine),
            )

    @invariant()
    def what_is_pending_is_what_is_left(self) -> None:
        for job in self.jobs:
            left = [key for key, row in self.rows.items() if key in self.wants[job] and row.status == "pending"]
            pending = self.do(self.state.pending(job, self.folder, below=None, limit=100))
            assert sorted(item.key for item in pending) == sorted(left)
            ordinals = [item.ordinal for item in pending]
            assert ordinals == sorted(ordinals, reverse=True)

    @invariant()
    def events_are_numbered_without_a_gap(self) -> None:
        oldest, newest = self.do(self.state.event_span())
        assert [event.number for event in self.do(self.state.events(0))] == list(range(oldest, newest + 1))

    @invariant()
    def a_preview_is_what_a_job_would_find(self) -> None:
        there = [row for row in self.rows.values() if row.epoch == self.epoch and not row.removed]
        pending = [row for row in there if row.status == "pending"]
        stored = [row for row in there if row.status == "completed"]
        expected = Preview(len(pending), sum(100 + row.uid for row in pending), len(stored))
        assert self.do(self.state.preview(self.folder)) == expected


TestLedger = Ledger.TestCase
TestLedger.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
