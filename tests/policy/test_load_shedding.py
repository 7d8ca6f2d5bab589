"""When a server is late, and whom it turns away first."""

from __future__ import annotations

import pytest

from meshlib.policy.load_shedding import PRIORITIES, WINDOW, Lateness, is_late, may_join, share_of


def test_what_counts_is_the_99th_percentile_of_a_window_not_its_average():
    late = Lateness()
    for step in range(98):
        late.record(0.0002, step * 0.001)
    late.record(0.3, 0.098)
    late.record(0.3, 0.099)
    assert late.seconds(0.0995) == 0.3


def test_one_of_a_hundred_is_not_the_99th_percentile():
    late = Lateness()
    for step in range(99):
        late.record(0.0002, step * 0.001)
    late.record(0.3, 0.099)
    assert late.seconds(0.0995) == 0.0002


def test_a_window_counts_until_the_next_is_over_and_is_forgotten_then():
    late = Lateness()
    late.record(0.3, 1.0)
    assert late.seconds(1.05) == 0.3
    assert late.seconds(1.0 + WINDOW) == 0.3
    late.record(0.0, 1.0 + WINDOW + 0.01)
    assert late.seconds(1.0 + WINDOW + 0.02) == 0.3
    late.record(0.0, 1.0 + 2 * WINDOW + 0.03)
    assert late.seconds(1.0 + 2 * WINDOW + 0.04) == 0.0


def test_a_window_is_over_when_its_time_is_whenever_somebody_asks_next():
    late = Lateness()
    late.record(0.3, 1.0)
    assert late.seconds(60.0) == 0.0
    late.record(0.2, 61.0)
    late.record(0.0, 90.0)
    assert late.seconds(90.0) == 0.0


def test_nobody_is_late_before_anything_was_measured():
    assert Lateness().seconds(5.0) == 0.0


def test_what_should_have_come_by_now_is_late_already():
    """The handler that blocks the loop is over, and its requests come before the loop has measured itself."""
    late = Lateness()
    late.record(0.0, 1.0)
    late.expect(1.005)
    assert late.seconds(1.004) == 0.0
    assert late.seconds(1.305) == pytest.approx(0.3)
    late.stop()
    assert late.seconds(1.305) == 0.0


def test_who_matters_less_is_turned_away_first():
    shares = [share_of(priority) for priority in PRIORITIES]
    assert shares == [None, 1.0, 0.8, 0.5]
    assert [may_join(7, 10, share) for share in shares if share is not None] == [True, True, False]
    assert [is_late(0.09, 0.1, share) for share in shares if share is not None] == [False, True, True]


def test_of_the_smallest_limit_one_may_be_used_by_all():
    assert may_join(0, 1, 0.5)
    assert not may_join(1, 1, 1.0)
