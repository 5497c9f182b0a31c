"""The configuration read again while the daemon runs, and what has changed in it applied.

``difference`` says what that is, ``InForce`` does it, ``Reloader`` is asked for it and does one reload at a time. The files are
checked whole first: when anything is wrong with them, nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from haulapi import calls
from hauld.config import AccountConfig, Config, ConfigurationError
from hauld.engine.account import Account
from hauld.engine.declared import CHANGED, DECLARED_ANEW, Declared
from hauld.engine.pieces import every_job
from hauld.engine.supervisor import Supervisor, is_at_work
from hauld.errors import HaulError, Refused
from hauld.model import Job
from hauld.state.base import State
from hauld.systemd import Notifier

log = logging.getLogger(__name__)

LIVE = frozenset({"daemon.log_level", "daemon.max_running_jobs", "retry.initial", "retry.max", "retry.attempts"})
"""The keys that the accounts share and that need no restart."""

HINT = "Mend that, then: haulctl reload"

# --- what is different ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Between two configurations. Accounts are named; one whose identity has changed is among those removed and those added,
    for it is another one, and ``renamed`` are the old and the new name of one identity. ``applied`` and ``restart_needed`` are
    keys that the accounts share."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    unchanged: tuple[str, ...]
    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]


def difference(before: Config, after: Config) -> Difference:
    """What has to be done to get from one to the other."""
    old, new = before.accounts, after.accounts
    stay = [name for name in new if name in old and new[name].identity == old[name].identity]
    left = {account.identity: name for name, account in old.items() if name not in stay}
    renamed = {name: left[account.identity] for name, account in new.items() if account.identity in left}
    keys = [
        f"{table}.{key.name}"
        for table in ("daemon", "store", "retry")
        for key in fields(getattr(before, table))
        if getattr(getattr(before, table), key.name) != getattr(getattr(after, table), key.name)
    ]
    return Difference(
        added=tuple(name for name in new if name not in stay and name not in renamed),
        removed=tuple(name for name in left.values() if name not in renamed.values()),
        changed=tuple(name for name in stay if new[name] != old[name]),
        renamed=tuple((before, name) for name, before in renamed.items()),
        unchanged=tuple(name for name in stay if new[name] == old[name]),
        applied=tuple(key for key in keys if key in LIVE),
        restart_needed=tuple(key for key in keys if key not in LIVE),
    )


# --- doing it ------------------------------------------------------------------------------------------------------


class InForce:
    """The configuration that the daemon works by. ``account_of`` makes an account to work with, ``settle`` applies the keys in
    ``LIVE``."""

    def __init__(
        self,
        config: Config,
        supervisor: Supervisor,
        state: State,
        declared: Declared,
        account_of: Callable[[AccountConfig], Awaitable[Account]],
        settle: Callable[[Config], None],
    ) -> None:
        self.config = config
        self._supervisor = supervisor
        self._state = state
        self._declared = declared
        self._account_of = account_of
        self._settle = settle
        self._owed: list[Job] = []  # jobs of renamed accounts that were at work, and are to go on

    async def declare(self) -> None:
        """See to it that the jobs which the configuration declares are there, and go on."""
        await self._declared.apply({name: account.mirror for name, account in self.config.accounts.items()})

    async def change(self, config: Config) -> calls.Reload:
        """Do what is different. Each step is remembered when it is done, so that after trouble with the ledger (``Transient``)
        the next change goes on from there."""
        todo = difference(self.config, config)
        for old, _ in todo.renamed:
            self._owed += await self._going(old)
        await self._remove([*todo.removed, *(old for old, _ in todo.renamed)])
        for name in (*todo.changed, *todo.added, *(new for _, new in todo.renamed)):
            await self._have(config.accounts[name])
        while self._owed:
            with contextlib.suppress(Refused):  # it was deleted meanwhile
                await self._supervisor.resume(await self._state.job(self._owed[0].id))
            del self._owed[0]
        self._settle(config)
        # what needs a restart keeps its old value, so that the next reload tells it again
        daemon = {key: getattr(self.config.daemon, key) for key in ("state", "socket", "memory_budget")}
        self.config = replace(config, daemon=replace(config.daemon, **daemon), store=self.config.store)
        return calls.Reload(
            added=list(todo.added),
            removed=list(todo.removed),
            changed=[*todo.changed, *(new for _, new in todo.renamed)],
            unchanged=list(todo.unchanged),
            applied=list(todo.applied),
            restart_needed=list(todo.restart_needed),
        )

    async def _going(self, name: str) -> list[Job]:
        """The account's jobs that are at work or watch: another name is no reason for them to end."""
        jobs = await every_job(self._state, account=self._supervisor.accounts[name].number)
        return list(filter(is_at_work, jobs))

    async def _remove(self, names: Sequence[str]) -> None:
        """All at once: each may take seconds to end."""
        ended = await asyncio.gather(*map(self._supervisor.remove, names), return_exceptions=True)
        for name, error in zip(names, ended, strict=True):
            if error is None:
                self._remember({key: account for key, account in self.config.accounts.items() if key != name})
        for error in ended:
            if error is not None:
                raise error

    async def _have(self, account: AccountConfig) -> None:
        """The account is there as it says, and so is the job that it declares."""
        before = self.config.accounts.get(account.name)
        if before is None:
            await self._supervisor.add(await self._account_of(account))
        elif replace(before, mirror=account.mirror) != account:
            await self._supervisor.replace(await self._account_of(account))
        anew = before is not None and before.mirror != account.mirror
        await self._declared.apply({account.name: account.mirror}, started=DECLARED_ANEW if anew else CHANGED)
        self._remember({**self.config.accounts, account.name: account})

    def _remember(self, accounts: Mapping[str, AccountConfig]) -> None:
        self.config = replace(self.config, accounts=accounts)


# --- being asked for it --------------------------------------------------------------------------------------------


class Reloader:
    """Reloads when it is asked to. Whoever asks while a reload is under way shares the next one. ``error`` is all that was
    wrong at the last reload, each problem on a line; None when that was nothing."""

    def __init__(
        self, read: Callable[[], Config], in_force: InForce, notifier: Notifier, asked: asyncio.Event | None = None
    ) -> None:
        """``read`` gives the configuration as it is in its files. Setting ``asked`` asks for a reload."""
        self.error: str | None = None
        self._read = read
        self._in_force = in_force
        self._notifier = notifier
        self._asked = asked or asyncio.Event()
        self._waiting: list[asyncio.Future[calls.Reload]] = []

    async def reload(self) -> calls.Reload:
        """Reload, and tell what has changed. ``Refused`` (``configuration``) when something is wrong with the files; then
        nothing has."""
        answer: asyncio.Future[calls.Reload] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._asked.set()
        return await answer

    async def run(self) -> None:
        """Reload whenever it was asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            answer: calls.Reload | Exception
            self._notifier.reloading()
            try:
                answer = await self._once()
            except HaulError as error:
                answer = error
            except Exception as error:
                log.exception("the reload broke; this is a defect of hauld", extra={"event": "reload.failed"})
                answer = error
            self._notifier.ready()
            for each in waiting:
                if each.done():
                    continue  # who asked has gone
                if isinstance(answer, Exception):
                    each.set_exception(answer)
                else:
                    each.set_result(answer)

    async def _once(self) -> calls.Reload:
        """One reload, told to the log."""
        try:
            told = await self._in_force.change(await asyncio.to_thread(self._read))
        except ConfigurationError as error:
            self.error = error.message
            log.error("the configuration cannot be used, so nothing has changed: %s", error, extra={"event": "reload.failed"})
            message = f"The configuration cannot be used, so nothing has changed.\n{error.message}"
            raise Refused("configuration", message, hint=HINT) from error
        except HaulError as error:
            log.warning("the configuration could not be applied: %s", error, extra={"event": "reload.failed"})
            raise
        self.error = None
        log.info("the configuration was read again: %s", in_words(told), extra={"event": "reload.done"})
        return told


def in_words(told: calls.Reload) -> str:
    """What a reload has changed, in half a sentence."""
    what = {
        "added": told.added,
        "removed": told.removed,
        "changed": told.changed,
        "applied": told.applied,
        "a restart is needed for": told.restart_needed,
    }
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in what.items() if names) or "nothing is different"
