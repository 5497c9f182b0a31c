"""Points: one fault each, at one moment of one scenario. A point can be told to another person, who can repeat it."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crash.injector import Fault
from crash.site import ERRORS, Site

KILLS = (Fault.DIE_BEFORE, Fault.DIE_AFTER)
FEW_MORE = 10
FAILURES = (Fault.FAIL_ONCE, Fault.FAIL_FOR_GOOD)


@dataclass(frozen=True)
class Point:
    """What happens, and where. ``at`` is the number of the call, from 1; ``error`` is 0 for a kill."""

    scenario: str
    file_system: str
    fault: Fault
    error: int
    at: int

    def __str__(self) -> str:
        what = self.fault.name.lower().replace("_", " ")
        how = f" with {errno.errorcode[self.error]}" if self.error else ""
        return f"{self.scenario}, {self.file_system}: {what}{how} at call {self.at}"

    def try_out(self, site: Site) -> list[str]:
        """What was wrong, each with where it was."""
        scenario = site.scenario(self.scenario)
        if self.error:
            found = site.fail(scenario, self.fault, self.at, self.error, self.file_system)
        else:
            found = site.kill(scenario, self.fault, self.at, self.file_system)
        return [f"{self}: {each}" for each in found]


@dataclass(frozen=True)
class Cut:
    """A power cut, and one of the images that it may leave, both by the dice."""

    scenario: str
    file_system: str
    seed: int

    def __str__(self) -> str:
        return f"{self.scenario}, {self.file_system}: power cut {self.seed}"

    def try_out(self, site: Site) -> list[str]:
        """What was wrong, each with where it was."""
        dice = random.Random(self.seed)
        recording = site.recording(self.scenario, self.file_system)
        image = recording.cut(dice.randint(0, len(recording.changes)), dice)
        found = site.start_after_power_loss(site.scenario(self.scenario), image)
        return [f"{self}, after call {image.at}: {each}" for each in found]


def every_kill(site: Site, scenario: str, file_system: str) -> Iterator[Point]:
    """Before and after each call. How many there are differs from run to run by a few, so the last may not be reached."""
    for at in range(1, site.calls(scenario, file_system=file_system) + FEW_MORE + 1):
        for fault in KILLS:
            yield Point(scenario, file_system, fault, 0, at)


def some_kills(site: Site, scenarios: Sequence[str], count: int, dice: random.Random) -> Iterator[Point]:
    """So many, shared out over the scenarios."""
    for number in range(count):
        scenario = scenarios[number % len(scenarios)]
        file_system = dice.choice(("whole", "file by file"))
        calls = site.calls(scenario, file_system=file_system)
        yield Point(scenario, file_system, dice.choice(KILLS), 0, dice.randint(1, calls))


def some_failures(site: Site, scenarios: Sequence[str], count: int, dice: random.Random) -> Iterator[Point]:
    """So many, shared out over the scenarios, the errors, and once or for good."""
    for number in range(count):
        scenario = scenarios[number % len(scenarios)]
        error = ERRORS[number % len(ERRORS)]
        fault = FAILURES[number // len(ERRORS) % 2]
        file_system = dice.choice(("whole", "file by file"))
        calls = site.calls(scenario, fault=Fault.FAIL_ONCE, error=error, file_system=file_system)
        yield Point(scenario, file_system, fault, error, dice.randint(1, calls))


def some_cuts(scenarios: Sequence[str], count: int, dice: random.Random) -> Iterator[Cut]:
    """So many, shared out over the scenarios."""
    for number in range(count):
        yield Cut(scenarios[number % len(scenarios)], dice.choice(("whole", "file by file")), dice.getrandbits(32))
