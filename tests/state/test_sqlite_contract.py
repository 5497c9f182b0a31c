"""The SQLite state keeps what every state promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.state import SetClock, StateContract
from hauld.state.sqlite import SqliteState


class TestSqliteState(StateContract):
    @pytest.fixture
    async def state(self, tmp_path: Path, clock: SetClock) -> AsyncIterator[SqliteState]:
        state = SqliteState(tmp_path / "haul.db", clock)
        await state.start()
        yield state
        await state.close()
