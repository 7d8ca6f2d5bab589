"""The connectivity of several endpoints, taken together."""

from __future__ import annotations

import itertools

import pytest

from meshlib.transport.grpcio.client.connectivity import State, together

BEST_FIRST = [State.READY, State.CONNECTING, State.IDLE, State.TRANSIENT_FAILURE, State.SHUTDOWN]


@pytest.mark.parametrize("states", list(itertools.permutations(BEST_FIRST, 2)))
def test_the_best_state_counts(states):
    assert together(list(states)) is min(states, key=BEST_FIRST.index)


def test_without_endpoints_there_is_nobody_to_connect_to():
    assert together([]) is State.TRANSIENT_FAILURE
