"""Where hauld is killed: a real Dovecot, a nursery, and one tree that is made anew for each run.

``Site`` prepares scenarios: what the server has, and what the daemon's own files are before the run. It runs the daemon there
under an order, and afterwards without any fault, and says what was wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from crash import judgement, power
from crash.injector import EXT4, TMPFS, Fault, build, read_records
from crash.judgement import Truth
from crash.nursery import Ended, Nursery
from crash.runs import Order
from crash.sessions import Sessions
from hauld.state.sqlite import schema
from support import utf7
from support.dovecot import Dovecot, User, private_dovecot
from support.messages import messages

FILE_SYSTEMS = {"whole": EXT4, "file by file": TMPFS}
"""The daemon makes a group durable in two ways, by what it thinks it works on."""

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES)
OLD_SCHEMA = 2
LARGE = 300_000
"""Bytes of one message that is too large to wait in memory."""


@dataclass(frozen=True)
class Scenario:
    """What a run begins with: ``truth`` is what the server has, ``kept`` are the files that are there and stay. ``damaged`` are
    paths of files that are not what the ledger says, and are repaired. ``rescued``: the ledger is gone or damaged, and comes
    back from what is stored."""

    name: str
    user: User
    base: Path
    truth: Truth
    kept: dict[str, str]
    damaged: frozenset[str] = frozenset()
    rescued: bool = False


def missing(name: str) -> str | None:
    """Why this version of the daemon cannot be tried with that scenario; None where it can."""
    if name.startswith("ledger ") and find_spec("hauld.engine.rebuild") is None:
        return "this hauld cannot rebuild its ledger from what is stored"
    if name == "files damaged" and find_spec("hauld.engine.repair") is None:
        return "this hauld cannot repair what is stored"
    return None


NAMES = ("first import", "increment", "new epoch", "upgrade", "ledger missing", "ledger damaged", "files damaged")


class Site:
    """One place of crashes, below ``directory``. Its tree has the same path in every run: the configuration names it."""

    def __init__(self, directory: Path, dovecot: Dovecot, nursery: Nursery) -> None:
        self._directory = directory
        self._dovecot = dovecot
        self._nursery = nursery
        self._sessions = Sessions(dovecot)
        self._scenarios: dict[str, Scenario] = {}
        self._calls: dict[tuple[str, Fault, int, str], int] = {}
        self._recordings: dict[tuple[str, str], power.Recording] = {}
        self.tree = directory / "tree"

    # --- scenarios ---

    def scenario(self, name: str) -> Scenario:
        """The scenario of that name, prepared when it is first asked for."""
        if name not in self._scenarios:
            self._scenarios[name] = self._prepared(name)
        return self._scenarios[name]

    def _prepared(self, name: str) -> Scenario:
        user = self._dovecot.add_user(f"{name} {os.getpid()}")
        self._deliver(user, [(b"INBOX", 6), (b"Projects/a b", 3), (b"Sent", 2)], seed=1)
        self._deliver(user, [(b"INBOX", 1)], seed=2, size=LARGE)
        begun = Scenario(name, user, self._directory / name, {}, {})
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(parents=True)
        rescued = False
        if name != "first import":
            self._configure(user)
            ended = self._nursery.run(self._order(key="before"))
            assert ended.outcome is not None, "the import before has died"
            assert ended.outcome.status == "completed", ended.outcome
        if name in ("increment", "upgrade"):
            self._deliver(user, [(b"INBOX", 3), (b"Sent", 1), (b"Projects/more", 1)], seed=3)
        if name == "upgrade":
            downgrade(self.tree / "state/haul.db")
        if name == "new epoch":
            for number, mailbox in enumerate(self._dovecot.read_all(user)):
                self._dovecot.admin("mailbox", "update", "-u", user.name, "--uid-validity", str(7_000_000 + number), mailbox)
        if name == "ledger missing":
            shutil.rmtree(self.tree / "state")
            rescued = True
        if name == "ledger damaged":
            (self.tree / "state/haul.db").write_bytes(b"SQLite format 3\0" + b"\xa5" * 50_000)
            rescued = True
        damaged = damage(self.tree) if name == "files damaged" else frozenset()
        kept = {path: sha256 for path, sha256 in _hashes(self.tree).items() if path not in damaged}
        shutil.copytree(self.tree, begun.base)
        return dataclasses.replace(begun, truth=self._truth(user), kept=kept, damaged=damaged, rescued=rescued)

    def _deliver(self, user: User, mailboxes: Sequence[tuple[bytes, int]], seed: int, size: int = 2000) -> None:
        for number, (mailbox, count) in enumerate(mailboxes):
            self._dovecot.fill(user, mailbox.decode(), messages(count, size=size + 700 * number, seed=10 * seed + number))

    def _truth(self, user: User) -> Truth:
        found = {}
        for mailbox, held in self._dovecot.read_all(user).items():
            validity = self._dovecot.admin("-f", "flow", "mailbox", "status", "-u", user.name, "uidvalidity", mailbox)
            epoch = validity.rsplit("uidvalidity=", 1)[1].strip()
            found |= {(utf7.encode(mailbox), f"{epoch}.{uid}"): sha256 for uid, sha256 in held.items()}
        return found

    def _configure(self, user: User) -> None:
        (self._directory / "password").write_text(user.password)
        (self._directory / "password").chmod(0o600)
        config = self._directory / "haul.toml"
        config.write_text(
            f"""\
[daemon]
state = "{self.tree}/state/haul.db"
socket = "{self.tree}/run/haul.sock"
[store]
path = "{self.tree}/mail"
[retry]
initial = "0.02s"
max = "0.1s"
[accounts.a]
host = "{self._dovecot.host}"
port = {self._dovecot.port}
tls = "none"
user = "{user.name}"
password_file = "{self._directory}/password"
"""
        )
        config.chmod(0o600)

    # --- runs ---

    def calls(self, name: str, fault: Fault = Fault.NONE, error: int = 0, file_system: str = "whole") -> int:
        """How many calls a run without any fault makes that this fault can happen to; from run to run a few more or less."""
        asked = (name, fault, error, file_system)
        if asked not in self._calls:
            self._begin(self.scenario(name))
            ended = self._run(self.scenario(name), fault=fault, error=error, file_system=FILE_SYSTEMS[file_system])
            assert ended.outcome is not None
            assert ended.outcome.status == "completed", ended.outcome
            self._calls[asked] = ended.outcome.counted
        return self._calls[asked]

    def dies(self, name: str, fault: Fault, at: int) -> bool:
        """Whether a run has such a call, and dies there."""
        self._begin(self.scenario(name))
        return self._run(self.scenario(name), fault=fault, at=at).outcome is None

    def kill(self, scenario: Scenario, fault: Fault, at: int, file_system: str) -> list[str]:
        """Kill it at that call and start it again; what was wrong."""
        self._begin(scenario)
        killed = self._run(scenario, fault=fault, at=at, file_system=FILE_SYSTEMS[file_system])
        return [*self._told(killed, may_die=True), *self._finished(scenario, count=True)]

    def fail(self, scenario: Scenario, fault: Fault, at: int, error: int, file_system: str) -> list[str]:
        """Let the call fail, and then start again on a disk that works; what was wrong."""
        self._begin(scenario)
        patient = fault is Fault.FAIL_ONCE
        failed = self._run(
            scenario,
            fault=fault,
            at=at,
            error=error,
            patient=patient,
            file_system=FILE_SYSTEMS[file_system],
        )
        outcome = failed.outcome
        # a job may complete but for a folder that could not be written, and says so: another one then brings the rest
        is_partial = outcome is not None and outcome.status == "completed" and outcome.is_visible
        found = [*self._told(failed, may_die=False), *self._finished(scenario, key="another" if is_partial else "now")]
        if outcome is not None and outcome.status == "failed":
            found.append(f"the job failed for good: {outcome}")
        elif outcome is not None and outcome.status != "completed" and not outcome.is_visible:
            found.append(f"nothing tells that something is wrong: {outcome}")
        elif outcome is not None and patient and outcome.status != "completed" and not outcome.sentence:
            found.append(f"it neither completed by itself nor said why it ended: {outcome}")
        return found

    def recording(self, name: str, file_system: str) -> power.Recording:
        """A run of that scenario without any fault, and all it did to the disk."""
        if (name, file_system) not in self._recordings:
            self._begin(self.scenario(name))
            before = power.Inodes.of(self.tree)
            record = self._directory / "record"
            ended = self._run(self.scenario(name), record=str(record), file_system=FILE_SYSTEMS[file_system])
            assert ended.outcome is not None
            assert ended.outcome.status == "completed", ended.outcome
            self._recordings[name, file_system] = power.Recording(self.tree, before, tuple(read_records(record)))
        return self._recordings[name, file_system]

    def start_after_power_loss(self, scenario: Scenario, image: power.Image) -> list[str]:
        """Start on what the power cut left; what was wrong."""
        self._configure(scenario.user)
        shutil.rmtree(self.tree, ignore_errors=True)
        image.build(self.tree)
        ledger = judgement.read_ledger(self.tree, self._directory / "scratch")
        lost = []
        if "created" in image.marks and not ledger.has_jobs:
            lost.append("lost: the job, of which the client had been told")
        if (
            "completed" in image.marks
            and not scenario.damaged
            and not {(row.folder, row.key) for row in ledger.rows} >= scenario.truth.keys()
        ):
            lost.append("lost: rows of an import of which the client had been told that it was complete")
        return [*lost, *self._finished(scenario)]

    def _begin(self, scenario: Scenario) -> None:
        self._configure(scenario.user)
        shutil.rmtree(self.tree, ignore_errors=True)
        shutil.copytree(scenario.base, self.tree)

    def _run(self, scenario: Scenario, **order: object) -> Ended:
        return self._nursery.run(self._order(**{"key": "now", "repair": bool(scenario.damaged), **order}))

    def _order(self, **order: object) -> Order:
        return Order(str(self._directory / "haul.toml"), str(self.tree), **order)  # type: ignore[arg-type]

    def _finished(self, scenario: Scenario, *, key: str = "now", count: bool = False) -> list[str]:
        """Judge what is there, start again without any fault, and judge again. With ``count``, nothing may be fetched that was
        durable already."""
        ledger = judgement.read_ledger(self.tree, self._directory / "scratch")
        if scenario.rescued:
            ledger = dataclasses.replace(ledger, complaint=None)  # it may still be as damaged as it was
        ledger = dataclasses.replace(ledger, rows=tuple(row for row in ledger.rows if row.path not in scenario.damaged))
        found = [f"before the next start: {each}" for each in judgement.torn(self.tree, ledger, scenario.truth)]
        held = {(row.folder, row.key) for row in ledger.rows} | judgement.whole(self.tree) | judgement.in_place(self.tree)
        before = self._sessions.now() if count else 0
        ended = self._run(scenario, key=key, check=True)
        if count:
            fetched = self._sessions.bodies_fetched(scenario.user, before)
            if fetched is not None and fetched > len(scenario.truth.keys() - held):
                found.append(f"{fetched} messages were fetched, and {len(held & scenario.truth.keys())} were durable already")
        found += self._told(ended, may_die=False)
        if ended.outcome is not None:
            if ended.outcome.status != "completed":
                found.append(f"the next start did not complete the import: {ended.outcome}")
            found += ended.outcome.wrong
        ledger = judgement.read_ledger(self.tree, self._directory / "scratch")
        found += judgement.unfinished(self.tree, ledger, scenario.truth, scenario.kept)
        found += judgement.strange(self.tree, rescued=scenario.rescued)
        return found

    @staticmethod
    def _told(ended: Ended, *, may_die: bool) -> Iterator[str]:
        if ended.hung:
            yield "it did not end"
        elif ended.outcome is None and not may_die:
            yield "it died"
        elif ended.outcome is not None and ended.outcome.defect:
            yield f"a defect: {ended.outcome.defect}"


def damage(tree: Path) -> frozenset[str]:
    """Cut one file short, flip a byte of another and delete a third; their paths."""
    victims = sorted((path, held) for path, [held] in judgement.messages(tree).items())[:3]
    (_, short), (_, flipped), (_, deleted) = victims
    os.truncate(short, short.stat().st_size // 2)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    deleted.unlink()
    return frozenset(path for path, _ in victims)


def downgrade(path: Path) -> None:
    """Make a ledger what an earlier version would have left: its tables, and in their columns what the ledger has in them."""
    newer = path.with_name("newer")
    path.rename(newer)
    old = sqlite3.connect(path, isolation_level=None)
    for step in schema.migrations()[:OLD_SCHEMA]:
        old.executescript(step.sql)
        old.execute("INSERT INTO schema (version, name, applied_at) VALUES (?, ?, 0)", (step.version, step.name))
    triggers = old.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        old.execute(f"DROP TRIGGER {name}")
    old.execute("ATTACH ? AS newer", (str(newer),))
    tables = [
        name for [name] in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    ]
    for table in tables:
        if table != "schema":
            columns = ", ".join(name for [name] in old.execute("SELECT name FROM pragma_table_info(?)", (table,)))
            old.execute(f"DELETE FROM main.{table}")
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")
    for _, sql in triggers:
        old.execute(sql)
    old.close()
    newer.unlink()
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def _hashes(tree: Path) -> dict[str, str]:
    return {path: hashlib.sha256(held[0].read_bytes()).hexdigest() for path, held in judgement.messages(tree).items()}


@contextmanager
def site(dovecot: Dovecot | None = None, parent: Path | None = None) -> Iterator[Site]:
    """A site in memory where the machine has such a place; with a Dovecot of its own unless one is given. Raises
    ``NoCompiler`` or ``NoDovecot``."""
    memory = Path("/dev/shm")
    place = parent or (memory if os.access(memory, os.W_OK) else None)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="haul-crash-", dir=place)))
        nursery = stack.enter_context(Nursery(build(directory)))
        yield Site(directory, dovecot or stack.enter_context(private_dovecot()), nursery)
