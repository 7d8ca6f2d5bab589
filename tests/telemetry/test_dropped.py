"""What telemetry had to drop, by what and why."""

from __future__ import annotations

from meshlib.telemetry.dropped import Dropped


def test_losses_add_up_by_name():
    made = Dropped()
    made.add("spans_queue_full")
    made.add("logs", 3)
    made.add("spans_queue_full", 2)
    assert made.counts() == {"logs": 3, "spans_queue_full": 3}


def test_a_forked_child_has_dropped_nothing_yet():
    made = Dropped()
    made.add("logs")
    made.after_fork()
    assert made.counts() == {}
