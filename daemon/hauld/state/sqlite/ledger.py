"""The state in one SQLite file: ``hauld.state.base.State``, subject by subject.

Statements change items; the rest follows by triggers (``migrations/0001_ledger.sql``): a want follows the status of its item,
and counters follow wants and items. No statement can forget to count, whoever writes it, and it costs a few microseconds a
row. What is counted is never counted again by looking at rows, but for ``check``.
"""

from __future__ import annotations

from hauld.state.sqlite.copying import Copying
from hauld.state.sqlite.downloads import Downloads
from hauld.state.sqlite.events import Events
from hauld.state.sqlite.folders import Folders
from hauld.state.sqlite.jobs import Jobs
from hauld.state.sqlite.looking import Looking
from hauld.state.sqlite.remapping import Remapping
from hauld.state.sqlite.restoring import Restoring
from hauld.state.sqlite.verifying import Verifying


class SqliteState(Jobs, Folders, Downloads, Verifying, Restoring, Remapping, Looking, Events, Copying):
    """``SqliteState(path, clock)``; nothing is opened before ``start``."""

    async def start(self) -> None:
        """``Fatal``: ``locked`` (another daemon has it), ``schema`` (from the future, or another program's)."""
        await self._database.open(self._clock.now_ms())
        self._closing = False

    async def look_through(self) -> None:
        await self._database.look_through()
        await self.clear_forgotten()

    def writing_for(self) -> float | None:
        return self._database.writing_for()

    async def close(self) -> None:
        self._closing = True
        await self._database.close()
