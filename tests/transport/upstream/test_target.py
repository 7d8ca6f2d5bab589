"""Where a connection goes, and when it has served."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.clock import SystemClock
from meshlib.identity.servers import Servers
from meshlib.policy.circuit_limits import TcpKeepalive
from meshlib.transport.upstream.mutual import MutualTls
from meshlib.transport.upstream.target import Target, keep_alive, smaller, worn_out, worn_out_or_superseded

limits = st.none() | st.floats(0, 10)


@given(limits, limits, limits)
def test_the_stricter_of_two_limits_none_being_none(a, b, c):
    given_ = [x for x in (a, b) if x is not None]
    assert smaller(a, b) == smaller(b, a) == (min(given_) if given_ else None)
    assert smaller(smaller(a, b), c) == smaller(a, smaller(b, c))


def connection(target: Target, requests: int = 0, opened: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(target=target, requests=requests, opened=opened)


@pytest.mark.parametrize(
    ("settings", "requests", "age", "worn"),
    [
        ({}, 10**6, 10.0**6, False),
        ({"max_requests": 3}, 2, 0.0, False),
        ({"max_requests": 3}, 3, 0.0, True),
        ({"max_duration": 5.0}, 1, 4.9, False),
        ({"max_duration": 5.0}, 0, 5.0, True),
        ({"max_duration": 0.0}, 0, 0.0, True),
    ],
)
def test_a_connection_wears_out_by_requests_or_age(settings, requests, age, worn):
    target = Target("127.0.0.1", 80, **settings)
    assert worn_out(connection(target, requests), age) is worn
    assert target.wears is bool(settings)


def test_a_target_that_nobody_refers_to_wears_its_connections_out_after_their_call():
    target = Target("127.0.0.1", 80)
    target.retire()
    assert target.retired
    assert target.wears
    assert not worn_out(connection(target, 0), 0.0)
    assert worn_out(connection(target, 1), 0.0)


def mutual_target(**settings: object) -> Target:
    return Target("127.0.0.1", 80, MutualTls(Servers(None, tuple, SystemClock), (), "a test"), **settings)


def test_over_mtls_of_the_mesh_a_connection_is_superseded_by_new_certificates():
    target = mutual_target()
    assert target.wears
    current = SimpleNamespace(replaced=False)
    vouched = SimpleNamespace(credentials=current)
    used = SimpleNamespace(target=target, requests=1, opened=0.0, vouched=vouched, leaving=False)
    assert not worn_out_or_superseded(used, 0.0)
    current.replaced = True
    assert worn_out_or_superseded(used, 0.0)
    current.replaced, used.leaving = False, True
    assert worn_out_or_superseded(used, 0.0)


@pytest.mark.parametrize(
    "settings", [{"max_requests": 1}, {"max_duration": 0.0}, {}], ids=["requests", "age", "nobody refers to it"]
)
@pytest.mark.parametrize("mutual", [True, False], ids=["mTLS", "plain text"])
def test_one_that_is_not_superseded_may_be_worn_out(settings, mutual):
    target = mutual_target(**settings) if mutual else Target("127.0.0.1", 80, None, **settings)
    vouched = SimpleNamespace(credentials=SimpleNamespace(replaced=False)) if mutual else None
    used = SimpleNamespace(target=target, requests=1, opened=0.0, vouched=vouched, leaving=False)
    if not settings:
        assert not worn_out_or_superseded(used, 0.0)
        target.retire()
    assert worn_out_or_superseded(used, 0.0)


def test_targets_are_compared_by_identity_and_shown_as_people_know_them():
    assert Target("127.0.0.1", 80) != Target("127.0.0.1", 80)
    assert str(Target("127.0.0.1", 80)) == "127.0.0.1:80"
    assert str(Target("10.0.0.1", 80, label="reviews:80")) == "reviews:80"
    assert str(Target("unix:///run/a.sock", 0)) == "unix:///run/a.sock"
    assert [Target(host, 80).is_name for host in ("reviews", "127.0.0.1", "::1")] == [True, False, False]
    assert Target("a", 80).scheme == b"http"


def test_idle_connections_are_probed_as_configured():
    with socket.socket() as sock:
        keep_alive(sock, TcpKeepalive(probes=3, time=60, interval=5))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        found = [
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{n}"))
            for n in ("KEEPCNT", "KEEPIDLE", "KEEPINTVL")
        ]
        assert found == [3, 60, 5]
    with socket.socket() as sock:
        before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        keep_alive(sock, TcpKeepalive())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == before
