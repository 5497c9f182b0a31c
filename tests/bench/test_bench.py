"""The benchmark itself, on a small scale: it runs, it measures what it says, and it refuses what is no figure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench import idle, notices
from bench.mailboxes import Bench, Shape, content
from bench.programs import Origin, can_count, child, counted, run_drain, run_hauld
from bench.proxy import proxied
from bench.scenarios import SCENARIOS, Options
from bench.tables import Run, comparison
from support.dovecot import Dovecot, User

SMALL = Shape(50, "mixed", folders=3)


@pytest.fixture
def bench(dovecot: Dovecot, tmp_path: Path) -> Bench:
    return Bench(dovecot, tmp_path, tell=lambda _: None)


def origin_of(bench: Bench, shape: Shape) -> Origin:
    return Origin(bench.server, bench.mailbox(shape), bench.server.port)


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="needs mbsync: apt-get install isync")
def test_an_import_is_measured_next_to_mbsync(bench: Bench) -> None:
    table = SCENARIOS["import"].run(bench, Options(SMALL, pairs=1, count_calls=False))
    assert [row[0] for row in table.rows] == ["hauld", "mbsync"]
    assert table.remarks[0].startswith("hauld is ")
    assert "| mbsync |" in table.markdown()


def test_the_way_of_new_mail_is_measured_from_the_notice_to_the_file_and_the_event(bench: Bench) -> None:
    table = notices.measure(bench, SMALL, imports=1, deliveries=2, listened=2)
    assert [row[0] for row in table.rows][:2] == ["alone: to the file", "alone: to the event"]
    to_file, to_event = (float(row[1]) for row in table.rows[:2])
    assert -10 < to_file <= to_event + 10 < 10_000, "the clock of inodes is some milliseconds late"


def test_accounts_that_only_listen_are_measured_by_memory_and_cpu(bench: Bench) -> None:
    table = idle.measure(bench, Shape(2), accounts=3, rest=0.1, settled=False)
    assert [row[:2] for row in table.rows] == [["without accounts", "0"], ["all listen", "3"], ["at rest", "3"]]
    assert all(10 < float(row[2]) < 1000 for row in table.rows)


def test_an_import_that_is_not_complete_is_no_figure(bench: Bench) -> None:
    origin = origin_of(bench, SMALL)
    bench.server.fill(origin.mailbox.user, "INBOX", content(Shape(1)))
    with pytest.raises(AssertionError, match="51 of 50 messages were stored"):
        run_hauld(bench.fresh("hauld"), origin)


def test_a_proxy_makes_each_answer_wait_for_a_round_trip(bench: Bench) -> None:
    origin = origin_of(bench, Shape(5))
    with proxied(bench.server.host, bench.server.port, 30) as port:
        far = run_drain(Origin(bench.server, origin.mailbox, port))
    assert far.seconds > 4 * 0.030, "connecting, signing in, opening the folder and fetching"


def test_a_drain_that_is_refused_is_no_figure(bench: Bench) -> None:
    origin = origin_of(bench, Shape(5))
    stranger = User(origin.mailbox.user.name, "wrong")
    with pytest.raises(AssertionError, match="AUTHENTICATIONFAILED"):
        run_drain(replace(origin, mailbox=replace(origin.mailbox, user=stranger)))


@pytest.mark.parametrize("shape", [Shape(20), Shape(20, "mixed"), Shape(2, "30000000")], ids=["fixed", "mixed", "huge"])
def test_a_mailbox_is_the_same_every_time_and_no_message_is_twice_in_it(shape: Shape) -> None:
    once, again = list(content(shape)), list(content(shape))
    assert once == again
    assert len(set(once)) == shape.count
    if shape.sizes != "mixed":
        assert all(abs(len(message) - int(shape.sizes)) < 0.02 * int(shape.sizes) for message in once)


@pytest.mark.skipif(not can_count(), reason="needs strace: apt-get install strace")
def test_syncs_are_counted_among_the_system_calls(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    counts = counted(lambda command: child([*command, "sync", "--data", str(file)]), tmp_path / "strace" / "sync")
    assert counts.syncs == 1
    assert counts.calls > 10


def test_a_ratio_is_taken_within_each_pair() -> None:
    ours = [Run(1.0, 0.5, 1_000_000, 100, 1000), Run(4.0, 0.5, 2_000_000, 100, 1000)]
    theirs = [Run(3.0, 0.5, 1_000_000, 100, 1000), Run(20.0, 0.5, 1_000_000, 100, 1000)]
    table = comparison("Import", "", {"hauld": ours, "other": theirs})
    assert table.remarks[0] == "hauld is 4.00 times (3.00 to 5.00 in 2 pairs) as fast as other."
    assert table.rows[0] == ["hauld", "2.50 (1.00 to 4.00)", "40", "0.0", "0.50", "2.0"]
