"""What every job works with: the ledger, the store, the committer, the bounds and the clock."""

from __future__ import annotations

from dataclasses import dataclass

from hauld.clock import Clock
from hauld.engine.ingest import Ingest
from hauld.engine.limits import ByteBudget
from hauld.engine.machine import Machine
from hauld.retry import RetryPolicy
from hauld.state.base import State
from hauld.stores.base import Store


@dataclass(frozen=True)
class Workshop:
    """One for the whole daemon."""

    state: State
    store: Store
    ingest: Ingest
    budget: ByteBudget
    policy: RetryPolicy
    clock: Clock

    @property
    def machine(self) -> Machine:
        """How the machine is on which all this happens; the committer knows best."""
        return self.ingest.machine
