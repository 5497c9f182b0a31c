"""What may be under way at once: bytes and jobs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauld.engine.limits import ByteBudget, Slots


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


LIMIT = 1600
NEARLY_ALL = 1313
"""What of it is neither for news (100) nor for who holds nothing yet (187)."""


def asked(budget: ByteBudget, size: int, owner: str, *, urgent: bool = False) -> asyncio.Task[int]:
    return asyncio.create_task(budget.acquire(size, owner, urgent=urgent))


async def test_bytes_are_granted_until_the_budget_is_used_up() -> None:
    budget = ByteBudget(LIMIT)
    assert await budget.acquire(800, "a") == 800
    second = asked(budget, 800, "a")
    await settle()
    assert not second.done()
    budget.release(800, "a")
    assert await second == 800
    assert budget.free == 800


async def test_what_is_larger_than_the_whole_budget_takes_nearly_all_and_goes_alone() -> None:
    budget = ByteBudget(LIMIT)
    first = await budget.acquire(10, "a")
    huge = asked(budget, 10**9, "a")
    await settle()
    assert not huge.done()
    budget.release(first, "a")
    assert await huge == NEARLY_ALL
    small = asked(budget, 1, "a")
    await settle()
    assert not small.done()
    budget.release(NEARLY_ALL, "a")
    assert await small == 1


async def test_an_empty_item_still_takes_its_place() -> None:
    assert await ByteBudget(LIMIT).acquire(0, "a") == 1


async def test_a_small_request_does_not_overtake_a_large_one_of_the_same_account() -> None:
    budget = ByteBudget(LIMIT)
    await budget.acquire(800, "a")
    large = asked(budget, 1000, "a")
    await settle()
    small = asked(budget, 10, "a")
    await settle()
    assert not large.done()
    assert not small.done()
    budget.release(800, "a")
    assert await large == 1000
    assert await small == 10


async def test_R3_who_holds_less_is_served_first() -> None:
    budget = ByteBudget(LIMIT)
    await budget.acquire(900, "hog")
    await budget.acquire(413, "modest")
    more = asked(budget, 400, "hog")
    await settle()
    late = asked(budget, 400, "modest")
    await settle()
    budget.release(500, "hog")
    assert await more == 400
    assert not late.done()
    budget.release(400, "hog")
    assert await late == 400

    again = asked(budget, 700, "hog")
    await settle()
    newcomer = asked(budget, 400, "new")
    await settle()
    budget.release(400, "modest")
    assert await newcomer == 400
    assert not again.done()


@given(hogged=st.lists(st.integers(0, 2 * LIMIT), max_size=20), urgent=st.booleans())
async def test_R3_an_account_that_holds_nothing_gets_its_share_at_once_whatever_another_holds(
    hogged: list[int], urgent: bool
) -> None:
    budget = ByteBudget(LIMIT)
    hogging = [asked(budget, size, "hog", urgent=urgent) for size in hogged]
    await settle()
    news = budget.limit - NEARLY_ALL - budget.share
    size = news // 8 if urgent else budget.share
    assert await asyncio.wait_for(budget.acquire(size, "new", urgent=urgent), 1) == size
    for task in hogging:
        task.cancel()
    await asyncio.gather(*hogging, return_exceptions=True)


async def test_R3_urgent_news_wait_for_no_bytes_of_what_is_not() -> None:
    budget = ByteBudget(LIMIT)
    held = [await budget.acquire(10**9, "a"), await budget.acquire(budget.share, "b")]
    assert sum(held) == LIMIT - 100
    assert await budget.acquire(40, "c", urgent=True) == 40
    assert await budget.acquire(40, "a", urgent=True) == 40
    assert budget.free == 20


async def test_who_came_while_a_large_item_waits_goes_in_by_the_part_that_is_kept_and_the_large_one_comes_next() -> None:
    budget = ByteBudget(LIMIT)
    await budget.acquire(NEARLY_ALL, "hog")
    large = asked(budget, 10**9, "large")
    await settle()
    assert await budget.acquire(budget.share, "small") == budget.share
    smaller = asked(budget, 1, "smaller")
    await settle()
    assert not smaller.done()
    budget.release(budget.share, "small")
    assert await smaller == 1
    assert not large.done()
    budget.release(NEARLY_ALL, "hog")
    assert await large == NEARLY_ALL


Asked = tuple[asyncio.Task[int], str]


class Ledger:
    """Who was granted what, as the tasks that asked tell."""

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self.held: dict[str, int] = {}
        self.waiting: list[Asked] = []
        self.granted: list[Asked] = []

    def ask(self, size: int, owner: str) -> None:
        task = asked(self.budget, size, owner)
        self.waiting.append((task, owner))
        task.add_done_callback(lambda task: None if task.cancelled() else self.granted.append((task, owner)))

    async def look(self) -> None:
        """Take down what was granted, in its order: never to somebody who held more than another who waits on."""
        await settle()
        for task, owner in self.granted:
            self.waiting.remove((task, owner))
            before = self.held.get(owner, 0)
            assert all(before <= self.held.get(other, 0) for _, other in self.waiting)
            self.held[owner] = before + task.result()
        self.granted.clear()
        assert 0 <= self.budget.free == self.budget.limit - sum(self.held.values())
        assert self.budget.free < self.budget.limit or not self.waiting

    def release(self, owner: str, weight: int) -> None:
        self.held[owner] -= weight
        self.budget.release(weight, owner)


owners = st.sampled_from("abcd")
steps = st.one_of(
    st.tuples(st.just("acquire"), owners, st.integers(0, 2 * LIMIT)),
    st.tuples(st.just("acquire"), owners, st.integers(0, 100)),
    st.tuples(st.just("release"), owners, st.integers(1, LIMIT)),
    st.tuples(st.just("cancel"), owners, st.integers(0, 5)),
)


@given(st.lists(steps, max_size=40))
async def test_R3_no_more_is_held_than_there_is_and_everybody_is_served_in_the_end(
    taken: list[tuple[str, str, int]],
) -> None:
    ledger = Ledger(ByteBudget(LIMIT))
    for step, owner, number in taken:
        if step == "acquire":
            ledger.ask(number, owner)
        elif step == "release" and ledger.held.get(owner):
            ledger.release(owner, min(number, ledger.held[owner]))
        elif step == "cancel" and number < len(ledger.waiting):
            task, _ = ledger.waiting.pop(number)
            task.cancel()
        await ledger.look()
    while ledger.waiting:
        waited = len(ledger.waiting)
        for owner in list(ledger.held):
            if ledger.held[owner]:
                ledger.release(owner, ledger.held[owner])
                await ledger.look()
        assert len(ledger.waiting) < waited
    for owner, weight in ledger.held.items():
        if weight:
            ledger.budget.release(weight, owner)
    assert ledger.budget.free == LIMIT


async def test_a_request_that_is_cancelled_gives_way_to_the_next() -> None:
    budget = ByteBudget(LIMIT)
    await budget.acquire(1000, "a")
    large = asked(budget, 1000, "a")
    await settle()
    small = asked(budget, 10, "a")
    await settle()
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    assert await small == 10


async def test_a_request_cancelled_in_the_moment_it_is_granted_loses_no_bytes() -> None:
    budget = ByteBudget(LIMIT)
    await budget.acquire(NEARLY_ALL, "a")
    waiting = asked(budget, 40, "a")
    await settle()
    budget.release(NEARLY_ALL, "a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.free == LIMIT


async def test_the_most_urgent_waits_least_for_a_slot() -> None:
    slots = Slots(1)
    order: list[str] = []
    first_in = asyncio.Event()
    let_go = asyncio.Event()

    async def hold() -> None:
        async with slots.slot(2):
            first_in.set()
            await let_go.wait()

    async def take(name: str, priority: int) -> None:
        async with slots.slot(priority):
            order.append(name)

    holder = asyncio.create_task(hold())
    await first_in.wait()
    waiting = [asyncio.create_task(take(name, p)) for name, p in (("background", 3), ("normal", 2), ("urgent", 1))]
    await settle()
    assert order == []
    let_go.set()
    await asyncio.gather(holder, *waiting)
    assert order == ["urgent", "normal", "background"]


async def test_a_slot_cancelled_in_the_moment_it_is_granted_is_free_again() -> None:
    slots = Slots(1)
    held = slots.slot(2)
    await held.__aenter__()
    waiting = asyncio.create_task(slots.slot(2).__aenter__())
    await settle()
    await held.__aexit__(None, None, None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5), slots.slot(2):
        pass
