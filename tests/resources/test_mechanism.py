"""What mechanisms share."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from meshlib.resources.mechanism import AdaptiveConcurrency, Mechanism, RedisStorage


def test_a_mechanism_enforces_unless_it_says_shadow():
    assert Mechanism().mode == "enforce"
    assert Mechanism(mode="shadow").mode == "shadow"
    with pytest.raises(ValidationError):
        Mechanism(mode="off")


def test_defaults_and_what_must_be_there():
    adaptive = AdaptiveConcurrency()
    assert (adaptive.algorithm, adaptive.min_limit, adaptive.max_limit) == ("gradient", 1, 1000)
    with pytest.raises(ValidationError):
        RedisStorage()
