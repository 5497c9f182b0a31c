"""Every crash point of every scenario, errors by the thousand, power cuts by the hundred: ``make crash``.

Two sites work side by side. A line is printed for each part as it is done, and every finding; the exit code is 1 if there was
one. ``python -m crash.campaign --help`` in ``tests`` says how to try a part of it.
"""

# ruff: noqa: T201 - a program that prints what it finds

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from crash.points import Cut, Point, every_kill, some_cuts, some_failures, some_kills
from crash.site import FILE_SYSTEMS, NAMES, Site, missing, site

SITES = 2


def main() -> int:
    options = parse()
    print(f"HAUL_SEED={options.seed}")
    with ExitStack() as stack:
        team = Team([stack.enter_context(site(parent=options.directory)) for _ in range(SITES)])
        names = list(available(options.scenario or NAMES))
        print(f"{'':40}{'points':>8}{'seconds':>9}{'findings':>10}", flush=True)
        for part, points in parts(team.sites[0], names, options):
            team.report(part, list(points))
    print(f"{'all':40}{team.points:>8}{team.seconds:>9.0f}{team.findings:>10}")
    return 1 if team.findings else 0


def parts(first: Site, names: Sequence[str], options: argparse.Namespace) -> Iterator[tuple[str, Iterable[Point | Cut]]]:
    """What is tried, scenario by scenario. The two ways to make a group durable are told apart where groups are largest."""
    dice = random.Random(options.seed)
    for name in names:
        if options.kills is not None:
            yield f"{name}: kills", some_kills(first, [name], options.kills // len(names), dice)
        else:
            for file_system in FILE_SYSTEMS if name == "first import" else ("whole",):
                yield f"{name}, {file_system}: every kill", every_kill(first, name, file_system)
        yield f"{name}: errors", some_failures(first, [name], options.errors // len(names), dice)
        yield f"{name}: power cuts", some_cuts([name], options.cuts // len(names), dice)


def available(names: Iterable[str]) -> Iterator[str]:
    """Those that this version of the daemon can be tried with; of the others it says why not."""
    for name in names:
        why = missing(name)
        if why is None:
            yield name
        else:
            print(f"{name}: skipped, because {why}")


class Team:
    """Sites that try out points side by side."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = sites
        self.points = 0
        self.seconds = 0.0
        self.findings = 0

    def report(self, part: str, points: Sequence[Point | Cut]) -> None:
        """Try them all, and say how it went."""
        waiting: SimpleQueue[Point | Cut] = SimpleQueue()
        for point in points:
            waiting.put(point)
        begun = time.monotonic()
        with ThreadPoolExecutor(len(self.sites)) as pool:
            found = [each for some in pool.map(lambda where: list(tried_out(where, waiting)), self.sites) for each in some]
        seconds = time.monotonic() - begun
        self.points += len(points)
        self.seconds += seconds
        self.findings += len(found)
        print(f"{part:40}{len(points):>8}{seconds:>9.0f}{len(found):>10}", flush=True)


def tried_out(where: Site, waiting: SimpleQueue[Point | Cut]) -> Iterator[str]:
    """Take points until there are none; findings are printed at once."""
    while not waiting.empty():
        for finding in waiting.get().try_out(where):
            print(finding, flush=True)
            yield finding


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill hauld, fail its disk and cut its power wherever it changes anything.")
    parser.add_argument("--scenario", action="append", choices=NAMES, help="only this one; may be given several times")
    parser.add_argument("--kills", type=int, metavar="N", help="N kills instead of one before and one after every call")
    parser.add_argument("--errors", type=int, default=1200, help="calls that fail (default 1200)")
    parser.add_argument("--cuts", type=int, default=600, help="power cuts (default 600)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="what repeats a run's choices")
    parser.add_argument("--directory", type=Path, help="where to work (default: in memory)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
