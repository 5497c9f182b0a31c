"""Measure haul: ``python tests/bench/run.py import``, or ``--all``. ``docs/benchmarks.md`` says what the figures mean."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every start of hauld would compile all it imports, and be measured with it

from bench.machine import described
from bench.mailboxes import Shape, bench
from bench.scenarios import SCENARIOS, Options, Scenario

PAIRS = 5
ROOM = 40_000_000_000
"""Bytes that all scenarios together store before anything is deleted."""
PACKAGES = {"mbsync": "isync", "offlineimap": "offlineimap3"}
"""What to install for a program that is missing."""


def main() -> None:
    asked = parse()
    steps = list(everything(asked) if asked.all else [(asked.scenario, options_for(SCENARIOS[asked.scenario], asked))])
    check_programs(steps)
    directory = asked.directory.resolve()
    if asked.all and shutil.disk_usage(directory).free < ROOM:
        sys.exit(f"All scenarios together store up to {ROOM / 1e9:.0f} GB, and {directory} has less: see --directory")
    header, began = described(directory), time.monotonic()
    print(header)
    if asked.markdown:
        append(
            asked.markdown, f"\n### {header.splitlines()[0]}\n\n" + "".join(f"- {line}\n" for line in header.splitlines()[1:])
        )
    with bench(directory, lambda line: print(line, file=sys.stderr, flush=True)) as place:
        for name, options in steps:
            place.tell(f"{name}:")
            table = SCENARIOS[name].run(place, options)
            print(f"\n{table.text()}", flush=True)
            if asked.markdown:
                append(asked.markdown, f"\n{table.markdown()}")
    print(f"\n{time.monotonic() - began:.0f} seconds in all")


def everything(asked: argparse.Namespace) -> Iterator[tuple[str, Options]]:
    """Each scenario once; the first also at a round trip, into the other store, and with messages of many sizes. System calls
    are counted in the first only."""
    for name, scenario in SCENARIOS.items():
        usual = replace(options_for(scenario, asked), count_calls=False)
        if name != "import":
            yield name, usual
            continue
        yield name, replace(usual, count_calls=not asked.no_strace)
        yield name, replace(usual, round_trip=50.0)
        yield name, replace(usual, format="eml", pairs=min(usual.pairs, 3))
        yield name, replace(usual, shape=replace(usual.shape, sizes="mixed"), pairs=min(usual.pairs, 3))


def options_for(scenario: Scenario, asked: argparse.Namespace) -> Options:
    """What was asked for, and the scenario's own for what was not."""
    usual = scenario.shape
    pairs = min(asked.pairs or PAIRS, scenario.most_pairs) if asked.all else asked.pairs or min(PAIRS, scenario.most_pairs)
    return Options(
        Shape(asked.count or usual.count, asked.sizes or usual.sizes, asked.folders or usual.folders),
        pairs=pairs,
        format=asked.format,
        round_trip=asked.round_trip,
        connections=asked.connections,
        followers=asked.followers,
        count_calls=not asked.no_strace,
        offlineimap=asked.offlineimap,
    )


def check_programs(steps: list[tuple[str, Options]]) -> None:
    """End with what to install where a program is missing."""
    needed = {program for name, _ in steps for program in SCENARIOS[name].needs}
    needed |= {"offlineimap" for _, options in steps if options.offlineimap}
    for program in sorted(needed):
        if shutil.which(program) is None:
            sys.exit(f"The benchmark compares with {program}, which is not here: apt-get install {PACKAGES[program]}")


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def parse() -> argparse.Namespace:
    width = max(map(len, SCENARIOS))
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="scenarios:\n" + "\n".join(f"  {name:<{width}}  {each.help}" for name, each in SCENARIOS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS, metavar="SCENARIO", help="one of those below")
    parser.add_argument("--all", action="store_true", help="every scenario, the import in four ways (some 18 minutes, 40 GB)")
    parser.add_argument(
        "--pairs", type=natural, metavar="N", help="runs of each program (default 5, or fewer where one is long)"
    )
    parser.add_argument("--count", type=natural, metavar="N", help="messages (default: the scenario's own)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", dest="sizes", type=size, metavar="BYTES", help="of each message")
    sizes.add_argument("--sizes", type=size, metavar="mixed", help="log-normal: 8 KB in the middle, some of 1 MB")
    parser.add_argument("--folders", type=natural, metavar="N", help="spread the messages over so many")
    parser.add_argument("--format", choices=["maildir", "eml"], default="maildir", help="hauld's store (default maildir)")
    parser.add_argument("--round-trip", type=float, default=0.0, metavar="MS", help="through a proxy that far from the server")
    parser.add_argument("--connections", type=natural, default=3, metavar="N", help="hauld's; mbsync has one (default 3)")
    parser.add_argument("--followers", type=natural, default=20, metavar="N", help="in the scenario of that name (default 20)")
    parser.add_argument("--offlineimap", action="store_true", help="compare an import with offlineimap, too")
    parser.add_argument("--no-strace", action="store_true", help="do not count syncs and system calls")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/tmp"),
        metavar="DIR",
        help="where to store (default /tmp; the server is always in $TMPDIR)",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="append the results to that file, too")
    asked = parser.parse_args()
    if asked.all == bool(asked.scenario):
        parser.error("name one scenario, or --all")
    if asked.all and (asked.count or asked.sizes or asked.folders):
        parser.error("--all takes each scenario's own mailbox; name one scenario to change it")
    return asked


def natural(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def size(text: str) -> str:
    return text if text == "mixed" else str(natural(text))


if __name__ == "__main__":
    main()
