"""A disk that is full or read-only: the daemon waits in words, answers all the while, and goes on by itself."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from contracts.store import IDENTITY, INBOX, staged
from hauld.errors import Transient
from hauld.model import Deposit
from hauld.stores.bodies import ended
from hauld.stores.eml import EmlStore
from hauld.stores.maildir import MaildirStore
from support.daemon import Hauld
from support.disks import WatchedDisk, failing
from support.dovecot import Dovecot, User
from support.engine import running
from support.messages import messages
from support.scripted_imap import Honest, Mailbox, ScriptedServer
from support.small_disks import small_disk
from support.watching import is_done, until, waits

TO_THE_END = {"keep_free": "none"}
"""``[store]``: fill the disk to its end."""

MESSAGES = 300
WITHIN = 60.0
"""Seconds after which work has gone on once there is room."""


@pytest.fixture
def truth(dovecot: Dovecot, mail_user: User) -> dict[str, dict[int, str]]:
    """What is to be stored: 3 MB."""
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES, size=10_000))
    return dovecot.read_all(mail_user)


def is_consistent(hauld: Hauld, job: str, truth: dict[str, dict[int, str]]) -> None:
    """What the ledger calls stored is a whole file, and no file is anything else."""
    counted = hauld.call("jobs.get", job=job)["progress"]["downloaded_items"]  # first: meanwhile it may be tried again
    stored = hauld.stored("a").get("INBOX", {})
    assert stored.items() <= truth["INBOX"].items()
    assert counted <= len(stored)


def goes_on(hauld: Hauld, job: str, truth: dict[str, dict[int, str]]) -> None:
    """The job completes, nothing is missing or different, and its trouble was logged when it began and when it ended. That is
    once, or a few times where the disk was so nearly full that a part of what was tried found room."""
    done = until(hauld, job, is_done, within=WITHIN)
    assert (done["progress"]["downloaded_items"], done["progress"]["failed_items"]) == (MESSAGES, 0)
    assert hauld.stored("a") == truth
    assert 1 <= hauld.log().count("machine.failed") <= 5, hauld.log()
    assert hauld.log().count("machine.recovered") == hauld.log().count("machine.failed"), hauld.log()


def answers(hauld: Hauld, job: str) -> None:
    shown = hauld.haulctl("show", job, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["status"] == "running"


def test_L5_a_store_that_is_full_makes_the_job_wait_and_room_lets_it_go_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, truth: dict[str, dict[int, str]]
) -> None:
    with (
        small_disk(tmp_path / "haul" / "mail", "8m") as disk,
        Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store=TO_THE_END) as hauld,
    ):
        disk.fill(leaving=1 << 20)
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        waiting = until(hauld, job, waits)
        assert waiting["error"]["kind"] == "disk"
        assert str(hauld.mail) in waiting["error"]["message"]
        assert "Free some space" in waiting["error"]["hint"]
        assert waiting["error"]["retry_at"]
        answers(hauld, job)
        is_consistent(hauld, job, truth)
        disk.free()
        goes_on(hauld, job, truth)


def test_L5_work_stops_before_the_disk_is_full_to_its_end(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, truth: dict[str, dict[int, str]]
) -> None:
    with small_disk(tmp_path / "haul" / "mail", "8m") as disk:
        store = {"keep_free": "2 MiB"}
        with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store=store) as hauld:
            disk.fill(leaving=3 << 20)
            job = hauld.call("jobs.create", account="a", live=False)["id"]
            waiting = until(hauld, job, waits)
            assert "2.0 MiB are kept free" in waiting["error"]["message"]
            assert 2 << 20 <= disk.room() < 3 << 20
            answers(hauld, job)
            is_consistent(hauld, job, truth)
            disk.free()
            until(hauld, job, is_done, within=WITHIN)
            assert hauld.stored("a") == truth


@pytest.mark.parametrize("size", [100, 3000, 10_000, 20_000])
@pytest.mark.parametrize(
    "make", [MaildirStore, EmlStore, partial(EmlStore, compression="zstd")], ids=["maildir", "eml", "zstd"]
)
async def test_L5_what_is_kept_free_stays_free_however_small_the_items_and_with_groups_under_way(
    tmp_path: Path, make: Callable[..., MaildirStore | EmlStore], size: int
) -> None:
    """Three groups at a time: one is made durable while another one is written, as the engine has them."""
    dice = random.Random(size)
    kept = 1 << 20
    with small_disk(tmp_path / "mail") as disk:
        store = make(disk.path, keep_free=kept, memory_limit=15_000)
        await store.start()
        place = await store.prepare(IDENTITY, "work", INBOX, None)
        disk.fill(leaving=kept + (512 << 10))
        keys = map("7.{}".format, count(1))
        refused, stored = 0, 0
        while refused < 4:
            groups = [[staged(store, place, next(keys), dice.randbytes(size)) for _ in range(7)] for _ in range(3)]
            for told in await asyncio.gather(*(committed(store, group) for group in groups)):
                refused, stored = refused + (told == 0), stored + told
            assert disk.room() >= kept
        assert stored > 0
        await store.recover()
        await store.settle()
        await store.close()
        assert kept <= disk.room() < kept + (512 << 10)


async def committed(store: MaildirStore | EmlStore, group: Sequence[Deposit]) -> int:
    """How many were stored."""
    try:
        await store.write(group)
        async with store.commit(group) as placed:
            return len(placed)
    except Transient as error:
        if "kept free" not in error.message:
            raise
        for deposit in group:
            deposit.body.discard()
        await ended([deposit.body for deposit in group])
        return 0


def test_L5_a_state_that_is_full_makes_the_job_wait_and_room_lets_it_go_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, truth: dict[str, dict[int, str]]
) -> None:
    with small_disk(tmp_path / "state") as disk:
        daemon = {"state": str(disk.path / "haul.db")}
        with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, daemon=daemon, store=TO_THE_END) as hauld:
            job = hauld.call("jobs.create", account="a", live=False, start=False)["id"]
            disk.fill(leaving=64 * 1024)
            hauld.call("jobs.start", job=job)
            waiting = until(hauld, job, waits)
            assert waiting["error"]["kind"] == "disk"
            assert "haul.db" in waiting["error"]["message"]
            answers(hauld, job)
            is_consistent(hauld, job, truth)
            disk.free()
            goes_on(hauld, job, truth)


def test_L5_store_and_state_on_one_full_disk_make_the_job_wait_and_room_lets_it_go_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, truth: dict[str, dict[int, str]]
) -> None:
    with (
        small_disk(tmp_path / "haul", "12m") as disk,
        Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store=TO_THE_END) as hauld,
    ):
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        until(hauld, job, lambda seen: seen["progress"]["total_items"] > 0)
        disk.fill()
        waiting = until(hauld, job, waits)
        assert waiting["error"]["kind"] == "disk"
        answers(hauld, job)
        is_consistent(hauld, job, truth)
        disk.free()
        goes_on(hauld, job, truth)


def test_L6_a_store_that_became_read_only_makes_the_job_wait_until_it_can_be_written(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, truth: dict[str, dict[int, str]]
) -> None:
    with (
        small_disk(tmp_path / "haul" / "mail", "16m") as disk,
        Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store=TO_THE_END) as hauld,
    ):
        with disk.read_only():
            job = hauld.call("jobs.create", account="a", live=False)["id"]
            waiting = until(hauld, job, waits)
            assert waiting["error"]["kind"] == "disk"
            assert "Read-only" in waiting["error"]["message"]
            assert "remount" in waiting["error"]["hint"]
            answers(hauld, job)
        goes_on(hauld, job, truth)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The socket that systemd listens on."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(30)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listening


def hears(systemd: socket.socket, beginning: str) -> str:
    """The next thing that systemd is told that begins so."""
    while not (told := systemd.recv(8192).decode()).startswith(beginning):
        pass
    return told


@pytest.mark.parametrize("place", ["mail", "state"])
def test_L6_a_daemon_that_finds_its_disk_read_only_waits_for_it_and_tells_systemd(
    tmp_path: Path, systemd: socket.socket, place: str
) -> None:
    with systemd, small_disk(tmp_path / "haul" / place) as disk:
        hauld = Hauld(tmp_path / "haul", {}, daemon={"state": str(tmp_path / "haul" / "state" / "haul.db")})
        disk.remount("ro")
        hauld.start(ready=False)
        assert int(hears(systemd, "EXTEND_TIMEOUT_USEC=").partition("=")[2]) >= 60_000_000
        told = hears(systemd, "STATUS=")
        assert "Read-only file system" in told or "readonly" in told
        disk.remount("rw")
        hears(systemd, "READY=1")
        assert hears(systemd, "STATUS=") == "STATUS=0 accounts"
        assert hauld.stop() == 0
        assert hauld.log().count("start.waits") == 1


def test_L5_a_daemon_that_waits_for_its_disk_to_start_ends_at_once_when_asked_to(
    tmp_path: Path, systemd: socket.socket
) -> None:
    with systemd, small_disk(tmp_path / "haul" / "mail") as disk:
        disk.remount("ro")
        hauld = Hauld(tmp_path / "haul", {}).start(ready=False)
        hears(systemd, "STATUS=")
        assert hauld.stop() == 0


def test_L5_systemd_is_told_what_the_daemon_waits_for_and_when_it_goes_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, systemd: socket.socket
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(20, size=10_000))
    with (
        systemd,
        small_disk(tmp_path / "haul" / "mail") as disk,
        Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store=TO_THE_END) as hauld,
    ):
        hears(systemd, "READY=1")
        disk.fill()
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        until(hauld, job, waits)
        assert hears(systemd, "STATUS=Waiting: ").endswith("No space left on device.")
        disk.free()
        hears(systemd, "STATUS=1 account")
        until(hauld, job, is_done)


def bodies_asked(server: ScriptedServer) -> int:
    return sum(b"BODY" in line and b"FETCH" in line for line in server.commands)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
async def test_L5_nothing_is_fetched_again_before_the_store_can_take_it(tmp_path: Path, number: int) -> None:
    """The first commit fails, and so do the next five looks at the stage."""
    server = ScriptedServer(Honest({b"INBOX": Mailbox({1: b"Subject: one\r\n\r\nbody\r\n"})}))
    disk = WatchedDisk(failing("create", number, within="stage", times=6))
    async with server, running(tmp_path, server.source(), store=lambda root: MaildirStore(root, disk=disk)) as engine:
        done = await engine.finish()
        assert (done.status, done.progress.downloaded_items) == ("completed", 1)
        assert bodies_asked(server) == 2


def test_L5_L3_a_daemon_stops_in_order_while_its_disk_is_full(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, truth: dict[str, dict[int, str]]
) -> None:
    with small_disk(tmp_path / "haul", "12m") as disk:
        hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store=TO_THE_END).start()
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        until(hauld, job, lambda seen: seen["progress"]["total_items"] > 0)
        disk.fill()
        until(hauld, job, waits)
        assert hauld.stop() == 0, hauld.log()
        disk.free()
        hauld.start()
        until(hauld, job, is_done, within=WITHIN)
        assert hauld.stored("a") == truth
        assert hauld.stop() == 0
