"""``Outage``: what can go wrong, and when it is over."""

from __future__ import annotations

import pytest

from meshlib.testing import Outage
from meshlib.testing.chaos import Where
from meshlib.testing.outage import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_something_that_chaos_can_do(kind):
    assert callable(getattr(Where, kind))


def test_chaos_can_do_nothing_else():
    assert {name for name in vars(Where) if not name.startswith("_")} <= {*KINDS}


def test_it_is_over_after_its_seconds_or_never():
    assert Outage(start=5, seconds=2.5).end == 7.5
    assert Outage(start=5).end == float("inf")
