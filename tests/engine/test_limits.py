"""What may be under way at once: bytes and jobs."""

from __future__ import annotations

import asyncio

import pytest

from hauld.engine.limits import ByteBudget, Slots


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_bytes_are_granted_until_the_budget_is_used_up() -> None:
    budget = ByteBudget(100)
    assert await budget.acquire(60) == 60
    second = asyncio.create_task(budget.acquire(60))
    await settle()
    assert not second.done()
    budget.release(60)
    assert await second == 60
    assert budget.free == 40


async def test_what_is_larger_than_the_whole_budget_goes_alone() -> None:
    budget = ByteBudget(100)
    first = await budget.acquire(10)
    huge = asyncio.create_task(budget.acquire(10**9))
    await settle()
    assert not huge.done()
    budget.release(first)
    assert await huge == 100
    assert budget.free == 0


async def test_an_empty_item_still_takes_its_place() -> None:
    budget = ByteBudget(100)
    assert await budget.acquire(0) == 1


async def test_a_small_request_does_not_overtake_a_large_one_that_waits() -> None:
    budget = ByteBudget(100)
    await budget.acquire(50)
    large = asyncio.create_task(budget.acquire(80))
    await settle()
    small = asyncio.create_task(budget.acquire(10))
    await settle()
    assert not large.done()
    assert not small.done()
    budget.release(50)
    assert await large == 80
    assert await small == 10


async def test_a_request_that_is_cancelled_gives_way_to_the_next() -> None:
    budget = ByteBudget(100)
    await budget.acquire(90)
    large = asyncio.create_task(budget.acquire(80))
    await settle()
    small = asyncio.create_task(budget.acquire(10))
    await settle()
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    assert await small == 10
    assert budget.free == 0


async def test_a_request_cancelled_in_the_moment_it_is_granted_loses_no_bytes() -> None:
    budget = ByteBudget(100)
    await budget.acquire(100)
    waiting = asyncio.create_task(budget.acquire(40))
    await settle()
    budget.release(100)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.free == 100


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
