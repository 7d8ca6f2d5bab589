"""New sockets of blocking clients: addresses, names, paths, and none once it is closed."""

from __future__ import annotations

import socket

import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import TcpKeepalive
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.threads_dial import Dialler
from meshlib.transport.upstream.tls import HTTP1_ONLY
from tests.support.fake_clock import FakeClock

ADDRESSES = ("127.0.0.2", "127.0.0.1")  # nobody listens at the first


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def dialler():
    clock = FakeClock()
    names = Names(clock, lambda name: ADDRESSES)
    yield Dialler(clock.monotonic, names)
    names.close()


def dial(dialler: Dialler, target: Target, limit: float | None = 10.0) -> socket.socket | Outcome:
    return dialler.dial(target, HTTP1_ONLY, limit)


def test_to_an_address_without_delay_and_probed_as_configured(dialler, listening):
    target = Target("127.0.0.1", listening.getsockname()[1], keepalive=TcpKeepalive(probes=3, time=60, interval=5))
    with dial(dialler, target) as sock:
        assert sock.getpeername() == listening.getsockname()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert dialler.under_way == set()


def test_to_the_first_address_of_a_name_that_answers(dialler, listening):
    with dial(dialler, Target("a.test", listening.getsockname()[1])) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_to_a_path(dialler, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with dial(dialler, Target(f"unix://{path}", 0)) as sock:
            assert sock.getpeername() == path


@pytest.mark.parametrize("host", ["127.0.0.1", "a.test"])
def test_nobody_there_is_a_failure_with_its_cause(dialler, listening, host):
    port = listening.getsockname()[1]
    listening.close()
    found = dial(dialler, Target(host, port))
    assert found.failure is Failure.CONNECT_FAILED
    assert isinstance(found.error, ConnectionRefusedError)
    assert dialler.under_way == set()


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_no_time_left_is_a_timeout_before_anything_is_done(dialler, listening, limit):
    with pytest.raises(TimeoutError):
        dial(dialler, Target("127.0.0.1", listening.getsockname()[1]), limit)


def test_the_addresses_of_a_name_share_its_time(dialler, listening, monkeypatch):
    clock, tried = [0.0], []

    def reach(address, port, limit):
        tried.append((address, limit))
        clock[0] += 6.0
        raise OSError("nobody there")

    dialler._now = lambda: clock[0]
    monkeypatch.setattr(dialler, "_reach_port", reach)
    dial(dialler, Target("a.test", 1), 10.0)
    assert tried == [("127.0.0.2", 10.0), ("127.0.0.1", 4.0)]


def test_closed_it_makes_none_and_breaks_off_what_is_under_way(dialler, listening):
    ours, theirs = socket.socketpair()
    dialler.under_way.add(ours)
    dialler.close()
    assert theirs.recv(1) == b""
    assert dial(dialler, Target("127.0.0.1", listening.getsockname()[1])).failure is Failure.CLOSED
    ours.close()
    theirs.close()


@pytest.mark.parametrize("host", ["a.test", "169.254.169.254", "::ffff:169.254.169.254"])
def test_a_guarded_target_is_never_connected_to_link_local_addresses(host, monkeypatch):
    clock = FakeClock()
    names = Names(clock, lambda name: ("169.254.169.254", "fe80::1"))
    dialler = Dialler(clock.monotonic, names)
    reached = []
    monkeypatch.setattr(dialler, "_reach", lambda *asked: reached.append(asked))
    outcome = dial(dialler, Target(host, 80, guarded=True))
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "link-local or metadata address" in outcome.detail
    assert reached == []
    names.close()


def test_a_guarded_target_is_connected_to_its_other_addresses(listening):
    clock = FakeClock()
    names = Names(clock, lambda name: ("169.254.169.254", "127.0.0.1"))
    with dial(Dialler(clock.monotonic, names), Target("a.test", listening.getsockname()[1], guarded=True)) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"
    names.close()
