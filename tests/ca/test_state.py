"""What an authority has decided is one small file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.ca.folders import BadStore
from meshlib.ca.state import State, Step

FILE = Path("ca/ca.json")


@pytest.mark.parametrize(
    ("signing", "trusted", "step"), [(1, (1,), Step.NONE), (1, (1, 2), Step.TRUST), (2, (1, 2), Step.SIGN)]
)
def test_the_step_of_a_change_follows_from_who_signs_and_who_is_trusted(
    signing: int, trusted: tuple[int, ...], step: Step
) -> None:
    assert State("cluster.local", signing, trusted).step is step


def test_it_is_read_as_it_was_written() -> None:
    state = State("cluster.local", 2, (1, 2), rsa=True, ttl=5.0)
    assert State.parse(state.dump(), FILE) == state


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"signing": 2', b'"signing": 3'),  # who is not trusted
        (b'"signing": 2', b'"signing": true'),
        (b'"signing": 2', b'"signing": "2"'),
        (b'"trustDomain": "a"', b'"trustDomain": null'),
        (b'"rsa": false', b'"rsa": 1'),
        (b'"rootSeconds"', b'"seconds"'),
    ],
)
def test_what_nobody_has_written_is_damaged(old: bytes, new: bytes) -> None:
    text = State("a", 2, (1, 2)).dump()
    assert old in text
    with pytest.raises(BadStore, match=r"ca/ca\.json is damaged"):
        State.parse(text.replace(old, new), FILE)


@given(st.binary(max_size=100))
def test_garbage_is_damaged(text: bytes) -> None:
    with pytest.raises(BadStore, match="is damaged"):
        State.parse(text, FILE)
