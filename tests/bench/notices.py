"""New mail: how long it takes from the server's notice to the file, and to who follows. Alone, and while an import is at work.

The notice is the moment at which ``* n EXISTS`` passes a proxy before the server; what the server waits before it tells is not
counted. The file is there when it has its final name, by the change time of its inode, which Linux tells to a few milliseconds.
"""

from __future__ import annotations

import imaplib
import json
import re
import socket
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from bench.mailboxes import Bench, Mailbox, Shape, content
from bench.noting import Noted, noted
from bench.programs import HAUL_DEFAULT_CONNECTIONS, Origin, make_hauld, name_of
from bench.tables import Table
from support.daemon import Hauld
from support.watching import is_done, listens

DELIVERIES = 200
LISTENED = 4
"""Accounts that mail comes to in turn: a server tells of the next message of one mailbox half a second later."""
PAUSE = 0.25
"""Seconds from one delivery to the next."""
LATEST = 10.0
"""Seconds until a message that was not told of is lost."""


def measure(bench: Bench, shape: Shape, imports: int, deliveries: int = DELIVERIES, listened: int = LISTENED) -> Table:
    """Deliveries alone, and during imports of so many mailboxes of that shape, one after the other."""
    with ExitStack() as stack:
        scene = stack.enter_context(staged(bench, listened, [bench.mailbox(shape, number + 1) for number in range(imports)]))
        bench.tell("  alone")
        alone = scene.deliver(deliveries, lambda: True)
        bench.tell("  during imports")
        importing = threading.Thread(target=scene.import_all)
        importing.start()
        during = scene.deliver(deliveries, importing.is_alive)
        importing.join()
        rows = scene.rows("alone", alone) + scene.rows("during an import", during)
    setting = f"{listened} accounts get one message each in turn, every {1000 * PAUSE:g} ms. Without TLS."
    return Table(f"New mail, and imports of {shape}", setting, ["", "median ms", "p99 ms", "longest ms", "messages"], rows)


class Scene:
    """A daemon that listens to some accounts and imports others, a follower, and a client for each that is listened to."""

    def __init__(self, hauld: Hauld, line: Noted, clients: Sequence[imaplib.IMAP4], imports: range) -> None:
        self._hauld = hauld
        self._line = line
        self._clients = clients
        self._imports = imports
        self._delivered = [0] * len(clients)
        self.told: list[tuple[int, dict[str, Any]]] = []

    def deliver(self, count: int, go_on: Callable[[], bool]) -> list[tuple[int, int]]:
        """So many messages, or as many as can be while it is to go on; of each, the account and its UID. All were told of."""
        delivered = []
        for message in content(Shape(count)):
            if not go_on():
                break
            place = min(range(len(self._clients)), key=lambda number: self._delivered[number])
            status, answer = self._clients[place].append("INBOX", "", "", message)
            assert status == "OK", answer
            self._delivered[place] += 1
            delivered.append((place, self._delivered[place]))
            time.sleep(PAUSE)
        deadline = time.monotonic() + LATEST
        while not set(delivered) <= self.events().keys():
            assert time.monotonic() < deadline, f"a message was not told of:\n{self._hauld.log()}"
            time.sleep(PAUSE)
        return delivered

    def import_all(self) -> None:
        for number in self._imports:
            job = self._hauld.call("jobs.create", account=name_of(number), live=False)["id"]
            while not is_done(self._hauld.call("jobs.get", job=job)):
                time.sleep(PAUSE)

    def events(self) -> dict[tuple[int, int], int]:
        """When each message, by account and UID, was told of."""
        with closing(sqlite3.connect(f"file:{self._hauld.state}?mode=ro", uri=True)) as state:
            names = {name_of(number): number for number in range(len(self._clients))}
            known = {
                number: (names[name], int(key.partition(".")[2]))
                for number, name, key in state.execute(
                    "SELECT items.number, accounts.name, items.key FROM accounts"
                    " JOIN folders ON folders.account = accounts.number JOIN items ON items.folder = folders.number"
                )
                if name in names
            }
        return {known[item]: at for at, event in list(self.told) for item in event["data"].get("items", ()) if item in known}

    def files(self) -> dict[tuple[int, int], int]:
        """When each file got its name."""
        found = {}
        for number in range(len(self._clients)):
            for path in (self._hauld.mail / name_of(number)).glob("INBOX/cur/*"):
                uid = re.search(r"\.U(\d+)V", path.name)
                assert uid is not None
                found[number, int(uid[1])] = path.stat().st_ctime_ns
        return found

    def rows(self, what: str, delivered: Sequence[tuple[int, int]]) -> list[list[str]]:
        """Two lines of the table."""
        events, files = self.events(), self.files()
        lines: list[list[str]] = []
        if not delivered:
            return lines
        for name, at in ((f"{what}: to the file", files), (f"{what}: to the event", events)):
            took = sorted((at[which] - self._line.when(*which)) / 1e6 for which in delivered)
            last = took[min(len(took) - 1, int(0.99 * len(took)))]
            lines.append([name, f"{statistics.median(took):.1f}", f"{last:.1f}", f"{took[-1]:.1f}", str(len(took))])
        return lines


@contextmanager
def staged(bench: Bench, listened: int, mailboxes: Sequence[Mailbox]) -> Iterator[Scene]:
    """All of it, listening."""
    server = bench.server
    users = [bench.add_user() for _ in range(listened)]
    with ExitStack() as stack:
        line = stack.enter_context(noted(server.host, server.port, listened))
        inboxes = [Mailbox(user, 0, 0, ("INBOX",)) for user in users]
        origins = [Origin(server, inbox, port, 1) for inbox, port in zip(inboxes, line.ports, strict=True)]
        origins += [Origin(server, mailbox, server.port, HAUL_DEFAULT_CONNECTIONS) for mailbox in mailboxes]
        hauld = stack.enter_context(make_hauld(bench.fresh("notices"), *origins))
        clients = [stack.enter_context(server.client(user)) for user in users]
        scene = Scene(hauld, line, clients, range(listened, len(origins)))
        stack.enter_context(following(hauld, scene.told))
        for number in range(listened):
            hauld.call("jobs.create", account=name_of(number))
        while not all(listens(hauld, name_of(number)) for number in range(listened)):
            time.sleep(PAUSE)
        yield scene


@contextmanager
def following(hauld: Hauld, told: list[tuple[int, dict[str, Any]]]) -> Iterator[None]:
    """Every event of stored items, and when it came (Unix time in nanoseconds)."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(hauld.socket))
        client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "events.follow", "params": {}}\n')
        lines = client.makefile("rb")
        lines.readline()

        def read() -> None:
            for line in lines:
                at = time.time_ns()
                if b'"item.stored"' in line:
                    told.append((at, json.loads(line)["params"]))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            client.shutdown(socket.SHUT_RDWR)
            reader.join()
