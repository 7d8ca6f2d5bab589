"""One connection of blocking clients: its timeouts, what it says of itself, what goes back with it."""

from __future__ import annotations

import socket

import pytest

from meshlib.policy.circuit_limits import Slots
from meshlib.transport.upstream.threads_connection import TIMED_OUT
from tests.support.lender import Lent


@pytest.fixture(params=[False, True], ids=["plain text", "TLS"])
def lent(request):
    made = Lent(request.param)
    yield made
    made.close()


class Counted:
    """A socket that counts what is set on it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.set: list[int] = []

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        self.set.append(name)
        self._sock.setsockopt(level, name, value)

    def __getattr__(self, name: str):
        return getattr(self._sock, name)


def test_the_kernel_hears_of_a_timeout_only_when_it_changes(lent):
    lent.connection.raw = sock = Counted(lent.connection.raw)
    for seconds in (5.0, 5.0, 5.0, None, None, 5.0):
        lent.connection.set_timeout(seconds)
    assert sock.set == [socket.SO_RCVTIMEO, socket.SO_SNDTIMEO] * 3


@pytest.mark.parametrize("seconds", [0.05, 0.0, -1.5])
def test_a_wait_ends_with_its_timeout_and_no_time_left_is_not_for_ever(lent, seconds):
    lent.connection.set_timeout(seconds)
    with pytest.raises(TIMED_OUT):
        lent.connection.sock.recv(1)


def test_it_is_quiet_until_something_comes_be_it_the_end(lent):
    assert lent.connection.quiet()
    lent.far.sendall(b"x")
    assert not lent.connection.quiet()
    assert lent.connection.receive_some() == b"x"
    assert lent.connection.receive_some() is None
    lent.far.close()
    assert not lent.connection.quiet()
    assert lent.connection.receive_some() == b""


def test_what_breaks_off_a_request_does_nothing_to_the_next(lent):
    lent.connection.requests = 1
    first = lent.connection.breaker()
    lent.connection.requests = 2
    first()
    assert lent.connection.quiet()
    lent.connection.breaker()()
    assert lent.connection.receive_some() == b""


def test_its_slot_goes_back_once(lent):
    slots = Slots(1)
    assert slots.try_acquire()
    lent.connection.slot = slots
    lent.connection.close()
    lent.connection.close()
    assert slots.in_use == 0
