"""A disk that is full, failing, read-only or not ours, and too many open files: at one call, or from there on for good.

Nothing is ever ``completed`` that is not stored; what fails once is made good by the daemon itself, or it says why it ends;
what fails for good can be seen; and when the disk works again, so does everything (L5, L6, L7, L8, L13).
"""

from __future__ import annotations

import random

from crash.points import some_failures
from crash.site import Site

POINTS = 28


def test_L5_L6_L7_L8_L13_no_error_of_the_disk_loses_anything_or_goes_unseen(
    crash_site: Site, scenarios: list[str], seed: int
) -> None:
    points = list(some_failures(crash_site, scenarios, POINTS, random.Random(seed)))
    assert [finding for point in points for finding in point.try_out(crash_site)] == []
