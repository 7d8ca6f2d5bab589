"""How long a source of identity waits before it asks again, and when it renews."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.reconnect import FIRST, LONGEST, delay, renewal


def test_it_waits_longer_after_each_failure_up_to_a_bound() -> None:
    longest = [max(delay(n, random.Random(seed)) for seed in range(200)) for n in range(1, 9)]
    assert longest == sorted(longest)
    assert longest[0] <= FIRST
    assert LONGEST / 2 <= longest[-1] <= LONGEST


@given(st.integers(min_value=-1, max_value=1 << 70), st.integers())
def test_it_is_never_less_than_half_nor_more_than_the_bound(failures: int, seed: int) -> None:
    assert FIRST / 2 <= delay(failures, random.Random(seed)) <= LONGEST


def test_those_that_fail_together_do_not_come_back_together() -> None:
    assert len({delay(3, random.Random(seed)) for seed in range(50)}) > 40


def test_a_certificate_is_renewed_between_half_and_four_fifths_of_its_life() -> None:
    moments = [renewal(1000.0, 2000.0, random.Random(seed)) for seed in range(300)]
    assert min(moments) >= 1500.0
    assert max(moments) <= 1800.0
    assert max(moments) - min(moments) > 250.0
