"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import msgspec
import pytest
from rich.console import Console
from rich.live import Live

from haulapi.calls import Folder, Job, Progress
from haulctl.bars import LINE_EVERY, NOTHING_RUNS, Bars, Paces, PlainLines, drawing, in_progress, view
from support.door import THROTTLED, folder, job
from support.terminal import open_terminal


def drawn(job: Job, folders: Sequence[Folder], width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(drawing(job, folders))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_folders_in_progress_have_bars_and_the_account_has_one_for_all() -> None:
    folders = [
        folder(),
        folder(name="Sent", total_items=10, remaining_items=0, downloaded_items=10, is_complete=True),
        folder(name="Waits", total_items=10, remaining_items=10, downloaded_items=0),
    ]
    first, last, words = drawn(job(), folders)
    assert first.startswith("INBOX ")
    assert first.endswith("70 % 8,412/12,000")
    assert last.startswith("work ")
    assert last.endswith("42 % 8,412/20,000")
    assert "950 items/s, 9.1 MB/s, 12 s left" in words


@pytest.mark.parametrize("width", [80, 200])
def test_bars_use_the_width_there_is_and_no_more(width: int) -> None:
    lines = drawn(job(), [folder(name="Projekte/" + "sehr lang " * 20)], width)
    assert [len(line) for line in lines[:2]] == [width, width]
    assert "…" in lines[0]


def test_why_a_job_waits_and_when_it_is_tried_again_stands_below() -> None:
    lines = drawn(job(phase="waiting", error=THROTTLED), [])
    assert lines[-1].startswith("waiting: imap.example.net asks for patience. Next try ")


def test_before_anything_is_listed_no_number_is_made_up() -> None:
    lines = drawn(job(phase="listing", progress=Progress()), [])
    assert "%" not in "".join(lines)
    assert "0/0" not in "".join(lines)


def test_C12_a_folder_cannot_write_on_the_terminal_nor_be_taken_for_markup() -> None:
    first, *_ = drawn(job(), [folder(name="\x1b[2J[red]")])
    assert first.startswith("\\x1b[2J[red]")


def test_folders_in_progress_have_begun_and_not_ended() -> None:
    begun = folder(name="begun")
    assert in_progress([begun, folder(remaining_items=12_000), folder(remaining_items=0)]) == [begun]


class TestPlainLines:
    def test_a_line_comes_when_something_changes(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = PlainLines(clock=lambda: 0.0)
        for each in (job(phase="listing"), job(phase="listing"), job(), job(phase="waiting", error=THROTTLED)):
            lines.show(each, [])
        out, err = capsys.readouterr()
        assert out == ""
        assert [line.partition(",")[0] for line in err.splitlines()] == [
            "work: running",
            "work: running",
            "work: running",
            "  waiting: imap.example.net asks for patience. Next try now.",
        ]

    def test_progress_alone_is_told_now_and_then(self, capsys: pytest.CaptureFixture[str]) -> None:
        time = iter([0.0, 1.0, LINE_EVERY + 1, LINE_EVERY + 1, 100.0, 100.0])
        lines = PlainLines(clock=lambda: next(time))
        further = msgspec.structs.replace(job().progress, downloaded_items=9_000)
        for each in (job(), job(progress=further), job(progress=further), job(progress=further)):
            lines.show(each, [])
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 2
        assert "9,000 of" in err[1]

    def test_C12_what_is_said_is_escaped(self, capsys: pytest.CaptureFixture[str]) -> None:
        PlainLines().say("\x1b[2J")
        assert capsys.readouterr().err == "\\x1b[2J\n"


def test_where_stderr_is_no_terminal_lines_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with view() as plain:
        assert isinstance(plain, PlainLines)


def test_on_a_terminal_there_are_bars_unless_it_is_a_dumb_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = open_terminal()
    with open(ours, "rb", buffering=0) as screen, open(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "80")
        with view() as bars:
            assert isinstance(bars, Bars)
            bars.show(job(), [folder()])
            bars.say("hauld is back.\x07")
        terminal.flush()
        written = b""
        while not (b"INBOX" in written and b"hauld is back.\\x07" in written):  # a terminal gives what it has so far
            written += os.read(screen.fileno(), 65536)
        monkeypatch.setenv("TERM", "dumb")
        with view() as plain:
            assert isinstance(plain, PlainLines)


def test_bars_draw_on_the_live_they_are_given() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    with Live(console=console, auto_refresh=False) as live:
        Bars(live).show(job(), [folder()])
    assert "INBOX" in console.file.getvalue()  # type: ignore[attr-defined]


WATCHED = [folder(), folder(name="Projekte/日本語", total_items=8_000, downloaded_items=400, remaining_items=7_600)]
RATES = {"INBOX": 520.0, "Projekte/日本語": 430.0}


def recorded(width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(drawing(job(), WATCHED, RATES))
    return "\n" + "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def test_bars_show_rates_and_what_is_left_of_each_folder_in_80_columns() -> None:
    assert (
        recorded(80)
        == """
INBOX                ━━━━━━━━━━━━━━━━━━━━━          70 % 8,412/12,000 520/s  7 s
Projekte/日本語      ━╸                              5 %    400/8,000 430/s 18 s
work                 ━━━━━━━━━━━━╸                  42 % 8,412/20,000
running, downloading, 950 items/s, 9.1 MB/s, 12 s left
"""
    )


def test_bars_show_rates_and_what_is_left_of_each_folder_in_200_columns() -> None:
    assert (
        recorded(200)
        == """
INBOX                                                                ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸                               70 % 8,412/12,000 520/s  7 s
Projekte/日本語                                                      ━━━━━                                                                                                   5 %    400/8,000 430/s 18 s
work                                                                 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸                                                            42 % 8,412/20,000
running, downloading, 950 items/s, 9.1 MB/s, 12 s left
"""  # noqa: E501
    )


def test_a_rate_is_of_the_recent_past_and_not_made_up() -> None:
    time = iter([0.0, 10.0, 30.0, 31.0, 60.0])
    paces = Paces(clock=lambda: next(time))

    def at(items: int) -> Sequence[Folder]:
        return [folder(downloaded_items=items)]

    assert paces.of(at(0)) == {}
    assert paces.of(at(100)) == {"INBOX": 10.0}
    assert paces.of(at(100)) == {}
    assert paces.of(at(150)) == {"INBOX": 50.0}
    assert paces.of([]) == {}


def test_several_jobs_are_drawn_below_each_other_and_none_is_said() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    with Live(console=console, auto_refresh=False) as live:
        bars = Bars(live)
        bars.show_all([(job(), [folder()]), (job(id="job_2", account="home", phase="waiting", error=THROTTLED), [])])
        bars.show_all([])
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.index("work") < drawn.index("home") < drawn.index("asks for patience") < drawn.index(NOTHING_RUNS)


def test_plain_lines_tell_of_each_job_and_once_that_none_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines(clock=lambda: 0.0)
    for seen in ([(job(), []), (job(id="job_2", account="home"), [])], [(job(), [])], [], []):
        lines.show_all(seen)
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["work", "home", NOTHING_RUNS]
