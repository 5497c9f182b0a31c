"""Many accounts that only listen, in one daemon, over TLS: what they cost while nothing happens."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.mailboxes import Bench, Shape, content
from bench.tables import Table, megabytes
from support.daemon import Hauld

ACCOUNTS = 200
REST = 70.0
"""Seconds over which CPU time is counted, and after which memory is looked at: hauld gives some back every minute."""
LONGEST = 600.0
"""Seconds until all of them listen, and nothing else is connected any more."""
AT_ONCE = 10
"""Imports at the same time, so that 200 first ones do not take all day."""


def measure(bench: Bench, shape: Shape, accounts: int = ACCOUNTS, rest: float = REST, *, settled: bool = True) -> Table:
    """So many accounts with mailboxes of that shape. With ``settled``, only the listeners' connections are open when it is
    measured, else also those that the imports left."""
    users = [bench.server.add_user() for _ in range(accounts)]
    for user in users:
        bench.server.fill(user, "INBOX", content(shape))
    named = {f"a{number}": bench.server.account(user) for number, user in enumerate(users)}
    tables = {"daemon": {"max_running_jobs": AT_ONCE, "log_level": "info"}}
    with Hauld(bench.fresh("idle"), {}, **tables) as hauld:
        bare = memory(hauld)
        hauld.stop()
        hauld.configure(named, **tables)
        began = time.monotonic()
        hauld.start()
        for name in named:
            hauld.call("jobs.create", account=name)
        bench.tell("  until all listen")
        until(hauld, lambda told: all(is_listening(account) for account in told["accounts"]))
        listening, at_first = time.monotonic() - began, memory(hauld)
        if settled:
            bench.tell("  until nothing else is connected")
            until(hauld, lambda told: told["connections"] == accounts)
        cpu = cpu_seconds(hauld)
        bench.tell(f"  at rest for {rest:g} s")
        time.sleep(rest)
        share = (cpu_seconds(hauld) - cpu) / rest
        after = memory(hauld)
    rows = [
        ["without accounts", "0", megabytes(bare), "", ""],
        ["all listen", str(accounts), megabytes(at_first), f"{(at_first - bare) / accounts / 1000:.0f}", ""],
        ["at rest", str(accounts), megabytes(after), f"{(after - bare) / accounts / 1000:.0f}", f"{100 * share:.2f}"],
    ]
    remark = f"All of them listened {listening:.0f} s after the start, their mail imported."
    setting = f"Over TLS, one connection each; {shape} in each mailbox. CPU over {rest:g} s, in hundredths of a core."
    return Table("Idle accounts", setting, ["", "accounts", "resident MB", "KB an account", "CPU %"], rows, [remark])


def is_listening(account: dict[str, Any]) -> bool:
    return any(listener["state"] == "listening" for listener in account["listeners"])


def until(hauld: Hauld, true: Callable[[dict[str, Any]], bool]) -> None:
    """Look at the daemon's status, not too often, until it is so."""
    deadline = time.monotonic() + LONGEST
    while not true(hauld.call("daemon.status")):
        assert time.monotonic() < deadline, f"it did not come to that:\n{hauld.log()[-5000:]}"
        time.sleep(1.0)


def memory(hauld: Hauld) -> int:
    """Resident bytes (proc(5))."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{hauld.pid}/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def cpu_seconds(hauld: Hauld) -> float:
    """User and system time so far (proc(5))."""
    fields = Path(f"/proc/{hauld.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
