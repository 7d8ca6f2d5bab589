"""Whether the head of a response has come is asked without waiting."""

from __future__ import annotations

from types import SimpleNamespace

from meshlib.transport.grpcio.client.initial_metadata import (
    GRACE,
    STEP,
    after_initial_metadata,
    has_initial_metadata,
    received_initial_metadata,
)


class Alarms:
    """That ring when they are told to."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.next = None

    def after(self, seconds: float, ring) -> None:
        self.waits.append(seconds)
        self.next = ring


def call(metadata=None):
    return SimpleNamespace(_state=SimpleNamespace(initial_metadata=metadata), initial_metadata=lambda: metadata)


def test_what_has_come_is_told_and_nothing_is_waited_for():
    assert has_initial_metadata(call(()))
    assert not has_initial_metadata(call())
    assert not has_initial_metadata(object()), "another grpcio"
    assert received_initial_metadata(call((("a", "1"),))) == (("a", "1"),)
    assert received_initial_metadata(call()) == ()


def test_what_has_come_goes_on_at_once():
    alarms, done = Alarms(), []
    after_initial_metadata(call(()), alarms, lambda: done.append(1))
    assert (done, alarms.waits) == ([1], [])


def test_what_has_not_is_looked_for_until_it_comes():
    alarms, done, inner = Alarms(), [], call()
    after_initial_metadata(inner, alarms, lambda: done.append(1))
    alarms.next()
    assert done == []
    inner._state.initial_metadata = ()
    alarms.next()
    assert (done, alarms.waits) == ([1], [STEP, STEP])


def test_or_until_there_is_no_grace_left():
    alarms, done = Alarms(), []
    after_initial_metadata(call(), alarms, lambda: done.append(1))
    while not done:
        alarms.next()
    assert GRACE * 0.97 <= sum(alarms.waits) <= GRACE + STEP * 1.01
