"""Names that are no UTF-8, which other programs and people give: nothing stops for them, and nothing of theirs is touched."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from contracts.store import IDENTITY, INBOX, items_in, staged, stored
from hauld.model import RemoteFolder
from hauld.stores import names
from hauld.stores.eml import EmlStore
from hauld.stores.maildir import MaildirStore

SENT = RemoteFolder(b"Sent", ("Sent",))
LATER = RemoteFolder(b"Later", ("Later",))


def renamed(directory: Path, name: bytes) -> Path:
    """The directory under another name, of any bytes."""
    return directory.rename(directory.parent / os.fsdecode(name))


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[MaildirStore]:
    """One with a message in INBOX and another in Sent, of the account ``office``."""
    store = MaildirStore(tmp_path / "mail")
    await store.start()
    for uid, folder in enumerate((INBOX, SENT), start=1):
        place = await store.prepare(IDENTITY, "office", folder, None)
        await stored(store, staged(store, place, f"7.{uid}", b"body %d" % uid))
    yield store
    await store.close()


async def again(store: MaildirStore, root: Path) -> MaildirStore:
    """Another daemon on the same tree."""
    await store.close()
    store = MaildirStore(root)
    await store.start()
    return store


async def test_L10_an_account_whose_directory_has_a_name_that_is_no_text_gets_another_one(
    store: MaildirStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = renamed(tmp_path / "mail/office", b"\xe4rchiv")
    before = sorted(stranger.rglob("*"))
    store = await again(store, tmp_path / "mail")
    assert items_in(store) == []
    place = await store.prepare(IDENTITY, "office", LATER, None)
    assert place.directory == "office/Later"
    await stored(store, staged(store, place, "8.1", b"new"))
    assert [item.key for item in items_in(store)] == ["8.1"]
    assert list(store.strays()) == [str(path.relative_to(tmp_path / "mail")) for path in before if ".haul," in path.name]
    assert sorted(stranger.rglob("*")) == before, "nothing in it was touched"
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "mail/\\xe4rchiv" in line
    assert "rename it back" in line
    await store.close()


async def test_L10_a_directory_that_was_renamed_back_is_the_accounts_again(store: MaildirStore, tmp_path: Path) -> None:
    stranger = renamed(tmp_path / "mail/office", b"\xe4rchiv")
    store = await again(store, tmp_path / "mail")
    assert items_in(store) == []
    stranger.rename(tmp_path / "mail/Archiv \N{LATIN SMALL LETTER A WITH DIAERESIS}")
    assert sorted(item.key for item in items_in(store)) == ["7.1", "7.2"]
    store = await again(store, tmp_path / "mail")
    assert (await store.prepare(IDENTITY, "office", LATER, None)).directory == "Archiv \xe4/Later"
    await store.close()


async def test_L10_of_a_folder_alone_the_others_stay_where_they_are(store: MaildirStore, tmp_path: Path) -> None:
    renamed(tmp_path / "mail/office/Sent", b"Gel\xf6scht")
    assert [item.key for item in items_in(store)] == ["7.1"]
    assert len(list(store.strays())) == 1
    place = await store.prepare(IDENTITY, "office", SENT, "office/Sent")
    assert place.directory == "office/Sent"


async def test_files_of_such_names_are_told_of_as_any_other_programs_files(store: MaildirStore, tmp_path: Path) -> None:
    (tmp_path / "mail/office/INBOX/cur" / os.fsdecode(b"\xff\xfe:2,S")).write_bytes(b"foreign")
    (tmp_path / "mail" / os.fsdecode(b"stray\xff")).write_bytes(b"foreign")
    inbox = next(place for place in store.places() if place.folder.raw == b"INBOX")
    [found] = [found for found in store.look(inbox) if found.placed is None]
    assert found.path == "office/INBOX/cur/" + os.fsdecode(b"\xff\xfe:2,S")
    assert list(store.strays()) == [os.fsdecode(b"stray\xff")]


@pytest.mark.parametrize(
    "unique",
    [
        f"0.K%FF.E7.H{'0' * 32}.haul,S=4",
        f"0.K%ED%A0%80.E7.H{'0' * 32}.haul,S=4",
        f"{'9' * 30}.U1V7H{'0' * 32}.haul,S=4",
    ],
    ids=["a key that is no UTF-8", "half a character for a key", "a date after all dates"],
)
async def test_a_name_that_tells_what_no_ledger_can_hold_is_another_programs(
    store: MaildirStore, tmp_path: Path, unique: str
) -> None:
    (tmp_path / "mail/office/INBOX/cur" / f"{unique}:2,").write_bytes(b"four")
    inbox = next(place for place in store.places() if place.folder.raw == b"INBOX")
    assert [found.path for found in store.look(inbox) if found.placed is None] == [f"office/INBOX/cur/{unique}:2,"]


async def test_L10_an_index_whose_name_is_no_text_is_a_strangers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = EmlStore(tmp_path / "mail")
    await store.start()
    place = await store.prepare(IDENTITY, "office", INBOX, None)
    await stored(store, staged(store, place, "7.1", b"body"))
    await store.close()
    stranger = renamed(tmp_path / "mail/index/office/INBOX.json", b"\xe4.json")
    store = EmlStore(tmp_path / "mail")
    await store.start()
    assert items_in(store) == []
    assert str(stranger.relative_to(tmp_path / "mail")) in list(store.strays())
    assert "\\xe4.json" in caplog.text
    place = await store.prepare(IDENTITY, "office", INBOX, None)
    assert place.directory == "index/office/INBOX.json"
    await stored(store, staged(store, place, "7.1", b"body"))
    assert [item.key for item in items_in(store)] == ["7.1"]
    await store.close()


def test_a_name_on_disk_is_text_or_is_not() -> None:
    assert names.is_text("\N{LATIN SMALL LETTER A WITH DIAERESIS}")
    assert not names.is_text(os.fsdecode(b"\xe4"))
