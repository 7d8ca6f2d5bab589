"""Effects that no thread waits for: each tells of its end once, whoever is first."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from meshlib.engine.effects import Acquire, Wait
from meshlib.engine.flight import Flight
from meshlib.engine.outcome import Failure
from meshlib.policy.circuit_limits import Place, Slots
from meshlib.transport.grpcio.client import callback_runtime
from meshlib.transport.grpcio.client.callback_runtime import (
    FromCallbacks,
    acquire_from_callbacks,
    wait_from_callbacks,
)
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from tests.support.grpc_begun import begun, dialer_of, first_send
from tests.support.grpc_runtimes import mesh_of


class Alarms:
    """One alarm, which rings when the test says so."""

    closed = cancelled = False

    def after(self, seconds, ring):
        self.seconds, self.ring = seconds, ring
        return self

    def cancel(self):
        self.cancelled = True


class InLine:
    """Somebody who waits for the only slot, which another one has."""

    def __init__(self, pending=1, timeout=2.0):
        self.slots, self.taken, self.alarms, self.told = Slots(1, pending), Place(), Alarms(), []
        assert self.slots.try_acquire(self.taken)
        self.stop = acquire_from_callbacks(Acquire(self.slots, timeout), self.told.append, self.alarms)


def test_a_slot_is_told_of_when_it_is_granted_and_the_clock_comes_too_late():
    line = InLine()
    assert (line.told, line.alarms.seconds) == ([], 2.0)
    line.slots.release(line.taken)
    line.alarms.ring()
    line.stop()
    assert (line.told, line.slots.in_use) == ([True], 1)


def test_who_waits_too_long_leaves_the_line():
    line = InLine()
    line.alarms.ring()
    line.slots.release(line.taken)
    assert (line.told, line.slots.in_use) == ([False], 0)


def test_a_full_line_is_told_at_once_and_who_stops_waiting_takes_nothing():
    assert InLine(pending=0).told == [None]
    line = InLine(timeout=None)
    assert line.alarms.seconds == float("inf")
    line.stop()
    line.slots.release(line.taken)
    assert (line.told, line.slots.in_use, line.alarms.cancelled) == ([], 0, True)


def test_the_meshs_closing_lets_those_in_line_through():
    line = InLine()
    line.alarms.closed = True
    line.alarms.ring()
    assert line.told == [True]


@pytest.mark.parametrize(
    ("steps", "told"),
    [("land ring", [True]), ("ring land", [False]), ("stop land ring", []), ("land land stop", [True])],
)
def test_a_flight_is_waited_for_until_it_lands_or_the_clock_rings(steps, told):
    flight, alarms, found = Flight(), Alarms(), []
    stop = wait_from_callbacks(Wait(flight, 1.0), found.append, alarms)
    for step in steps.split():
        {"land": flight.land, "ring": alarms.ring, "stop": stop}[step]()
    assert found == told
    landed = []
    wait_from_callbacks(Wait(flight), landed.append, Alarms())
    assert landed == [True], "it had landed already"


class Called:
    """grpcio's multicallable and its future at once."""

    def __init__(self, code=grpc.StatusCode.OK, result=lambda: b"x"):
        self.code, self.result, self.cancelled = (lambda: code), result, False

    def future(self, *arguments):
        self.arguments = arguments
        return self

    def add_done_callback(self, over):
        self.over = over

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def mesh():
    with mesh_of(1) as made:
        yield made


def sent(mesh, monkeypatch, called):
    """What was told, and what cancels the attempt."""
    monkeypatch.setattr(callback_runtime, "upstream_for", lambda *_: SimpleNamespace())
    monkeypatch.setattr(callback_runtime, "invoker", lambda *_: called)
    dialer, told = dialer_of(mesh), []
    _, exchange = begun(mesh, messages=b"data", metadata=(("x", "1"),))
    cancel = FromCallbacks(dialer.core, dialer.settings).send(first_send(exchange), told.append)
    exchange.close()
    return told, cancel


def test_an_attempt_ends_with_its_message(mesh, monkeypatch):
    called = Called()
    told, cancel = sent(mesh, monkeypatch, called)
    data, _, metadata, *_ = called.arguments
    assert (data, metadata[0]) == (b"data", ("x", "1"))
    assert told == []
    called.over(called)
    [outcome] = told
    assert type(outcome) is GrpcOutcome
    assert (outcome.message, outcome.call) == (b"x", called)
    cancel()
    assert called.cancelled


def test_whatever_raises_ends_it_too(mesh, monkeypatch):
    def odd(*_):
        raise LookupError("odd")

    called = Called(result=odd)
    told, _ = sent(mesh, monkeypatch, called)
    called.over(called)
    assert [o.failure for o in told] == [Failure.INVALID_REQUEST]

    def nobody(*_):
        raise CannotConnect("no channel")

    called.future = nobody
    told, cancel = sent(mesh, monkeypatch, called)
    assert [(o.failure, o.detail) for o in told] == [(Failure.CONNECT_FAILED, "no channel")]
    cancel()
