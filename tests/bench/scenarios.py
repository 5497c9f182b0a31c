"""What is measured, by name: each scenario does its work on a bench and returns its table.

Programs that are compared run in turn, pair by pair, each of a pair the first every other time, because the disk of a shared
machine drifts within minutes: only the ratio within a pair means anything. What is new here goes into ``SCENARIOS``.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import idle, large_ledger, notices
from bench.machine import settle
from bench.mailboxes import Bench, Shape
from bench.programs import (
    HAUL_DEFAULT_CONNECTIONS,
    LONGEST,
    Origin,
    can_count,
    check_stored,
    counted,
    import_all,
    make_hauld,
    name_of,
    run_drain,
    run_hauld,
    run_mbsync,
    run_offlineimap,
)
from bench.proxy import proxied
from bench.tables import Counts, Run, Table, comparison, megabytes, rate, times, timings
from fuzz.crowd import Figures, Honest, crowded
from hauld.config import AccountConfig
from hauld.sources.imap.options import WINDOW
from support.daemon import SCRIPTS, Hauld
from support.watching import is_done, until

USUAL = Shape(20_000)
OTHER_CONNECTIONS = {"mbsync": "one", "a drain": "one", "offlineimap": "as many"}
"""How many each other program has, next to hauld's."""
BESIEGERS = 60
"""One user may have 64 connections, and some are for those who look on."""
SETTLE = 5.0
"""Seconds until a crowd has spent what each client may ask at once."""
REPEATS = 9
"""How often something short is timed."""


@dataclass(frozen=True)
class Options:
    """How a scenario is run. ``pairs`` is how often each program runs, ``round_trip`` milliseconds to the server through a
    proxy (0: none), ``count_calls`` an extra run of each program under strace."""

    shape: Shape
    pairs: int = 5
    format: str = "maildir"
    round_trip: float = 0.0
    connections: int = HAUL_DEFAULT_CONNECTIONS
    followers: int = 20
    count_calls: bool = True
    offlineimap: bool = False


@dataclass(frozen=True)
class Scenario:
    """One thing to measure: its sentence for ``--help``, the mailbox it takes unless told otherwise, how many pairs are
    enough for it, and the programs it cannot do without."""

    run: Callable[[Bench, Options], Table]
    help: str
    shape: Shape = USUAL
    most_pairs: int = 5
    needs: tuple[str, ...] = ()


Contender = Callable[[Path, Sequence[str]], Run]
"""Runs one program in a new directory, with a command in front of it."""


# --- imports -------------------------------------------------------------------------------------------------------


def import_(bench: Bench, options: Options) -> Table:
    with reached(bench, options) as origin:
        contenders: dict[str, Contender] = {"hauld": by_hauld(origin, options), "mbsync": by_mbsync(origin)}
        if options.offlineimap:
            contenders["offlineimap"] = lambda directory, command: run_offlineimap(directory, origin, command)
        runs = in_turn(bench, contenders, options.pairs)
        counts = count_calls(bench, contenders) if options.count_calls and can_count() else {}
    return comparison(titled("Import", options), setting(options, *runs), runs, counts, not_counted(options))


def drain(bench: Bench, options: Options) -> Table:
    with reached(bench, options) as origin:
        contenders: dict[str, Contender] = {"hauld": by_hauld(origin, options), "a drain": lambda *_: run_drain(origin)}
        runs = in_turn(bench, contenders, options.pairs)
    limit = "The drain is a client with one connection that asks for the same and keeps nothing: what the server can give."
    return comparison(titled("Against the server's limit", options), setting(options, *runs), runs, remarks=[limit])


def many(bench: Bench, options: Options) -> Table:
    """Whether speed and memory stay what they are when there are five times as many messages."""
    few = replace(options, shape=replace(options.shape, count=options.shape.count // 5))
    sizes = {f"{each.shape.count:,}": warm_origin(bench, each, number) for number, each in enumerate((options, few), 1)}
    all_of_them, a_fifth = sizes
    runs = in_turn(
        bench, {name: lambda directory, _, it=origin: run_hauld(directory, it) for name, origin in sizes.items()}, options.pairs
    )
    memory = max(run.memory for run in runs[all_of_them]) / max(run.memory for run in runs[a_fifth])
    remark = (
        f"hauld has {times(speeds(runs[a_fifth], runs[all_of_them]))} the speed it has with a fifth of them, and {memory:.2f}"
        " times the memory."
    )
    return comparison(titled("Many messages", options), setting(options, "hauld"), runs, remarks=[remark])


def accounts(bench: Bench, options: Options) -> Table:
    first, second = (warm_origin(bench, options, number) for number in (1, 2))
    contenders: dict[str, Contender] = {
        "two at once": lambda directory, _: run_hauld(directory, first, second),
        "one": lambda directory, _: run_hauld(directory, first),
    }
    runs = in_turn(bench, contenders, options.pairs)
    remark = f"Two accounts at once bring home messages at {times(speeds(runs['one'], runs['two at once']))} the rate of one."
    table = comparison(titled("Two accounts, each with", options), setting(options, *runs), runs)
    return replace(table, remarks=[remark])


def followers(bench: Bench, options: Options) -> Table:
    with reached(bench, options) as origin:
        contenders: dict[str, Contender] = {
            "followed": lambda directory, _: run_hauld(directory, origin, followers=options.followers),
            "alone": lambda directory, _: run_hauld(directory, origin),
        }
        runs = in_turn(bench, contenders, options.pairs)
    memory = [followed.memory / alone.memory for followed, alone in zip(runs["followed"], runs["alone"], strict=True)]
    told = f"{options.followers} clients asked for all events and never read one. Memory: {times(memory)} that of hauld alone."
    return comparison(titled("Stuck followers", options), setting(options, *runs), runs, remarks=[told])


def crowd(bench: Bench, options: Options) -> Table:
    took: dict[str, list[float]] = {"besieged": [], "alone": []}

    @contextmanager
    def watched(name: str, hauld: Hauld) -> Iterator[None]:
        """An honest client whose answers are timed, and where it is said bad ones, who have been there for a while."""
        over = threading.Event()
        with ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor())
            honest = stack.enter_context(Honest(hauld.socket))
            if name == "besieged":
                stack.enter_context(crowded(hauld.socket, BESIEGERS))
                time.sleep(SETTLE)
            asking = threads.submit(honest.ask, lambda: not over.is_set())
            try:
                yield
            finally:
                over.set()
                asking.result()
                took[name] += honest.took

    with reached(bench, options) as origin:
        contenders: dict[str, Contender] = {
            "besieged": lambda directory, _: run_hauld(directory, origin, beside=partial(watched, "besieged")),
            "alone": lambda directory, _: run_hauld(directory, origin, beside=partial(watched, "alone")),
        }
        runs = in_turn(bench, contenders, options.pairs)
    speed = times(speeds(runs["alone"], runs["besieged"]))
    remarks = [
        f"{BESIEGERS} clients sent what is no request, lines of a megabyte, or a byte at a time, or never read.",
        f"Speed: {speed} that of hauld alone.",
        *(f"An honest client, {name}: {Figures(each)}." for name, each in took.items()),
    ]
    return comparison(titled("A crowd at the door", options), setting(options, *runs), runs, remarks=remarks)


def huge(bench: Bench, options: Options) -> Table:
    """One message; and how much of it is fetched again when hauld is killed in the middle."""
    with reached(bench, options) as origin:
        runs = in_turn(bench, {"hauld": by_hauld(origin, options), "mbsync": by_mbsync(origin)}, options.pairs)
        remark = fetched_after_a_kill(bench, origin)
    return comparison(titled("Huge", options), setting(options, *runs), runs, remarks=[remark])


def fetched_after_a_kill(bench: Bench, origin: Origin) -> str:
    """What the server sent to a daemon whose forerunner was killed when half of the message was on the disk."""
    bench.tell("  killed half-way")
    server, mailbox = bench.server, origin.mailbox
    with make_hauld(bench.fresh("killed"), origin) as hauld:
        job = hauld.call("jobs.create", account=name_of(0), live=False)["id"]
        while hauld.bytes_staged < mailbox.bytes // 2:
            assert not is_done(hauld.call("jobs.get", job=job)), "it was done before it could be killed"
            time.sleep(0.01)
        hauld.kill()
        there = hauld.bytes_staged
        before = server.bytes_sent(mailbox.user)
        hauld.start()
        until(hauld, job, is_done, within=LONGEST)
    check_stored(hauld, [origin])
    sent = server.bytes_sent(mailbox.user) - before
    again = sent - (mailbox.bytes - there)
    return (
        f"Killed with {megabytes(there)} MB on the disk, hauld fetched {megabytes(sent)} MB after its restart,"
        f" {megabytes(again)} MB more than were missing (a window has {megabytes(WINDOW)} MB)."
    )


# --- short things --------------------------------------------------------------------------------------------------


def unchanged(bench: Bench, options: Options) -> Table:
    took = {}
    with reached(bench, options) as origin:
        hauld = make_hauld(bench.fresh("hauld"), origin)
        with hauld:
            (job,) = import_all(hauld, live=True)
            took["hauld, connected: jobs.sync"] = timed(lambda: hauld.call("jobs.sync", job=job))
        check_stored(hauld, [origin])
        took["hauld, its start and jobs.sync"] = [time_to_synced(hauld, job) for _ in range(options.pairs)]
        directory = bench.fresh("mbsync")
        run_mbsync(directory, origin)
        took["mbsync, a run"] = [run_mbsync(directory, origin).seconds for _ in range(options.pairs)]
    return timings(titled("Nothing has changed", options), setting(options, "hauld", "mbsync"), took)


def time_to_synced(hauld: Hauld, job: str) -> float:
    """From the process to the end of the first comparison."""
    started = time.monotonic()
    with hauld:
        hauld.call("jobs.sync", job=job)
        return time.monotonic() - started


def state(bench: Bench, options: Options) -> Table:
    """A ledger of a million items: what people and programs ask first."""
    bench.tell(f"  making a ledger of {options.shape.count:,} items")
    user = bench.add_user()
    hauld = Hauld(bench.fresh("ledger"), {"a": bench.server.account(user, tls="none")}, daemon={"log_level": "info"})
    identity = AccountConfig(name="a", host=bench.server.host, user=user.name).identity
    paused, completed = large_ledger.make(hauld.state, identity, "a", items=options.shape.count)
    took = {"hauld: start to READY": [time_of_start(hauld) for _ in range(3)]}
    with hauld:
        for command in (
            ["status"],
            ["list"],
            ["show", paused],
            ["folders", paused],
            ["items", paused],
            ["items", paused, "--status", "failed"],
            ["items", completed],
            ["events"],
        ):
            name = " ".join("JOB" if word in (paused, completed) else word for word in command)
            took[f"haulctl {name}"] = timed(partial(asked, hauld, *command))
        for method, params in (
            ("daemon.status", {}),
            ("jobs.list", {}),
            ("folders.list", {"job": paused}),
            ("folders.list", {"account": "a"}),
            ("items.list", {"job": paused}),
            ("items.list", {"job": paused, "status": "failed"}),
            ("events.list", {}),
            ("events.list", {"job": paused}),
        ):
            took[f"{method} {' '.join(params)}".strip()] = timed(partial(hauld.call, method, **params))
        memory = hauld.peak_memory()
    remark = f"Peak memory of hauld: {megabytes(memory)} MB; the ledger has {megabytes(hauld.state.stat().st_size)} MB."
    return timings(
        "A large ledger", f"{options.shape.count:,} items in 20 folders, two jobs that want them all.", took, [remark]
    )


def startup(bench: Bench, options: Options) -> Table:
    user = bench.add_user()
    hauld = Hauld(bench.fresh("startup"), {"a": bench.server.account(user, tls="none")}, daemon={"log_level": "info"})
    took = {"hauld: start to READY": [time_of_start(hauld) for _ in range(REPEATS)]}
    with hauld:
        took["haulctl list"] = timed(lambda: asked(hauld, "list"))
        took["haulctl --version"] = timed(lambda: asked(hauld, "--version"))
        memory = hauld.peak_memory()
    took["python -c pass"] = timed(lambda: subprocess.run([SCRIPTS / "python", "-c", "pass"], check=True))
    remark = f"Peak memory of an idle hauld: {megabytes(memory)} MB."
    return timings("Start-up", "One account, nothing stored; each a process, from its start to its end.", took, [remark])


def new_mail(bench: Bench, options: Options) -> Table:
    return notices.measure(bench, options.shape, options.pairs)


def idle_accounts(bench: Bench, options: Options) -> Table:
    return idle.measure(bench, options.shape)


def time_of_start(hauld: Hauld) -> float:
    """From the process to READY."""
    (seconds,) = timed(hauld.start, 1)
    assert hauld.stop() == 0
    return seconds


def asked(hauld: Hauld, *arguments: str) -> None:
    """One haulctl, as a process."""
    done = hauld.haulctl(*arguments)
    assert done.returncode == 0, done.stderr


def timed(action: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Seconds that it takes, again and again."""
    took = []
    for _ in range(repeats):
        started = time.monotonic()
        action()
        took.append(time.monotonic() - started)
    return took


# --- how programs are compared -------------------------------------------------------------------------------------


def by_hauld(origin: Origin, options: Options) -> Contender:
    return lambda directory, command: run_hauld(directory, origin, store={"format": options.format}, command=command)


def by_mbsync(origin: Origin) -> Contender:
    return lambda directory, command: run_mbsync(directory, origin, command)


@contextmanager
def reached(bench: Bench, options: Options) -> Iterator[Origin]:
    """The mailbox, through a proxy where it is to be far away."""
    origin = warm_origin(bench, options)
    if options.round_trip:
        with proxied(bench.server.host, bench.server.port, options.round_trip) as port:
            yield replace(origin, port=port)
    else:
        yield origin


def warm_origin(bench: Bench, options: Options, number: int = 1) -> Origin:
    """The mailbox, read once, so that nobody is the first to warm the server up."""
    origin = Origin(bench.server, bench.mailbox(options.shape, number), bench.server.port, options.connections)
    run_drain(origin)
    settle()
    return origin


def in_turn(bench: Bench, contenders: Mapping[str, Contender], pairs: int) -> dict[str, list[Run]]:
    """So many runs of each."""
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for pair in range(pairs):
        for name in contenders if pair % 2 == 0 else reversed(contenders):
            run = contenders[name](bench.fresh(name.replace(" ", "-")), ())
            bench.tell(f"  {name:<12} {run.seconds:8.2f} s {rate(run.items / run.seconds):>10} messages/s")
            runs[name].append(run)
            settle()
    return runs


def count_calls(bench: Bench, contenders: Mapping[str, Contender]) -> dict[str, Counts]:
    """One more run of each, under strace."""
    counts = {}
    for name, contend in contenders.items():
        bench.tell(f"  counting the system calls of {name}")
        counts[name] = counted(partial(contend, bench.fresh(name)), bench.directory / "strace" / name)
        settle()
    return counts


def speeds(before: Sequence[Run], after: Sequence[Run]) -> list[float]:
    """Of each pair, how many times the messages a second of the first the second has."""
    return [(two.items / two.seconds) / (one.items / one.seconds) for one, two in zip(before, after, strict=True)]


def titled(what: str, options: Options) -> str:
    """The heading of a result."""
    return f"{what}: {options.shape}{far(options)}{into(options)}"


def setting(options: Options, *names: str) -> str:
    """What a reader has to know of a comparison of these."""
    pairs = f"{options.pairs} {'pair' if options.pairs == 1 else 'pairs'}, in turn."
    others = "".join(f", {name} {OTHER_CONNECTIONS[name]}" for name in names if name in OTHER_CONNECTIONS)
    return f"{pairs} Without TLS. hauld has {options.connections} connections an account{others}."


def far(options: Options) -> str:
    return f", {options.round_trip:g} ms round trip" if options.round_trip else ""


def into(options: Options) -> str:
    return f", {options.format} store" if options.format != "maildir" else ""


def not_counted(options: Options) -> list[str]:
    if options.count_calls and not can_count():
        return ["System calls were not counted: apt-get install strace."]
    return []


SCENARIOS = {
    "import": Scenario(import_, "a whole mailbox, next to mbsync", USUAL, 5, ("mbsync",)),
    "drain": Scenario(drain, "the same, next to a client that keeps nothing"),
    "unchanged": Scenario(unchanged, "a look that finds nothing new, next to mbsync", USUAL, 5, ("mbsync",)),
    "huge": Scenario(huge, "one message of 1 GB; killed half-way", Shape(1, "1000000000"), 1, ("mbsync",)),
    "many": Scenario(many, "100,000 messages, next to a fifth of them", Shape(100_000), 3),
    "large": Scenario(import_, "10,000 messages of 100 KB, next to mbsync", Shape(10_000, "102400"), 3, ("mbsync",)),
    "folders": Scenario(import_, "200 folders of 100 messages, next to mbsync", Shape(20_000, folders=200), 3, ("mbsync",)),
    "state": Scenario(state, "a ledger of 1,000,000 items: start and first pages", Shape(1_000_000)),
    "startup": Scenario(startup, "haulctl list, and hauld until it is ready"),
    "accounts": Scenario(accounts, "two accounts at once, next to one", USUAL, 3),
    "followers": Scenario(followers, "hauld followed by clients that never read, next to hauld alone", USUAL, 3),
    "crowd": Scenario(crowd, "hauld with 60 bad clients at its door, next to hauld alone", USUAL, 3),
    "notices": Scenario(new_mail, "from the server's notice of new mail to its file and event; also during imports", USUAL, 3),
    "idle": Scenario(idle_accounts, "200 accounts over TLS that only listen: memory and CPU", Shape(10), 1),
}
"""Every scenario by its name."""
