"""The composition root: picks the adapters that the configuration names, introduces them to each other, starts them in order.

Everything that has to be closed is opened on one stack; leaving it is the shutdown, in reverse: the door first, then the
jobs (what is being committed is finished), then the store, the ledger last.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Protocol, TypeVar

from hauld import __version__
from hauld.clock import Clock, SystemClock
from hauld.config import AccountConfig, Config
from hauld.engine.account import Account, AccountSettings
from hauld.engine.commands import Commands, Premises
from hauld.engine.events import EventLog
from hauld.engine.ingest import Ingest
from hauld.engine.limits import ByteBudget
from hauld.engine.supervisor import Supervisor
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal
from hauld.model import FolderKind
from hauld.retry import RetryPolicy
from hauld.rpc.server import serve
from hauld.secrets import TokenCommand, read_secret
from hauld.sources.base import Source
from hauld.sources.imap import ImapOptions, ImapSource
from hauld.state.base import State
from hauld.state.sqlite import SqliteState
from hauld.stores.base import Store
from hauld.stores.maildir import MaildirStore
from hauld.systemd import Notifier

log = logging.getLogger(__name__)

DAY = 24 * 3600.0
"""Seconds."""


async def run(config: Config, *, stop: asyncio.Event | None = None) -> None:
    """Run the daemon until ``stop`` is set, or SIGTERM or SIGINT comes. Raises ``Fatal`` when it cannot go on."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stopping = stop or stack.enter_context(signals())
        notifier = stack.enter_context(closing(Notifier()))
        state = await stack.enter_async_context(opened(state_of(config, clock)))
        store = await stack.enter_async_context(opened(store_of(config)))
        supervisor = await supervisor_of(config, state, store, clock)
        premises = Premises(__version__, str(config.daemon.state), str(config.store.path), clients=lambda: door.clients)
        commands = Commands(supervisor, state, clock, premises)
        stack.push_async_callback(supervisor.stop)
        await supervisor.start()
        events = EventLog(state, clock)
        supervisor.tend("forgetting old events", events.prune_now, DAY)
        door = await stack.enter_async_context(serve(config.daemon.socket, commands, events))
        notifier.ready()
        accounts = len(config.accounts)
        notifier.status(f"Keeping {accounts} account{'' if accounts == 1 else 's'} complete")
        log.info(
            "hauld %s is ready; accounts: %d, socket: %s",
            __version__,
            accounts,
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
    return MaildirStore(store.path, layout=store.layout, group=store.group, mode=store.mode)


def source_of(account: AccountConfig) -> Source:
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
    )
    if account.token_command is not None:
        return ImapSource(options, TokenCommand(account.name, account.token_command))
    return ImapSource(options, functools.partial(read_secret, account))


async def supervisor_of(config: Config, state: State, store: Store, clock: Clock) -> Supervisor:
    """The engine, with every configured account known to the ledger."""
    retry = RetryPolicy(config.retry.initial, config.retry.max, config.retry.attempts)
    workshop = Workshop(state, store, Ingest(store, state), ByteBudget(config.daemon.memory_budget), retry, clock)
    accounts = {}
    for name, account in config.accounts.items():
        number = await state.account(account.identity, name, account.source)
        accounts[name] = Account(settings_of(account), number, source_of(account), clock)
    return Supervisor(accounts, workshop, config.daemon.max_running_jobs)


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
        user=account.user,
        connections=account.connections,
        folders=account.folders,
        exclude=account.exclude,
        intervals=intervals,
    )


# --- starting and stopping -----------------------------------------------------------------------------------------


class Openable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


T = TypeVar("T", bound=Openable)


@asynccontextmanager
async def opened(part: T) -> AsyncIterator[T]:
    """Started on entering, closed on leaving."""
    await part.start()
    try:
        yield part
    finally:
        await part.close()


@contextlib.contextmanager
def signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def until(stopping: asyncio.Event, fatal: asyncio.Future[Fatal]) -> None:
    """Return when the daemon is asked to stop, or cannot go on."""
    asked = asyncio.create_task(stopping.wait(), name="stop")
    try:
        await asyncio.wait((asked, fatal), return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
