"""The one place that decides whether something is tried again."""

from __future__ import annotations

import pytest

from hauld.errors import Fatal, ItemRejected, NeedsAttention, StaleCursor, Throttled, Transient
from hauld.retry import LONGEST_LOCAL, LONGEST_THROTTLE, RetryPolicy, decide

POLICY = RetryPolicy(initial=2, longest=900, attempts=5)


def most(error: Exception, failures: int) -> float | None:
    return decide(error, failures, POLICY, lambda: 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("failures", "step"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 900), (10_000, 900)])
def test_the_step_doubles_up_to_the_longest(failures: int, step: float) -> None:
    assert most(Transient("network", "gone"), failures) == step


def test_the_dice_choose_anything_from_nothing_to_the_step() -> None:
    error = Transient("network", "gone")
    assert [decide(error, 3, POLICY, lambda d=dice: d) for dice in (0.0, 0.25, 0.5)] == [0.0, 2.0, 4.0]


@pytest.mark.parametrize("kind", ["disk", "files", "locked"])
@pytest.mark.parametrize(("failures", "step"), [(1, 2), (4, 16), (5, LONGEST_LOCAL), (10_000, LONGEST_LOCAL)])
def test_L5_trouble_of_this_machine_is_looked_at_again_within_half_a_minute(kind: str, failures: int, step: float) -> None:
    assert most(Transient(kind, "full"), failures) == step


def test_a_policy_that_is_more_impatient_than_that_is_kept_to() -> None:
    assert decide(Transient("disk", "full"), 9, RetryPolicy(initial=1, longest=5), lambda: 1.0) == 5


def test_N7_what_should_be_retried_slowly_is_not_retried_sooner() -> None:
    assert decide(Transient("tls", "handshake", at_least=300), 1, POLICY, lambda: 0.0) == 300


def test_N16_what_the_origin_named_is_kept_to_up_to_an_hour() -> None:
    assert decide(Throttled("later", wait=299.91), 7, POLICY, lambda: 0.0) == 299.91
    assert decide(Throttled("much later", wait=10**9), 1, POLICY, lambda: 0.0) == LONGEST_THROTTLE


def test_N12_a_refused_password_is_believed_the_third_time() -> None:
    refused = NeedsAttention("sign-in", "refused", tries=3)
    assert most(refused, 1) == 2
    assert most(refused, 2) == 4
    assert most(refused, 3) is None


def test_what_a_person_has_to_mend_is_not_tried_again() -> None:
    assert most(NeedsAttention("certificate", "expired"), 1) is None
    assert most(Fatal("damaged", "the ledger"), 1) is None
    assert most(ItemRejected("missing", "gone"), 1) is None


def test_a_stale_cursor_is_followed_by_a_fresh_listing() -> None:
    assert most(StaleCursor("renumbered"), 1) == 2
