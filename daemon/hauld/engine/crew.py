"""Several sessions of one account at the same work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hauld.engine.account import Account
from hauld.errors import HaulError, Transient
from hauld.sources.base import Session


async def crew(
    account: Account,
    size: int,
    priority: int,
    name: str,
    work: Callable[[Session], Awaitable[None]],
    goes_on: Callable[[Transient], bool],
) -> None:
    """Up to ``size`` sessions do the same work side by side.

    The first signs in alone, so that a wrong password is sent once. Another takes the place of one that breaks while it works,
    where the work ``goes_on`` after that error; else it leaves the work to the others, and when none came to the end, what
    broke the first is raised. ``name`` is for the tasks.
    """
    signed_in = asyncio.Event()
    errors: list[HaulError] = []

    async def member(first: bool) -> bool:
        try:
            if not first:
                await signed_in.wait()
                if errors:
                    return False
            while not await comes_to_the_end():
                pass
        except Transient as error:
            errors.append(error)
            return False
        finally:
            signed_in.set()
        return True

    async def comes_to_the_end() -> bool:
        at_work = False
        try:
            async with account.session(priority) as session:
                at_work = True
                signed_in.set()
                await work(session)
        except Transient as error:
            if at_work and goes_on(error):
                return False
            raise
        return True

    count = max(1, min(size, account.settings.connections))
    members = [asyncio.create_task(member(i == 0), name=f"{name} session {i}") for i in range(count)]
    try:
        finished = await asyncio.gather(*members)
    finally:
        for task in members:
            task.cancel()
        await asyncio.gather(*members, return_exceptions=True)
    if not any(finished):
        raise errors[0]
