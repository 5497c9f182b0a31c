"""The composition root: picks the adapters that the configuration names, introduces them to each other, starts them in order.

Everything that has to be closed is opened on one stack; leaving it is the shutdown, in reverse: the door first, then the
jobs (what is being committed is finished), then the store, the ledger last.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from types import FrameType
from typing import Protocol, TypeVar

from hauld import __version__, logs
from hauld.clock import Clock, SystemClock
from hauld.config import AccountConfig, Config, load
from hauld.doctor import Doctor
from hauld.engine.account import Account, AccountSettings
from hauld.engine.commands import Commands, Premises
from hauld.engine.declared import Declared
from hauld.engine.events import EventLog
from hauld.engine.ingest import Ingest
from hauld.engine.limits import ByteBudget
from hauld.engine.machine import Machine
from hauld.engine.supervisor import Supervisor
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, Transient
from hauld.model import FolderKind
from hauld.reload import InForce, Reloader
from hauld.retry import RetryPolicy, decide
from hauld.rpc.server import serve
from hauld.secrets import TokenCommand, read_secret
from hauld.sources.imap import ImapOptions, ImapSource
from hauld.state.base import State
from hauld.state.sqlite import SqliteState
from hauld.statusline import EVERY, StatusLine
from hauld.stores.base import Store
from hauld.stores.maildir import MaildirStore
from hauld.systemd import Notifier, passed_socket, watchdog_seconds
from hauld.watchdog import Watchdog, watched

log = logging.getLogger(__name__)

DAY = 24 * 3600.0
"""Seconds."""

PATIENCE = 5
LEAST_PATIENCE = 120.0
"""A listing or a fetch may stand still for so many times the account's timeout, and at least for so many seconds, while the
connection talks."""

START_PATIENCE = 300.0
"""Seconds that the start waits for a disk that is full or read-only, or a locked ledger, before the daemon gives up."""


async def run(config: Config, *, stop: asyncio.Event | None = None) -> None:
    """Run the daemon until ``stop`` is set, or SIGTERM or SIGINT comes. Raises ``Fatal`` when it cannot go on, and
    ``Transient`` when this machine's trouble has kept it from starting for ``START_PATIENCE``."""
    with contextlib.ExitStack() as stack:
        reloading = asyncio.Event()
        stopping = stop or stack.enter_context(signals(reloading))
        passed = passed_socket()
        notifier = stack.enter_context(closing(Notifier()))
        stack.enter_context(contextlib.suppress(CalledOff))
        await work(config, stopping, reloading, notifier, passed)


async def work(
    config: Config, stopping: asyncio.Event, reloading: asyncio.Event, notifier: Notifier, passed: int | None
) -> None:
    """Start everything, and end it when ``stopping`` is set or it cannot go on. ``reloading`` asks for a reload."""
    clock = SystemClock()
    policy = policy_of(config)
    start = PatientStart(policy, clock, notifier, stopping)
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(opened(state_of(config, clock), start.step))
        store = await stack.enter_async_context(opened(store_of(config), start.step))
        machine = Machine(clock)
        supervisor = await start.step(lambda: supervisor_of(config, state, store, clock, machine, policy))
        in_force = in_force_of(config, supervisor, state, clock, policy)
        reloader = Reloader(functools.partial(load, config.path), in_force, notifier, reloading)
        doctor = Doctor(
            functools.partial(load, config.path),
            source_of,
            in_force=lambda: in_force.config,
            refused=lambda: reloader.error,
            trouble=lambda name: supervisor.accounts[name].trouble if name in supervisor.accounts else None,
        )
        premises = Premises(
            __version__,
            str(config.daemon.state),
            str(config.store.path),
            clients=lambda: door.clients,
            reload=reloader.reload,
            configuration_error=lambda: reloader.error,
            diagnose=doctor.diagnose,
        )
        commands = Commands(supervisor, state, clock, premises)
        if (patience := watchdog_seconds()) is not None:
            dog = Watchdog(notifier, clock, patience, writing_for=state.writing_for, pulse=supervisor.pulse)
            await stack.enter_async_context(watched(dog))
        stack.push_async_callback(supervisor.stop)
        await start.step(lambda: supervisor.start(functools.partial(tell_start, notifier)))
        await start.step(in_force.declare)
        supervisor.do_chores()
        events = EventLog(state, clock)
        supervisor.tend("forgetting old events", events.prune_now, DAY)
        door = await stack.enter_async_context(serve(config.daemon.socket, commands, events, passed=passed))
        notifier.ready()
        supervisor.tend("reading the configuration again", reloader.run, 0.0)
        if notifier.is_heard:
            status_line = StatusLine(notifier, supervisor, state)
            machine.tell = status_line.set_trouble
            supervisor.tend("telling systemd what the accounts do", status_line.look, EVERY)
        log.info(
            "hauld %s is ready; accounts: %d, socket: %s",
            __version__,
            len(config.accounts),
            config.daemon.socket,
            extra={"event": "daemon.ready"},
        )
        await until(stopping, supervisor.fatal)
        notifier.stopping()
        log.info("hauld is stopping", extra={"event": "daemon.stopping"})
    if supervisor.fatal.done():
        raise supervisor.fatal.result()


async def migrate(config: Config) -> None:
    """Bring the ledger's schema up to date, and nothing else."""
    async with opened(state_of(config, SystemClock())):
        pass


# --- the adapters --------------------------------------------------------------------------------------------------


def state_of(config: Config, clock: Clock) -> State:
    """The ledger that the configuration names."""
    return SqliteState(config.daemon.state, clock)


def store_of(config: Config) -> Store:
    """The store that the configuration names."""
    store = config.store
    if store.format == "eml":
        from hauld.stores.eml import EmlStore

        return EmlStore(
            store.path, compression=store.compression, group=store.group, mode=store.mode, keep_free=store.keep_free
        )
    return MaildirStore(store.path, layout=store.layout, group=store.group, mode=store.mode, keep_free=store.keep_free)


def source_of(account: AccountConfig) -> ImapSource:
    """The origin of one account."""
    options = ImapOptions(
        host=account.host,
        port=account.port,
        tls=account.tls,
        ca_file=account.ca_file,
        client_cert=account.client_cert,
        client_key=account.client_key,
        user=account.user,
        auth=account.auth,
        timeout=account.timeout,
        max_message_size=account.max_message_size,
        allow_plaintext=account.allow_plaintext,
        compress=account.compress,
    )
    if account.token_command is not None:
        return ImapSource(options, TokenCommand(account.name, account.token_command))
    return ImapSource(options, functools.partial(read_secret, account))


async def supervisor_of(
    config: Config, state: State, store: Store, clock: Clock, machine: Machine, policy: RetryPolicy
) -> Supervisor:
    """The engine, with every configured account known to the ledger."""
    ingest = Ingest(store, state, machine)
    workshop = Workshop(state, store, ingest, ByteBudget(config.daemon.memory_budget), policy, clock)
    accounts = {name: await account_of(state, clock, account) for name, account in config.accounts.items()}
    return Supervisor(accounts, workshop, config.daemon.max_running_jobs)


async def account_of(state: State, clock: Clock, account: AccountConfig) -> Account:
    """An account to work with, known to the ledger."""
    number = await state.account(account.identity, account.name, account.source)
    return Account(settings_of(account), number, source_of(account), clock)


def in_force_of(config: Config, supervisor: Supervisor, state: State, clock: Clock, policy: RetryPolicy) -> InForce:
    """The configuration that the engine works by from now on, and how another one takes its place."""
    make, settled = functools.partial(account_of, state, clock), functools.partial(settle, supervisor, policy)
    return InForce(config, supervisor, state, Declared(supervisor, state, clock), make, settled)


def settle(supervisor: Supervisor, policy: RetryPolicy, config: Config) -> None:
    """Apply what the accounts share and needs no restart (``reload.LIVE``)."""
    logs.set_level(config.daemon.log_level)
    supervisor.limit_jobs(config.daemon.max_running_jobs)
    policy.become(policy_of(config))


def policy_of(config: Config) -> RetryPolicy:
    """How patient the configuration is."""
    return RetryPolicy(config.retry.initial, config.retry.max, config.retry.attempts)


def settings_of(account: AccountConfig) -> AccountSettings:
    """What the engine needs to know of an account. Folders of kinds that the schedule does not name are ``other``."""
    schedule = account.schedule
    intervals = dict.fromkeys(FolderKind, schedule.other) | {
        FolderKind.INBOX: schedule.inbox,
        FolderKind.SENT: schedule.sent,
        FolderKind.ARCHIVE: schedule.archive,
        FolderKind.ALL: schedule.archive,
    }
    return AccountSettings(
        name=account.name,
        identity=account.identity,
        source=account.source,
        host=account.host,
        port=account.port,
        user=account.user,
        connections=account.connections,
        patience=max(LEAST_PATIENCE, PATIENCE * account.timeout),
        batch_items=account.batch_items,
        batch_bytes=account.batch_size,
        folders=account.folders,
        exclude=account.exclude,
        intervals=intervals,
    )


# --- starting and stopping -----------------------------------------------------------------------------------------


class Openable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


T = TypeVar("T", bound=Openable)
R = TypeVar("R")


class CalledOff(Exception):
    """The daemon was asked to stop before it had started."""


class PatientStart:
    """Steps of the start that wait while a disk is full or read-only, or the ledger is locked: a daemon that ended instead
    would be started again and again, and say nothing new each time."""

    def __init__(self, policy: RetryPolicy, clock: Clock, notifier: Notifier, stopping: asyncio.Event) -> None:
        self._policy = policy
        self._clock = clock
        self._notifier = notifier
        self._stopping = stopping

    async def step(self, begin: Callable[[], Awaitable[R]]) -> R:
        """What ``begin`` gives, begun again after each ``Transient`` until ``START_PATIENCE`` is over. Raises ``CalledOff``
        when the daemon is asked to stop meanwhile."""
        began = self._clock.monotonic()
        failures = 0
        while True:
            try:
                result = await begin()
            except Transient as error:
                failures += 1
                delay = decide(error, failures, self._policy, random.random) or 0.0
                if self._clock.monotonic() + delay > began + START_PATIENCE:
                    raise
                self._say(error, failures)
                await self._pause(delay)
            else:
                if failures:
                    log.info("the start goes on after %d failures", failures, extra={"event": "start.recovered"})
                return result

    def _say(self, error: Transient, failures: int) -> None:
        """The first failure to the log, each to systemd, which is to wait with us."""
        if failures == 1:
            hint = f" {error.hint}" if error.hint else ""
            log.warning("the start waits: %s%s", error, hint, extra={"event": "start.waits", "kind": error.kind})
        self._notifier.extend(START_PATIENCE)
        self._notifier.status(f"Cannot start yet: {error}")

    async def _pause(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        asked = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((sleeping, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            asked.cancel()
        if self._stopping.is_set():
            raise CalledOff


def tell_start(notifier: Notifier, text: str) -> None:
    """How far a start is that takes long."""
    notifier.extend(START_PATIENCE)
    notifier.status(text)


async def at_once(begin: Callable[[], Awaitable[R]]) -> R:
    """A step of the start that waits for nothing."""
    return await begin()


@asynccontextmanager
async def opened(part: T, step: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] = at_once) -> AsyncIterator[T]:
    """Started on entering, closed on leaving."""
    await step(part.start)
    try:
        yield part
    finally:
        await part.close()


@contextlib.contextmanager
def signals(reloading: asyncio.Event) -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the process at once. SIGHUP sets ``reloading``.

    The first is for the loop. The second is for the interpreter, which sees it between any two instructions and in every call
    that a signal interrupts: a loop that is blocked cannot hold it up. What a signal cannot interrupt, only SIGKILL may.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    asked: list[int] = []

    def insist(number: int, _: FrameType | None) -> None:
        asked.append(number)  # in one step: the second may come while the first is here
        if len(asked) > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
        signal.signal(number, insist)  # beside what the loop does, which a descriptor of its own wakes
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def until(stopping: asyncio.Event, fatal: asyncio.Future[Fatal]) -> None:
    """Return when the daemon is asked to stop, or cannot go on."""
    asked = asyncio.create_task(stopping.wait(), name="stop")
    try:
        await asyncio.wait((asked, fatal), return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
