"""When a folder is due: the schedule, what is noticed, and what is listened to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hauld.engine.account import Account
from hauld.engine.schedule import LONGEST_STRETCH, REST, STRETCH, Schedule
from hauld.model import Folder, FolderKind, RemoteFolder
from support.clocks import LeapingClock
from support.engine import settings
from support.scripted_imap import ScriptedServer

INBOX = Folder(1, 1, RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX))
WORK = Folder(2, 1, RemoteFolder(b"Work", ("Work",)))
EVERY = 300.0


class Scene:
    def __init__(self, interval: float = EVERY) -> None:
        self.clock = LeapingClock()
        self.account = Account(settings("a", connections=1, interval=interval), 1, ScriptedServer().source(), self.clock)
        self.schedule = Schedule(self.account, self.clock)

    def compare(self, *folders: Folder, takes: float = 0.0, selected: Sequence[Folder] = (INBOX, WORK)) -> None:
        began = self.clock.now
        self.clock.now += takes
        self.schedule.compared(began, folders, {folder.number for folder in selected})

    def due(self) -> list[str]:
        return [folder.name for folder in (INBOX, WORK) if self.schedule.is_due(folder)]


def test_a_folder_is_due_at_first_and_then_by_its_interval() -> None:
    scene = Scene()
    assert scene.due() == ["INBOX", "Work"]
    scene.compare(INBOX, WORK)
    assert (scene.due(), scene.schedule.seconds()) == ([], EVERY)
    scene.clock.now += 100
    scene.compare(INBOX)
    scene.clock.now += 200
    assert (scene.due(), scene.schedule.seconds()) == (["Work"], 0.0)


def test_what_is_to_be_compared_at_once_is_due_and_nothing_else() -> None:
    scene = Scene()
    scene.compare(INBOX, WORK)
    scene.schedule.notice(INBOX.number, at_once=True)
    assert (scene.due(), scene.schedule.seconds()) == (["INBOX"], 0.0)
    scene.clock.now += 1
    scene.compare(INBOX)
    assert (scene.due(), scene.schedule.seconds()) == ([], EVERY - 1)


@pytest.mark.parametrize(("takes", "rest"), [(0.0, REST), (2.0, 40.0)], ids=["a short comparison", "a long one"])
def test_what_changes_all_the_time_is_compared_for_a_part_of_the_time_only(takes: float, rest: float) -> None:
    scene = Scene()
    scene.compare(INBOX, WORK, takes=takes)
    for _ in range(3):
        scene.schedule.notice(INBOX.number, at_once=False)
    assert (scene.due(), scene.schedule.seconds()) == ([], rest - takes)
    scene.clock.now += rest - takes
    assert scene.due() == ["INBOX"]


def test_a_notice_is_never_a_reason_to_compare_later() -> None:
    scene = Scene(interval=5.0)
    scene.compare(INBOX)
    scene.schedule.notice(INBOX.number, at_once=False)
    assert scene.schedule.seconds() == 5.0


def test_what_is_noticed_during_a_comparison_is_for_the_next_one() -> None:
    scene = Scene()
    began = scene.clock.now
    scene.clock.now += 1
    scene.schedule.notice(INBOX.number, at_once=True)
    scene.clock.now += 1
    scene.schedule.compared(began, [INBOX, WORK], {1, 2})
    assert scene.due() == ["INBOX"]


def test_a_comparison_that_left_the_folder_out_is_no_answer_to_a_notice_unless_the_folder_is_gone() -> None:
    scene = Scene()
    scene.compare(INBOX, WORK)
    scene.clock.now += 1
    scene.schedule.notice(INBOX.number, at_once=True)
    scene.clock.now += 1
    scene.compare(WORK)
    assert scene.due() == ["INBOX"]
    scene.clock.now += 1
    scene.compare(WORK, selected=[WORK])
    assert scene.schedule.seconds() == EVERY


@pytest.mark.parametrize(
    ("interval", "stretched"),
    [(EVERY, STRETCH * EVERY), (1800.0, LONGEST_STRETCH), (7200.0, 7200.0)],
    ids=["four times", "an hour at most", "never sooner than configured"],
)
def test_a_folder_that_is_listened_to_is_compared_less_often(interval: float, stretched: float) -> None:
    scene = Scene(interval)
    scene.compare(INBOX)
    scene.account.listened.add(INBOX.number)
    assert scene.schedule.seconds() == stretched
    scene.account.listened.clear()
    assert scene.schedule.seconds() == interval


def test_where_there_is_no_folder_one_looks_as_often_as_at_an_inbox() -> None:
    scene = Scene()
    scene.compare(selected=[])
    assert scene.schedule.seconds() == EVERY
