"""The demo's mail server: pymap with everything in memory, on loopback, for as long as the demo runs.

``python -m hauld.demo.server MESSAGES`` reads a password from its standard input, fills a mailbox and serves it; it says on
its standard output where and for whom, as one line of JSON, and ends when its input does, so that it never outlives who
started it. A process of its own, because it works as hard as the daemon that it serves.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from argparse import Namespace

from proxyprotocol.reader import ProxyProtocolReader
from pymap.backend.dict import Config, DictBackend
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage

from hauld.demo.messages import FOLDERS, mailbox

HOST, USER = "127.0.0.1", "demo"


async def serve(messages: int, password: str) -> None:
    """Fill, serve, say where, and stay until the input ends."""
    backend, config = await DictBackend.init(_arguments(password), reject_dnsbl=False)
    config.apply_context()
    await _fill(config, messages)
    callback = ProxyProtocolReader(config.proxy_protocol).get_callback(IMAPServer(backend.login, config))
    async with await asyncio.start_server(callback, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"host": HOST, "port": port, "user": USER}), flush=True)  # noqa: T201 - the line it was asked for
        await asyncio.to_thread(sys.stdin.read)


def _arguments(password: str) -> Namespace:
    """What pymap's own command line would say."""
    nothing = dict.fromkeys(["host", "cert", "key", "passlib_cfg", "proxy_protocol"])
    return Namespace(**nothing, port=0, tls=False, debug=False, demo_data=False, demo_user=USER, demo_password=password)


async def _fill(config: Config, messages: int) -> None:
    """Put the mail straight into pymap's memory: its APPEND would take a command for each."""
    mailboxes = MailboxSet()
    for name in FOLDERS:
        if name != "INBOX":
            await mailboxes.add_mailbox(name)
    for message in mailbox(messages):
        folder = await mailboxes.get_mailbox(message.folder)
        await folder.append(AppendMessage(message.content, message.received, frozenset()))
    config.set_cache[USER] = (mailboxes, FilterSet())


if __name__ == "__main__":
    os.environ["FQDN"] = "localhost"  # for the greeting: pymap would ask the network for this machine's name
    # Ctrl-C is for who started this; the end of the input tells when to go
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(int(sys.argv[1]), sys.stdin.readline().rstrip("\n")))
