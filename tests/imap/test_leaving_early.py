"""A conversation that is given up before it has begun leaves nothing open."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from support.scripted_imap import Honest, ScriptedServer


async def test_R5_giving_up_while_connecting_leaves_no_socket_open() -> None:
    async with ScriptedServer(Honest()) as server:

        async def converse() -> None:
            async with server.source().session():
                pass

        for steps in range(40):
            conversation = asyncio.create_task(converse())
            for _ in range(steps):
                await asyncio.sleep(0)
            conversation.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await conversation
        gc.collect()  # a socket that nobody closed is told of here, as an error
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("connect")] == []
