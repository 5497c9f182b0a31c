"""What accounts of one host share: whether it answers, and how fast it is called on."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hauld.engine.hosts import A_SECOND, AT_ONCE, ENOUGH, Host, HostDown, Hosts
from hauld.errors import HaulError, NeedsAttention, Throttled, Transient
from hauld.retry import RetryPolicy
from support.clocks import LeapingClock

POLICY = RetryPolicy(initial=64.0, longest=900.0)


class Scene:
    """One host with the accounts a, b and c, on a clock that leaps."""

    def __init__(self) -> None:
        self.clock = LeapingClock()
        self.hosts = Hosts(self.clock, POLICY)
        self.host = self.hosts.of("mail.example:993")
        self.host.accounts |= {"a", "b", "c"}

    async def call(self, account: str, error: HaulError | None = None) -> None:
        async with self.host.connecting(account, 2):
            if error is not None:
                raise error

    async def fails(self, account: str, error: HaulError | None = None) -> HaulError:
        """The error that a call ends in."""
        with pytest.raises(HaulError) as failed:
            await self.call(account, error or unreachable())
        return failed.value

    async def die(self) -> None:
        for account in ("a", "b", "c"):
            await self.fails(account)


def unreachable(kind: str = "network") -> Transient:
    return Transient(kind, "mail.example:993 cannot be reached.", hint="Look at the network.")


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """With dice that have a dead host left alone for nearly as long as may be: they could also say not at all."""
    monkeypatch.setattr("hauld.engine.hosts.random.random", lambda: 0.999)
    return Scene()


async def test_N26_a_host_that_did_not_answer_three_times_in_a_row_is_not_called_on_by_others(scene: Scene) -> None:
    for kind, account in (("network", "a"), ("timeout", "b"), ("tls", "c")):
        assert not isinstance(await scene.fails(account, unreachable(kind)), HostDown)
    told = await scene.fails("a", AssertionError("nobody is to call"))  # type: ignore[arg-type]
    assert isinstance(told, HostDown)
    assert (told.kind, told.message, told.hint) == ("tls", "mail.example:993 cannot be reached.", "Look at the network.")
    assert 0 < told.at_least <= POLICY.initial


async def test_a_dead_host_is_tried_by_one_at_a_time_later_each_time_until_it_answers(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hauld.engine.hosts")
    await scene.die()
    scene.clock.leap(POLICY.initial)
    async with scene.host.connecting("a", 2):
        assert isinstance(await scene.fails("b"), HostDown), "while a tries, b does not"
    await scene.call("b")
    await scene.die()
    for tries in range(1, 8):
        told = await scene.fails("a")
        assert isinstance(told, HostDown)
        assert told.at_least <= POLICY.initial * 2**tries
        scene.clock.leap(POLICY.longest)
        assert not isinstance(await scene.fails("a"), HostDown)
    scene.clock.leap(POLICY.longest)
    await scene.call("c")
    events = [record.event for record in caplog.records]  # type: ignore[attr-defined]
    assert events == ["host.dead", "host.alive"] * 2


async def test_a_try_that_was_cut_off_says_nothing_and_leaves_the_next_one_free(scene: Scene) -> None:
    await scene.die()
    scene.clock.leap(POLICY.longest)
    with pytest.raises(asyncio.CancelledError):
        async with scene.host.connecting("a", 2):
            raise asyncio.CancelledError
    await scene.call("b")
    assert scene.host.proven


@pytest.mark.parametrize(
    "error",
    [
        NeedsAttention("sign-in", "The password was refused."),
        Throttled("Not so fast.", wait=9.0),
        Transient("unavailable", "The disks are being changed."),
    ],
    ids=lambda error: error.kind,
)
async def test_a_host_that_refuses_has_answered(scene: Scene, error: HaulError) -> None:
    for account in ("a", "b", "c", "a", "b"):
        await scene.fails(account)
        await scene.fails(account, error)
    await scene.call("a")


async def test_one_account_that_is_treated_badly_does_not_speak_for_the_others(scene: Scene) -> None:
    for _ in range(10):
        assert not isinstance(await scene.fails("a"), HostDown)
    scene.host.accounts -= {"b", "c"}  # but it speaks for itself
    await scene.fails("a")
    assert isinstance(await scene.fails("a"), HostDown)


async def test_trouble_of_this_machine_says_nothing_of_the_host(scene: Scene) -> None:
    for account in ("a", "b", "c", "a"):
        assert not isinstance(await scene.fails(account, Transient("files", "Too many files are open.")), HostDown)


async def test_who_asks_to_try_again_is_not_told_to_wait(scene: Scene) -> None:
    await scene.die()
    scene.host.forgive()
    await scene.call("a")


async def test_another_host_is_another_matter(scene: Scene) -> None:
    await scene.die()
    async with scene.hosts.of("mail.example:143").connecting("a", 2):
        pass
    assert scene.hosts.of("mail.example:993") is scene.host


async def test_those_who_wait_for_their_turn_are_told_when_the_host_dies_meanwhile(scene: Scene) -> None:
    """A hundred accounts on a host that never answers cost it as many tries as are under way at once."""
    hanging = asyncio.Event()
    tries = 0

    async def call(account: str) -> HaulError | None:
        nonlocal tries
        scene.host.accounts.add(account)
        try:
            async with scene.host.connecting(account, 2):
                tries += 1
                await hanging.wait()
                raise unreachable("timeout")
        except HaulError as error:
            return error

    calls = [asyncio.ensure_future(call(f"account {number}")) for number in range(100)]
    while tries < AT_ONCE:
        await asyncio.sleep(0)
    hanging.set()
    errors = await asyncio.gather(*calls)
    assert tries == AT_ONCE
    assert sum(isinstance(error, HostDown) for error in errors) == 100 - AT_ONCE


async def test_R1_no_more_connections_than_that_are_begun_within_a_second_and_under_way_to_one_host() -> None:
    clock = LeapingClock()
    hosts = Hosts(clock, POLICY)
    begun: list[float] = []
    under_way: dict[Host, int] = {}
    most = 0

    async def call(host: Host) -> None:
        nonlocal most
        async with host.connecting("a", 2):
            begun.append(clock.monotonic())
            under_way[host] = under_way.get(host, 0) + 1
            most = max(most, under_way[host])
            await asyncio.sleep(0)
            under_way[host] -= 1

    await asyncio.gather(*(call(hosts.of(f"host {number % 3}")) for number in range(200)))
    assert most <= AT_ONCE
    assert all(later - earlier >= 1.0 for earlier, later in zip(begun, begun[A_SECOND:], strict=False))
    assert begun[-1] - begun[0] == pytest.approx(200 / A_SECOND - 1)


async def test_who_listens_for_new_mail_connects_before_who_imports() -> None:
    clock = LeapingClock()
    host = Hosts(clock, POLICY).of("a")
    order: list[int] = []

    async def call(priority: int) -> None:
        async with host.connecting("a", priority):
            order.append(priority)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(priority) for priority in [3] * AT_ONCE + [2, 1, 0]))
    assert order == [3] * AT_ONCE + [0, 1, 2]


def test_enough_is_no_more_than_are_under_way_at_once() -> None:
    assert ENOUGH <= AT_ONCE
