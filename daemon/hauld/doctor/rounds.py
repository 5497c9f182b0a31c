"""The rounds of the doctor: the machine, then each account, some of them side by side, none for longer than it may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime

from haulapi.calls import Check, Diagnosis
from hauld.config import AccountConfig, Config, ConfigurationError
from hauld.doctor import machine
from hauld.errors import HaulError, Transient
from hauld.model import Trouble
from hauld.sources.base import Examiner, Finding

AT_ONCE = 4
"""Accounts that are looked at at the same time."""

A_STEP, AN_ACCOUNT = 10.0, 30.0
"""Seconds that one step may take, and all of an account together."""

MACHINE = ("state", "store", "socket", "clock", "open files")
"""What is looked at of the machine, after the configuration."""

REFUSED = "sign-in"
"""The kind of trouble that another sign-in may make worse: servers lock accounts."""


class Doctor:
    """``read`` reads the configuration as it is in its files, ``examiner`` gives what looks at the way to an account. Of a
    running daemon, ``in_force`` is the configuration that it works by, ``refused`` why the last reload changed nothing, and
    ``trouble`` what an account needs a person for."""

    def __init__(
        self,
        read: Callable[[], Config],
        examiner: Callable[[AccountConfig], Examiner],
        *,
        in_force: Callable[[], Config] | None = None,
        refused: Callable[[], str | None] = lambda: None,
        trouble: Callable[[str], Trouble | None] = lambda _: None,
        step: float = A_STEP,
        whole: float = AN_ACCOUNT,
    ) -> None:
        self._read = read
        self._examiner = examiner
        self._in_force = in_force
        self._refused = refused
        self._trouble = trouble
        self._step = step
        self._whole = whole

    async def diagnose(self, account: str | None = None) -> Diagnosis:
        """Look at everything, or at the machine and that account."""
        config, checks = await asyncio.to_thread(self._look_here)
        if config is None:
            return Diagnosis(checks=[*checks, *machine.skipped([*MACHINE, "accounts"])])
        if account is not None and account not in config.accounts:
            return Diagnosis(checks=[*checks, _unknown(account, config)])
        wanted = [each for name, each in config.accounts.items() if account in (None, name)]
        turns = asyncio.Semaphore(AT_ONCE)

        async def in_turn(each: AccountConfig) -> list[Check]:
            async with turns:
                return await self._visit(each)

        for found in await asyncio.gather(*map(in_turn, wanted)):
            checks += found
        return Diagnosis(checks=checks)

    # --- the machine ---

    def _look_here(self) -> tuple[Config | None, list[Check]]:
        """The configuration whose accounts are to be looked at, and what was found of the machine."""
        checks: list[Check] = []
        written = None
        try:
            written = self._read()
            checks += machine.configuration(written)
        except ConfigurationError as error:
            checks += machine.wrong_configuration(error)
        config = written if self._in_force is None else self._in_force()
        if config is not None:
            checks += self._not_in_force(written)
            checks += _of_the_machine(config)
        return config, checks

    def _not_in_force(self, written: Config | None) -> Iterator[Check]:
        """What was written since the daemon read it."""
        if written is None or self._in_force is None:
            return
        if self._refused() is not None:
            message = "the last reload found mistakes that are mended now; hauld works by what was there before"
            yield Check(name="configuration", status="warning", message=message, hint="Put it into force: haulctl reload")
        elif written != self._in_force():
            message = "its files say something else than hauld works by"
            hint = "Put it into force: haulctl reload (what it names as needing a restart: systemctl restart hauld)"
            yield Check(name="configuration", status="warning", message=message, hint=hint)

    # --- the accounts ---

    async def _visit(self, account: AccountConfig) -> list[Check]:
        """All there is to say of one account."""
        examiner = self._examiner(account)
        trouble = self._trouble(account.name)
        known = trouble if trouble is not None and trouble.kind == REFUSED else None
        checks: list[Check] = []
        left = list(examiner.steps)
        try:
            async with asyncio.timeout(self._whole), aclosing(examiner.examine(sign_in=known is None)) as steps:
                while (finding := await self._next(steps)) is not None:
                    checks.append(_found(account, finding))
                    if finding.topic in left:
                        left.remove(finding.topic)
        except TimeoutError:
            late = f"this took longer than {self._step:g} seconds, or all together longer than {self._whole:g}"
            checks.append(_failed(left.pop(0), account, Transient("timeout", late)))
        except HaulError as error:
            checks.append(_failed(left.pop(0), account, error))
        else:
            if known is not None:
                checks.append(_known(left.pop(0), account, known))
        return [*checks, *machine.skipped(left, account.name)]

    async def _next(self, steps: AsyncGenerator[Finding, None]) -> Finding | None:
        async with asyncio.timeout(self._step):
            return await anext(steps, None)


def _unknown(account: str, config: Config) -> Check:
    message = "the configuration has no account of that name"
    hint = f"The accounts are: {', '.join(config.accounts) or 'none yet'}."
    return Check(name="account", account=account, status="failed", message=message, hint=hint, kind="not_found")


def _of_the_machine(config: Config) -> Iterator[Check]:
    try:
        mounted = machine.mounts(machine.MOUNTS.read_text("utf-8", "surrogateescape"))
    except OSError:
        mounted = []
    yield from machine.directories(config, mounted)
    yield machine.socket_file(config.daemon.socket)
    yield machine.clock(config, datetime.now(UTC))
    yield machine.open_files(config)


def _found(account: AccountConfig, finding: Finding) -> Check:
    """A step that succeeded, perhaps with a word of warning."""
    message = f"{kept(account)} {finding.message}" if finding.topic == "secret" else finding.message
    status = "ok" if finding.hint is None else "warning"
    return Check(name=finding.topic, account=account.name, status=status, message=message, hint=finding.hint)


def _failed(step: str, account: AccountConfig, error: HaulError) -> Check:
    hint = error.hint
    if "not yet valid" in error.message:
        hint = f"Check the clock of this machine: it says {datetime.now(UTC):%Y-%m-%d %H:%M UTC}."
    return Check(name=step, account=account.name, status="failed", message=error.message, hint=hint, kind=error.kind)


def _known(step: str, account: AccountConfig, trouble: Trouble) -> Check:
    """Trouble that is not looked for again."""
    message = f"not tried, because hauld was refused before: {trouble.message}"
    hint = f"{trouble.hint or 'Check user and password.'} Then start a job of it, or try: haulctl test {account.name}"
    return Check(name=step, account=account.name, status="failed", message=message, hint=hint, kind=trouble.kind)


def kept(account: AccountConfig) -> str:
    """How the account's secret is kept."""
    if account.token_command is not None:
        return f"the token that {account.token_command[0]} gives"
    if account.password_command is not None:
        return f"the password that {account.password_command[0]} gives"
    if account.password_file is not None:
        return f"the password in {account.password_file}"
    if account.credential is not None:
        return f"the password in the credential {account.credential}"
    return "the password in the keyring"
