"""Many runs of hauld in little time: a process that has imported everything forks a child for each.

``Nursery`` is the test's side. The other side is ``python -m crash.nursery``, started with the injector loaded: it reads
orders, one line each, and answers each with how it went. It has no threads, so that forking is safe, and does nothing else.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from crash.runs import Order, Outcome, carry_out
from support.unmeasured import unmeasured

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ended:
    """``outcome`` is None where the process was killed; ``hung``: because it did not end."""

    outcome: Outcome | None
    hung: bool


class Nursery:
    """A process whose children are runs of hauld, one at a time."""

    def __init__(self, library: Path) -> None:
        environment = unmeasured(LD_PRELOAD=str(library), PYTHONPATH=os.pathsep.join([str(TESTS), *sys.path]))
        command = [sys.executable, "-m", "crash.nursery"]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, order: Order) -> Ended:
        """Run it to its end, or to that of its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery has ended with {self._process.wait()}")
        answer = json.loads(line)
        outcome = answer["outcome"] and Outcome(**answer["outcome"])
        return Ended(outcome, hung=answer["signal"] == signal.SIGALRM)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    gc.collect()
    gc.freeze()  # what is there is never looked at again, so that children need no copies of it
    for line in sys.stdin:
        outcome, number = _in_child(Order(**json.loads(line)))
        print(json.dumps({"outcome": outcome, "signal": number}), flush=True)  # noqa: T201 - the answer


def _in_child(order: Order) -> tuple[object, int]:
    """What the child has to say, and the signal that ended it or 0."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        outcome = carry_out(order)
        with open(writing, "w", encoding="utf-8") as pipe:
            json.dump(dataclasses.asdict(outcome), pipe)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    number = os.waitstatus_to_exitcode(status)
    if number > 0:
        raise RuntimeError(f"a run ended with exit code {number}")
    return (json.loads(told) if number == 0 else None), -number


if __name__ == "__main__":
    main()
