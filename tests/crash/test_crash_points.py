"""kill -9 before and after a call that changes the disk: nothing lost, nothing twice, nothing torn, nobody's help (L1).

``make crash`` tries every call of every scenario; these are some of them, others in each run.
"""

from __future__ import annotations

import random

import pytest

from crash.injector import Fault
from crash.points import some_kills
from crash.site import NAMES, Site, missing

POINTS = 40


def test_L1_an_import_killed_at_any_call_is_complete_and_exact_after_the_next_start(
    crash_site: Site, scenarios: list[str], seed: int
) -> None:
    points = list(some_kills(crash_site, scenarios, POINTS, random.Random(seed)))
    assert [finding for point in points for finding in point.try_out(crash_site)] == []


@pytest.mark.parametrize("name", NAMES)
def test_L1_every_scenario_changes_the_disk_often_and_dies_where_it_is_told_to(crash_site: Site, name: str) -> None:
    if why := missing(name):
        pytest.skip(why)
    calls = crash_site.calls(name)
    assert calls > 100
    assert crash_site.dies(name, Fault.DIE_BEFORE, calls // 2)
    assert crash_site.dies(name, Fault.DIE_AFTER, calls // 2)
    assert not crash_site.dies(name, Fault.DIE_BEFORE, 10 * calls)
