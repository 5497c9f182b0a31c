"""Several sessions of one account at the same work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hauld.engine.account import Account
from hauld.errors import HaulError, Transient
from hauld.sources.base import Session


async def crew(account: Account, size: int, priority: int, name: str, work: Callable[[Session], Awaitable[None]]) -> None:
    """Up to ``size`` sessions do the same work side by side.

    The first signs in alone, so that a wrong password is sent once. One that breaks leaves the work to the others, and when
    none came to the end, what broke the first is raised. ``name`` is for the tasks.
    """
    signed_in = asyncio.Event()
    errors: list[HaulError] = []

    async def member(first: bool) -> bool:
        try:
            if not first:
                await signed_in.wait()
                if errors:
                    return False
            async with account.session(priority) as session:
                signed_in.set()
                await work(session)
        except Transient as error:
            errors.append(error)
            return False
        finally:
            signed_in.set()
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
