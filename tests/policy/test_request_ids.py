"""x-request-id, as Envoy makes it."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.request_ids import (
    AT_ONCE,
    SAMPLED,
    UNDECIDED,
    is_drawn,
    is_traced,
    new_request_id,
    new_request_ids,
    with_reason,
)


@given(st.integers())
def test_an_id_is_a_uuid_of_version_4_without_a_decision(seed):
    made = uuid.UUID(text := new_request_id(random.Random(seed)))
    assert (made.version, made.variant, str(made)) == (4, uuid.RFC_4122, text)
    assert not is_traced(text)


@given(st.integers())
def test_so_are_those_that_are_made_at_once_and_all_are_others(seed):
    ids = [made.decode() for made in new_request_ids(random.Random(seed))]
    for text in ids:
        made = uuid.UUID(text)
        assert (made.version, made.variant, str(made)) == (4, uuid.RFC_4122, text)
        assert not is_traced(text)
    assert len(set(ids)) == AT_ONCE


def test_every_other_bit_of_them_is_drawn():
    rng, ones, zeros = random.Random(1), 0, 0
    for _ in range(20):
        for made in new_request_ids(rng):
            number = uuid.UUID(made.decode()).int
            ones, zeros = ones | number, zeros | ~number
    same = 2**128 - 1 & ~(ones & zeros)
    assert same == 0xF << 76 | 0b11 << 62


def test_the_15th_character_holds_the_decision():
    made = new_request_id(random.Random(1))
    traced = with_reason(made, SAMPLED)
    assert (traced[14], is_traced(traced)) == ("9", True)
    assert with_reason(traced, UNDECIDED) == made


@pytest.mark.parametrize(("reason", "traced"), [("9", True), ("a", True), ("b", True), ("4", False), ("c", False)])
def test_what_envoys_reasons_say(reason, traced):
    assert is_traced(f"0af76519-16cd-{reason}3dd-8448-eb211c80319c") is traced


def test_what_is_no_uuid_says_nothing():
    assert not is_traced("9" * 35)
    assert is_drawn("my own id", 100) is None
    assert is_drawn("z" * 36, 100) is None


@pytest.mark.parametrize(
    ("request_id", "percentage", "drawn"),
    [
        # Envoy: the first 32 bits modulo 10000, below the percentage in hundredths
        ("00002710-0000-4000-8000-000000000000", 0.01, True),
        ("00002710-0000-4000-8000-000000000000", 0, False),
        ("00000064-0000-4000-8000-000000000000", 1, False),
        ("00000063-0000-4000-8000-000000000000", 1, True),
        ("0000270f-0000-4000-8000-000000000000", 100, True),
        ("0000270f-0000-4000-8000-000000000000", 99.99, False),
    ],
)
def test_the_same_id_is_drawn_wherever_it_is_asked(request_id, percentage, drawn):
    assert is_drawn(request_id, percentage) is drawn


def test_about_as_many_are_drawn_as_are_asked_for():
    rng = random.Random(7)
    assert 900 < sum(bool(is_drawn(new_request_id(rng), 10)) for _ in range(10_000)) < 1100
