"""The Maildir store keeps what every store promises, in both layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.store import StoreContract, StoreFactory
from hauld.stores.maildir import MaildirStore
from hauld.stores.places import Layout


class TestMaildir(StoreContract):
    @pytest.fixture(params=["nested", "maildir++"])
    def layout(self, request: pytest.FixtureRequest) -> Layout:
        layout: Layout = request.param
        return layout

    @pytest.fixture
    def store_factory(self, root: Path, layout: Layout) -> StoreFactory:
        return lambda: MaildirStore(root, layout=layout)
