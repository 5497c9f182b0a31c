"""Real messages, malformed ones among them, come out of the store as they went in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from contracts.store import IDENTITY, INBOX, staged, stored
from hauld.stores.maildir import MaildirStore

CORPUS = Path(__file__).parents[3] / "shared/corpus/messages"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real messages is not beside this checkout")
async def test_P36_P37_every_message_of_the_corpus_comes_back_byte_for_byte(tmp_path: Path) -> None:
    bodies = [file.read_bytes() for file in sorted(CORPUS.rglob("*")) if file.is_file()]
    assert len(bodies) > 200
    store = MaildirStore(tmp_path / "mail", memory_limit=10_000)
    await store.start()
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    placed = await stored(store, *(staged(store, place, f"7.{uid}", body) for uid, body in enumerate(bodies, 1)))
    for item, body in zip(placed, bodies, strict=True):
        assert await store.read(item.path) == body
        assert (item.size, item.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    await store.close()
