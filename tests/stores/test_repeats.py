"""What a folder has is remembered in a few bytes for each item."""

from __future__ import annotations

import tracemalloc

import pytest

from hauld.stores import repeats
from hauld.stores.repeats import Repeats

PATHS = [f"work/INBOX/{number}.7.haul" for number in range(3000)]


@pytest.mark.parametrize("length", [4, 1024], ids=["many arrays", "few"])
def test_what_a_folder_held_and_what_came_later_is_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setattr(repeats, "LENGTH", length)
    held = Repeats(lambda directory: PATHS[:1000] if directory == "work/INBOX" else [])
    assert held.among("work/INBOX", PATHS) == set(PATHS[:1000])
    for start in range(1000, 2000, 100):
        held.add("work/INBOX", PATHS[start - 50 : start + 100])
    assert held.among("work/INBOX", PATHS) == set(PATHS[:2000])
    assert held.among("work/Sent", PATHS) == set()


def test_a_folder_is_listed_again_only_when_it_was_forgotten() -> None:
    there = PATHS[:2]
    held = Repeats(lambda _: there)
    assert held.among("work/INBOX", PATHS) == set(there)
    there = PATHS[2:5]
    assert held.among("work/INBOX", PATHS) == set(PATHS[:2])
    held.forget("work/INBOX")
    assert held.among("work/INBOX", PATHS) == set(there)


def test_an_item_of_a_large_folder_costs_a_dozen_bytes() -> None:
    held = Repeats(lambda _: ())
    tracemalloc.start()
    try:
        for start in range(0, 8_000, 500):
            paths = [f"work/INBOX/{number}" for number in range(start, start + 500)]
            held.among("work/INBOX", paths)
            held.add("work/INBOX", paths)
        del paths
        assert tracemalloc.get_traced_memory()[0] < 8_000 * 16
    finally:
        tracemalloc.stop()
