"""What the disk cannot read holds nothing else up: it is never reported, it stays where it is, and all else is recovered."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from contracts.store import IDENTITY, INBOX, RowsFailed, staged, stored
from hauld.errors import Transient
from hauld.stores.eml import EmlStore
from hauld.stores.maildir import MaildirStore
from hauld.stores.manifest import decode
from support.disks import BadSectors

BODIES = {f"7.{uid}": b"body %d" % uid for uid in range(1, 6)}


@pytest.fixture
def disk() -> BadSectors:
    return BadSectors()


@pytest_asyncio.fixture(params=[MaildirStore, EmlStore])
async def store(tmp_path: Path, disk: BadSectors, request: pytest.FixtureRequest) -> AsyncIterator[MaildirStore | EmlStore]:
    """As after a crash that followed upon a whole group: its first two items have their final names, the others are staged."""
    store = request.param(tmp_path / "mail", disk=disk)
    await store.start()
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    with pytest.raises(RowsFailed):
        async with store.commit([staged(store, place, key, body) for key, body in BODIES.items()]):
            raise RowsFailed
    for entry in entries(tmp_path)[2:]:
        (tmp_path / "mail" / entry.target).rename(tmp_path / "mail/.haul/stage" / entry.staged)
    yield store
    await store.close()


def entries(root: Path) -> list:
    """Of all manifests there are, in the order of their items."""
    found = [entry for each in (root / "mail/.haul/stage").glob("*.manifest") for entry in decode(each.read_bytes()) or []]
    return sorted(found, key=lambda entry: entry.placed.key)


async def recovered(store: MaildirStore | EmlStore) -> list[str]:
    """The keys of what is reported, which is in the ledger then."""
    placed = await store.recover()
    await store.settle()
    for each in placed:
        assert await store.read(each.path) == BODIES[each.key]
    return sorted(each.key for each in placed)


@pytest.mark.parametrize("which", [0, 3], ids=["under its final name", "staged"])
async def test_L7_a_file_that_cannot_be_read_is_left_and_all_others_are_recovered(
    store: MaildirStore | EmlStore, disk: BadSectors, tmp_path: Path, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    entry = entries(tmp_path)[which]
    name = entry.placed.path.rpartition("/")[2] if which == 0 else entry.staged
    disk.bad.add(name)
    assert await recovered(store) == sorted(BODIES.keys() - {entry.placed.key})
    assert await recovered(store) == [], "what was settled is not told again"
    assert [left.placed.key for left in entries(tmp_path)] == [entry.placed.key], "the manifest still vouches for it"
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert name in line.getMessage()
    assert "Input/output error" in line.getMessage()
    assert "move the file away" in line.getMessage()


@pytest.mark.parametrize("which", [0, 3], ids=["under its final name", "staged"])
async def test_L7_a_file_that_can_be_read_again_is_adopted_then(
    store: MaildirStore | EmlStore, disk: BadSectors, tmp_path: Path, which: int
) -> None:
    entry = entries(tmp_path)[which]
    disk.bad |= {entry.staged, entry.placed.path.rpartition("/")[2]}
    await recovered(store)
    disk.bad.clear()
    assert await recovered(store) == [entry.placed.key]
    assert os.listdir(tmp_path / "mail/.haul/stage") == []


@pytest.mark.parametrize("which", [0, 3], ids=["under its final name", "staged"])
async def test_L7_what_was_fetched_again_takes_the_place_of_a_file_that_cannot_be_read(
    store: MaildirStore | EmlStore, disk: BadSectors, tmp_path: Path, which: int
) -> None:
    entry = entries(tmp_path)[which]
    key = entry.placed.key
    disk.bad |= {entry.staged, entry.placed.path.rpartition("/")[2]}
    await recovered(store)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.bad -= {entry.placed.path.rpartition("/")[2]}  # it is another file, on other sectors
    [placed] = await stored(store, staged(store, place, key, BODIES[key]))
    assert await store.read(placed.path) == BODIES[key]
    assert await recovered(store) == [key]
    assert os.listdir(tmp_path / "mail/.haul/stage") == []


async def test_L7_while_a_manifest_cannot_be_read_nothing_that_it_may_name_is_swept(
    store: MaildirStore | EmlStore, disk: BadSectors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = sorted(os.listdir(tmp_path / "mail/.haul/stage"))
    disk.bad.add(".manifest")
    assert await recovered(store) == []
    assert await recovered(store) == []
    assert sorted(os.listdir(tmp_path / "mail/.haul/stage")) == waiting
    assert sum(".manifest" in record.getMessage() for record in caplog.records) == 1
    disk.bad.clear()
    assert await recovered(store) == sorted(BODIES)
    assert os.listdir(tmp_path / "mail/.haul/stage") == []


async def test_L7_a_disk_that_cannot_be_written_is_another_matter(store: MaildirStore | EmlStore, disk: BadSectors) -> None:
    disk.cannot_copy = True
    with pytest.raises(Transient, match="Input/output error"):
        await store.recover()
    disk.cannot_copy = False
    assert await recovered(store) == sorted(BODIES)
