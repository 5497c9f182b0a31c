"""How the machine under the daemon is: whether its disk and its ledger take what they are given.

Trouble of this kind is nobody's fault in particular: every job meets it, and none of them is blamed. The first failure and
the recovery are logged, the rest is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hauld.clock import Clock, SystemClock
from hauld.errors import Transient
from hauld.model import Trouble

log = logging.getLogger(__name__)


class Machine:
    """One for the whole daemon. ``tell`` is called with the trouble when it begins or changes, with None when it is over."""

    def __init__(self, clock: Clock | None = None, tell: Callable[[Transient | None], None] = lambda _: None) -> None:
        self.tell = tell
        self._clock = clock or SystemClock()
        self._troubles: dict[str, Trouble] = {}
        self._failures = 0
        self._began = 0.0
        self._probed = False

    @property
    def troubled(self) -> bool:
        """Whether something failed, and nothing was stored since the store was last asked whether it could."""
        return bool(self._troubles)

    def failed(self, error: Transient, retry_at: int | None = None) -> Trouble:
        """Trouble of a kind in ``hauld.retry.LOCAL``, with when it began and when it is tried again (Unix milliseconds)."""
        if not self._troubles:
            self._began = self._clock.monotonic()
        before = self._troubles.get(error.kind)
        since = before.since if before is not None else self._clock.now_ms()
        trouble = Trouble(error.kind, error.message, error.hint, since, retry_at)
        self._troubles[error.kind] = trouble
        self._failures += 1
        self._probed = False
        if before is None:
            log.warning("%s", error, extra={"event": "machine.failed", "kind": error.kind})
        if before is None or before.message != error.message:
            self.tell(error)
        return trouble

    def probed(self) -> None:
        """The store says that it could take something. What is stored without its having been asked proves little: on a disk
        that is nearly full, a small item finds room when a large one does not."""
        self._probed = True

    def works(self) -> None:
        """Something was stored and recorded, or found complete."""
        if not self._troubles or not self._probed:
            return
        kinds, failures = ", ".join(self._troubles), self._failures
        self._troubles.clear()
        self._failures = 0
        log.info(
            "work goes on after %d failures in %.0f s (%s)",
            failures,
            self._clock.monotonic() - self._began,
            kinds,
            extra={"event": "machine.recovered", "failures": failures},
        )
        self.tell(None)
