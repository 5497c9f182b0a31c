"""Who has to wait at the door, and who does not."""

from __future__ import annotations

from hauld.rpc.turns import CRUMB, FEW, MEMORY, SLOWER, Allowance, Crumbs, Rate


def test_who_sends_a_byte_at_a_time_goes_on_doing_so_when_a_line_has_ended() -> None:
    crumbs = Crumbs()
    for _ in range(FEW):
        crumbs.took(b"{", whole=False)
        assert not crumbs.are_a_habit
    crumbs.took(b"}", whole=False)
    assert crumbs.are_a_habit
    crumbs.took(b"]\n[", whole=False)
    assert crumbs.are_a_habit


def test_a_whole_line_or_a_large_part_of_one_is_no_crumb() -> None:
    for data, whole in ((b"{}\n", True), (b"x" * CRUMB, False)):
        crumbs = Crumbs()
        for _ in range(2 * FEW):
            crumbs.took(b"{", whole=False)
        crumbs.took(data, whole=whole)
        assert not crumbs.are_a_habit
        crumbs.took(b"{", whole=False)
        assert not crumbs.are_a_habit


def test_an_allowance_grows_back_as_fast_as_its_rate_and_no_further() -> None:
    allowance = Allowance(Rate(at_once=10, a_second=2.0))
    assert allowance.spend(10, now=100.0) == 0.0
    assert allowance.spend(4, now=100.0) == 2.0
    assert not allowance.covers(1, now=102.0)
    assert allowance.covers(1, now=102.5)
    assert allowance.covers(10, now=1000.0)
    assert not allowance.covers(11, now=1000.0)


def test_an_allowance_that_was_exceeded_grows_back_more_slowly_until_that_is_forgotten() -> None:
    rate = Rate(at_once=10, a_second=2.0)
    allowance = Allowance(rate)
    allowance.spend(10, now=100.0)
    allowance.exceed(now=100.0)
    assert not allowance.covers(1, now=100.4 + 1 / rate.a_second)
    assert allowance.covers(1, now=100.1 + SLOWER / rate.a_second)
    allowance.spend(1, now=100.1 + SLOWER / rate.a_second)
    assert allowance.covers(10, now=100.1 + MEMORY)
    assert not allowance.covers(11, now=100.1 + MEMORY)
