"""The power goes: whatever the file system may have left then, every completed row has its bytes, and the import goes on (L17).

``power.py`` says what may be left.
"""

from __future__ import annotations

import random

from crash.points import some_cuts
from crash.site import Site

IMAGES = 30


def test_L17_hauld_starts_on_whatever_a_power_cut_leaves(crash_site: Site, scenarios: list[str], seed: int) -> None:
    points = list(some_cuts(scenarios, IMAGES, random.Random(seed)))
    assert [finding for point in points for finding in point.try_out(crash_site)] == []
