"""Tasks that break, give up, or do not end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from hauld.engine.tasks import MOST_FAILURES, WITHIN, Tasks
from hauld.errors import Fatal
from hauld.model import Trouble
from hauld.retry import RetryPolicy
from support.clocks import LeapingClock

DAY = 24 * 3600.0


class Scene:
    """Tasks on a clock that leaps, with what came of them."""

    def __init__(self) -> None:
        self.clock = LeapingClock()
        self.fatal: list[Fatal] = []
        self.gave_up: list[Trouble] = []
        self.tasks = Tasks(self.clock, RetryPolicy(), self.fatal.append)

    async def note(self, trouble: Trouble) -> None:
        self.gave_up.append(trouble)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def breaking(times: int, before: Callable[[], None] = lambda: None) -> tuple[list[int], Callable[[], object]]:
    """Work that breaks so many times before it is done, and its beginnings so far."""
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) <= times:
            before()
            raise ZeroDivisionError("this cannot be")

    return begun, work


async def test_R6_a_task_that_breaks_is_begun_again_and_equal_defects_leave_one_traceback(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    begun, work = breaking(MOST_FAILURES)
    await scene.tasks.begin("the work", work, owner="a", gave_up=scene.note).task  # type: ignore[arg-type]
    assert (len(begun), scene.gave_up, scene.fatal) == (MOST_FAILURES + 1, [], [])
    assert caplog.text.count("Traceback") == 1
    assert [record.event for record in caplog.records] == ["task.broke"] * MOST_FAILURES  # type: ignore[attr-defined]


async def test_R6_a_task_that_breaks_again_and_again_gives_up_and_says_why(scene: Scene) -> None:
    begun, work = breaking(1000)
    await scene.tasks.begin("the work", work, owner="a", gave_up=scene.note).task  # type: ignore[arg-type]
    assert len(begun) == MOST_FAILURES + 1
    (trouble,) = scene.gave_up
    assert (trouble.kind, "the work" in trouble.message, "ZeroDivisionError: this cannot be" in trouble.message) == (
        "internal",
        True,
        True,
    )
    assert scene.fatal == []


async def test_R6_a_task_that_breaks_now_and_then_goes_on_for_ever(scene: Scene) -> None:
    begun, work = breaking(50, before=lambda: scene.clock.leap(WITHIN / 2))
    await scene.tasks.begin("the work", work, owner="a", gave_up=scene.note).task  # type: ignore[arg-type]
    assert (len(begun), scene.gave_up) == (51, [])


async def test_R6_a_task_of_the_daemon_that_gives_up_ends_the_daemon(scene: Scene) -> None:
    _, work = breaking(1000)
    task = scene.tasks.begin("the work", work)  # type: ignore[arg-type]
    await asyncio.wait((task.task,))
    (fatal,) = scene.fatal
    assert (fatal.kind, "the work" in fatal.message) == ("internal", True)


async def test_what_the_daemon_cannot_go_on_with_is_not_tried_again(scene: Scene) -> None:
    begun = []

    async def work() -> None:
        begun.append(1)
        raise Fatal("schema", "The ledger is from the future.")

    task = scene.tasks.begin("the work", work, owner="a", gave_up=scene.note)
    await asyncio.wait((task.task,))
    assert ([error.kind for error in scene.fatal], len(begun), scene.gave_up) == (["schema"], 1, [])


async def test_R6_a_task_that_swallows_its_cancellation_is_named_and_left(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def good() -> None:
        await release.wait()

    left, ended = scene.tasks.begin("the deaf one", deaf, owner="a"), scene.tasks.begin("the good one", good, owner="a")
    await asyncio.sleep(0)
    await scene.tasks.end([left, ended], within=0.05)
    assert (left.over, ended.over) == (False, True)
    assert [record.getMessage().split(" did")[0] for record in caplog.records] == ["the deaf one"]
    assert scene.tasks.of("a") == [left]
    release.set()
    await left.task
    assert (scene.tasks.of("a"), scene.fatal) == ([], [])


async def test_who_owns_a_task_is_told_when_nothing_more_comes_of_it(scene: Scene) -> None:
    told: list[str] = []
    begun, work = breaking(2)
    task = scene.tasks.begin("the work", work, owner="a", gave_up=scene.note, over=lambda: told.append("over"))  # type: ignore[arg-type]
    await task.task
    await asyncio.sleep(0)
    assert (len(begun), told) == (3, ["over"])


@pytest.fixture(autouse=True)
def _at_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "hauld.engine.tasks")
