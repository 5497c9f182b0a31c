"""What the fuzzers share: inputs made from good ones by a few random wrongs, and the figures of a run.

An input is known by the run's seed and its number, so a finding of a million inputs is made again by one.
"""

from __future__ import annotations

import argparse
import random
import resource
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NUMBERS = (b"0", b"-1", b"00", b"4294967295", b"4294967296", b"9223372036854775807", b"9223372036854775808", b"9" * 40)
LONGEST = 1.0
"""Seconds that no single input may take."""

MOST_GROWTH = 64 * 1024 * 1024
"""Bytes by which the memory of the process may grow over a run."""


def dice_of(seed: str, number: int) -> random.Random:
    """The dice that make this one input."""
    return random.Random(f"{seed}:{number}")


def mutated(dice: random.Random, data: bytes, words: Sequence[bytes], others: Sequence[bytes], longest: int = 20_000) -> bytes:
    """``data`` with one to six wrongs: bytes flipped, cut out, said twice, put in from ``words`` or from another input."""
    wrong = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        start = dice.randrange(len(wrong) + 1)
        end = min(len(wrong), start + dice.choice((1, 1, 2, 5, 40, 400)))
        match dice.randrange(8):
            case 0:
                wrong[start:end] = bytes(dice.getrandbits(8) for _ in range(end - start))
            case 1:
                del wrong[start:end]
            case 2:
                wrong[start:start] = wrong[start:end] * dice.choice((1, 2, 30))
            case 3:
                wrong[start:start] = dice.choice(words)
            case 4:
                wrong[start:end] = dice.choice(words)
            case 5:
                other = dice.choice(others)
                wrong[start:start] = other[dice.randrange(len(other)) :][:400]
            case 6:
                number = next((place for place in range(start, len(wrong)) if chr(wrong[place]).isdigit()), None)
                if number is not None:
                    wrong[number : number + 1] = dice.choice(NUMBERS)
            case 7:
                del wrong[start:]
                wrong += dice.choice(others)[-400:]
    return bytes(wrong[:longest])


@dataclass
class Figures:
    """How a run went. ``findings`` are sentences; a run without any is a good one."""

    seed: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    growth: int = 0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.inputs:,} inputs of seed {self.seed} in {self.seconds:.1f} s ({self.inputs / self.seconds:,.0f} a second), "
            f"{self.refused:,} refused; the slowest took {1000 * self.slowest:.0f} ms; memory grew by {self.growth >> 20} MiB "
            f"to {memory() >> 20} MiB; {len(self.findings)} findings"
        )


def run(count: int, seed: str, try_one: Callable[[random.Random], bool], first: int = 0) -> Figures:
    """Try so many inputs. ``try_one`` says whether its input was refused in the documented way; what else it raises is a
    finding, and so is an input that takes too long. The first tenth of the run warms up before its memory is looked at."""
    figures = Figures(seed)
    began = time.perf_counter()
    warm = memory()
    for number in range(first, first + count):
        if number == first + count // 10:
            warm = memory()
        started = time.perf_counter()
        try:
            figures.refused += try_one(dice_of(seed, number))
        except Exception as error:
            figures.findings.append(f"input {number}: {type(error).__name__}: {error}")
        took = time.perf_counter() - started
        figures.slowest = max(figures.slowest, took)
        if took > LONGEST:
            figures.findings.append(f"input {number} took {took:.1f} s")
    figures.inputs = count
    figures.seconds = time.perf_counter() - began
    judge_memory(figures, warm)
    return figures


def judge_memory(figures: Figures, warm: int) -> None:
    """Growth from ``warm`` bytes on, and a finding when it is too much."""
    figures.growth = memory() - warm
    if figures.growth > MOST_GROWTH:
        figures.findings.append(f"memory grew by {figures.growth:,} bytes")


def memory() -> int:
    """The most bytes this process ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def a_seed() -> str:
    return secrets.token_hex(4)


def main(what: str | None, count: int, fuzz: Callable[[int, str, int], Figures]) -> None:
    """The command line of a fuzzer; ends with 1 when it found something."""
    options = argparse.ArgumentParser(description=what)
    options.add_argument("--count", type=int, default=count, help="how many inputs (default: %(default)s)")
    options.add_argument("--seed", default=a_seed(), help="the seed of an earlier run, to have its inputs again")
    options.add_argument("--first", type=int, default=0, help="the number of the first input")
    chosen = options.parse_args()
    figures = fuzz(chosen.count, chosen.seed, chosen.first)
    sys.stdout.write("\n".join([*figures.findings[:50], str(figures), ""]))
    raise SystemExit(1 if figures.findings else 0)
