"""What an endpoint's state says of whether it may be picked."""

from __future__ import annotations

import pytest

from meshlib.policy.endpoint import EndpointState


def test_a_new_endpoint_is_idle_usable_and_unknown():
    made = EndpointState("127.0.0.1:80")
    assert (made.usable, made.active, made.weight, made.latency, made.outlier) == (True, 0, 1, None, None)
    assert made.since == 0.0
    assert not EndpointState("127.0.0.1:80", healthy=False).usable


@pytest.mark.parametrize(
    ("attribute", "value", "mark"),
    [
        ("healthy", False, "unhealthy"),
        ("ejected", True, "ejected"),
        ("serving", False, "unhealthy"),
        ("avoided", True, "unreachable"),
    ],
)
def test_each_verdict_alone_takes_it_out_of_use_and_shows(attribute, value, mark):
    made = EndpointState("127.0.0.1:80")
    assert repr(made) == "<EndpointState 127.0.0.1:80 active=0>"
    setattr(made, attribute, value)
    assert not made.usable
    assert repr(made) == f"<EndpointState 127.0.0.1:80 {mark} active=0>"


def test_that_a_connection_failed_takes_nobody_out_by_itself():
    made = EndpointState("127.0.0.1:80")
    made.reachable = False
    assert made.usable


def test_it_has_no_room_for_what_is_not_its_own():
    with pytest.raises(AttributeError):
        EndpointState("a").other = 1
