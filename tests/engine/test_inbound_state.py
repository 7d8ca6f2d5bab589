"""What is compiled for a workload's server, at work."""

from __future__ import annotations

from meshlib.compiler.inbound import Inbound, InboundPorts
from meshlib.engine import inbound_state
from meshlib.engine.inbound import CLOSED
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.inbound_state import SHUT, BoundInbound, InboundState
from tests.support.fake_clock import FakeClock


def never_asked(_request, _timeout):
    raise AssertionError("no check of these asks")


def lets_in(_request):
    return None


def test_settings_are_those_of_the_port_or_of_all_others():
    special, other = Inbound((lets_in,)), Inbound()
    bound = InboundState(FakeClock(), never_asked).take(InboundPorts(other, {8080: special}))
    assert (bound.of(8080).settings, bound.of(8080).checks) == (special, (lets_in,))
    assert (bound.of(9090).settings, bound.of(0).checks) == (other, ())


def test_where_nothing_can_decide_nothing_comes_in():
    (check,) = SHUT.of(80).checks
    assert check(InboundRequest("GET", "/")) is CLOSED


def test_a_port_that_nobody_checks_is_told_of():
    checked, other = Inbound((lets_in,)), Inbound()
    state = InboundState(FakeClock(), never_asked)
    ports = [
        InboundPorts(checked, {80: other}),
        InboundPorts(other, {80: checked}),
        InboundPorts(checked, {80: checked}),
    ]
    assert [state.take(each).unchecked for each in ports] == [True, True, False]


def test_where_calls_are_noted_is_the_same_for_peers_alike_and_bounded_for_others(monkeypatch):
    monkeypatch.setattr(inbound_state, "MOST_NOTING", 2)
    bound = BoundInbound(Inbound(), ())
    assert bound.noting("", False) is bound.of_nobody
    assert bound.noting("a", True) is bound.noting("a", True)
    assert bound.noting("b", True) is not bound.noting("a", True)
    assert (len(bound._noting) <= 2, bound.noting("", False) is bound.of_nobody) == (True, True)
