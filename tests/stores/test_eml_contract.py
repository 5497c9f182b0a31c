"""The content-addressed store keeps what every store promises, with compression and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.store import StoreContract, StoreFactory
from hauld.stores.eml import Compression, EmlStore


class TestEml(StoreContract):
    @pytest.fixture(params=["none", "zstd"])
    def compression(self, request: pytest.FixtureRequest) -> Compression:
        compression: Compression = request.param
        return compression

    @pytest.fixture
    def store_factory(self, tmp_path: Path, compression: Compression) -> StoreFactory:
        return lambda: EmlStore(tmp_path / "mail", compression=compression)
