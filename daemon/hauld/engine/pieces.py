"""Long lists, a piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import TypeVar

from hauld.errors import HaulError
from hauld.model import Job, JobStatus
from hauld.state.base import State

T = TypeVar("T")


async def pieces(values: Callable[[], Iterator[T]], size: int) -> AsyncIterator[list[T]]:
    """What a blocking iterator gives, up to ``size`` values at once; each piece is read in a thread, so that whoever is
    cancelled waits for no more than one. Trouble of the iterator is raised after all that it gave before."""
    iterator = await asyncio.to_thread(values)
    trouble: HaulError | None = None

    def piece() -> list[T]:
        nonlocal trouble
        read: list[T] = []
        try:
            read.extend(islice(iterator, size))  # what came before an error stays in the list
        except HaulError as error:
            trouble = error
        return read

    while trouble is None and (read := await asyncio.to_thread(piece)):
        yield read
    if trouble is not None:
        raise trouble


async def every_job(state: State, *, status: JobStatus | None = None, account: int | None = None) -> list[Job]:
    """All jobs that are so, newest first, over all pages."""
    jobs: list[Job] = []
    page = await state.jobs(status=status, account=account)
    while page:
        jobs.extend(page)
        page = await state.jobs(status=status, account=account, after=page[-1].id)
    return jobs
