"""Tasks that outlive the call which asked for them. Each has a name and an owner. One that breaks is begun again, later each
time; one that breaks again and again gives up, with a reason.

What breaks here is a defect of hauld: foreseen trouble is dealt with inside. The first of a row of equal defects is logged with
its traceback, the others with a line.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hauld.clock import Clock
from hauld.errors import Fatal, Transient
from hauld.model import Trouble
from hauld.retry import RetryPolicy, decide

log = logging.getLogger(__name__)

DAEMON = ""
"""The owner of what is no account's."""

MOST_FAILURES = 5
WITHIN = 600.0
"""A task that breaks more often than that within so many seconds gives up."""

ENDING = 5.0
"""Seconds that a task has to end in when it is told to."""

HINT = "This is a defect of hauld; its log has the details. Starting a job of the account tries again."

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
GaveUp: TypeAlias = Callable[[Trouble], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class Supervised:
    """One task, through all its beginnings. ``owner`` is the name of an account, or ``DAEMON``."""

    name: str
    owner: str
    task: asyncio.Task[None] = field(init=False)

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.task.done()


class Tasks:
    """All tasks of the daemon. ``fatal`` is called with what the daemon cannot go on with."""

    def __init__(self, clock: Clock, policy: RetryPolicy, fatal: Callable[[Fatal], None]) -> None:
        self._clock = clock
        self._policy = policy
        self._fatal = fatal
        self._all: set[Supervised] = set()

    def begin(
        self,
        name: str,
        work: Work,
        *,
        owner: str = DAEMON,
        most: int = MOST_FAILURES,
        gave_up: GaveUp | None = None,
        over: Callable[[], None] = lambda: None,
    ) -> Supervised:
        """Do the work, again after each defect, until it returns. After more than ``most`` defects ``gave_up`` is told why;
        where nobody is to be told, the daemon ends. ``over`` is called when nothing more comes of it, whatever its end."""
        supervised = Supervised(name, owner)
        self._all.add(supervised)

        def ended(task: asyncio.Task[None]) -> None:
            self._all.discard(supervised)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fatal(error if isinstance(error, Fatal) else Fatal("internal", f"{name} ended: {_words(error)}"))
            over()

        supervised.task = asyncio.create_task(self._keep(supervised, work, most, gave_up), name=name)
        supervised.task.add_done_callback(ended)
        return supervised

    @property
    def all(self) -> list[Supervised]:
        """What is done now, for whomever."""
        return list(self._all)

    def of(self, owner: str) -> list[Supervised]:
        """What is done for that owner now."""
        return [each for each in self._all if each.owner == owner]

    async def end(self, tasks: Iterable[Supervised], within: float = ENDING) -> None:
        """End these tasks. One that does not end within so many seconds is named in the log and left alone: who waits for
        others to end must not wait for ever."""
        ending = {each.task: each for each in tasks if not each.over}
        for task in ending:
            task.cancel()
        if not ending:
            return
        _, left = await asyncio.wait(ending, timeout=max(0.0, within))
        for task in left:
            log.error(
                "%s did not end within %g s and is left alone; this is a defect of hauld",
                ending[task].name,
                within,
                extra={"event": "task.left", "account": ending[task].owner},
            )

    # --- breaking ---

    async def _keep(self, this: Supervised, work: Work, most: int, gave_up: GaveUp | None) -> None:
        failures: deque[float] = deque()
        before: object = None
        while True:
            try:
                return await work()
            except Fatal:
                raise
            except Exception as error:
                self._count(failures)
                place = _place(error)
                self._say(this, error, len(failures), repeated=place == before)
                before = place
                if len(failures) > most:
                    return await self._give_up(this, _words(error), gave_up)
            again = Transient("internal", this.name)
            await self._clock.sleep(decide(again, len(failures), self._policy, random.random) or 0.0)

    def _count(self, failures: deque[float]) -> None:
        """One more just now; those of long ago no longer count."""
        now = self._clock.monotonic()
        failures.append(now)
        while failures[0] < now - WITHIN:
            failures.popleft()

    def _say(self, this: Supervised, error: Exception, failures: int, *, repeated: bool) -> None:
        log.error(
            "%s broke (%s), %d times by now; this is a defect of hauld",
            this.name,
            type(error).__name__,
            failures,
            exc_info=None if repeated else error,
            extra={"event": "task.broke", "account": this.owner},
        )

    async def _give_up(self, this: Supervised, why: str, gave_up: GaveUp | None) -> None:
        message = f"{this.name} was given up, it broke again and again: {why}"
        log.error("%s", message, extra={"event": "task.gave_up", "account": this.owner})
        if gave_up is None:
            raise Fatal("internal", message)
        await gave_up(Trouble("internal", message, HINT, self._clock.now_ms()))


def _place(error: BaseException) -> tuple[object, ...]:
    """What equal defects have in common: the kind of error and the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (type(error), None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno))


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
