"""The mesh host that a gRPC target names."""

from __future__ import annotations

import pytest

from meshlib.engine import route
from meshlib.errors import MeshError
from meshlib.transport.grpcio.client.dialer import authority_of
from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, resources
from tests.support.resources import to


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("ratings:9080", "ratings:9080"),
        ("ratings", "ratings"),
        ("dns:///ratings:9080", "ratings:9080"),
        ("dns://8.8.8.8/ratings:9080", "ratings:9080"),
        ("dns:ratings:9080", "ratings:9080"),
        ("passthrough:///ratings:9080", "ratings:9080"),
        ("ipv4:127.0.0.1:9080", "127.0.0.1:9080"),
        ("[::1]:9080", "[::1]:9080"),
    ],
)
def test_a_target_names_a_host(target, host):
    assert authority_of(target) == host


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("unix:/tmp/socket", "a socket of this machine"),
        ("unix-abstract:name", "a socket of this machine"),
        ("ratings:http", "'http' in 'ratings:http' is not a port"),
        ("", "needs the host to call"),
    ],
)
def test_a_target_that_names_none_is_refused_with_the_remedy(target, words):
    with pytest.raises(MeshError, match=words):
        authority_of(target)


def rules(*headers):
    """One for each name of a header, by its presence, and one for all other calls."""
    matches = [{"name": name, "match": [{"headers": {name: {}}}], "route": [to(HOST)]} for name in headers]
    return [*matches, {"name": "others", "route": [to(HOST)]}]


def taken(channel, method, timeout=None, metadata=None):
    """The rule of a call."""
    return channel.dialer.routed(method, b"", timeout, metadata, None, None).record.rule_name


@pytest.fixture
def method():
    return Method("unary_unary", "/shop.Ratings/Get", None, None)


@pytest.fixture
def looked(monkeypatch):
    """The requests whose rule was looked up."""
    seen, found = [], route.route
    monkeypatch.setattr(route, "route", lambda snapshot, view: (seen.append(view), found(snapshot, view))[1])
    return seen


remembers = pytest.mark.skipif(PLAIN, reason="nothing is remembered")


@remembers
def test_the_rule_of_a_method_without_metadata_is_looked_up_once(method, looked):
    with mesh_of(1, rules=rules("x")) as mesh, mesh.grpc_channel(TARGET) as channel:
        assert [taken(channel, method, timeout) for timeout in (None, 1.0, 2.0)] == ["others"] * 3
        assert len(looked) == 1
        assert taken(channel, method, metadata=[("x", "1")]) == "x"
        assert taken(channel, method) == "others"


@remembers
def test_where_a_rule_looks_at_the_timeout_each_call_is_looked_at(method, looked):
    with mesh_of(1, rules=rules("grpc-timeout")) as mesh, mesh.grpc_channel(TARGET) as channel:
        assert [taken(channel, method, timeout) for timeout in (None, 1.0, None)] == [
            "others",
            "grpc-timeout",
            "others",
        ]
        assert len(looked) == 3


def test_a_reload_forgets_the_rules_of_methods(method):
    with mesh_of(1, rules=rules("x")) as mesh, mesh.grpc_channel(TARGET) as channel:
        assert taken(channel, method) == "others"
        mesh.apply(resources(1, rules=[{"name": "new", "route": [to(HOST)]}]))
        assert taken(channel, method) == "new"


@remembers
def test_methods_that_come_and_go_are_not_kept(method, monkeypatch):
    monkeypatch.setattr(route, "MOST_KINDS", 4)
    with mesh_of(1, rules=rules("x")) as mesh, mesh.grpc_channel(TARGET) as channel:
        for _ in range(20):
            taken(channel, Method("unary_unary", "/shop.Ratings/Get", None, None))
            assert len(mesh._core.live.taken) <= 4


def test_timeouts_are_those_of_each_call(method):
    with mesh_of(1) as mesh, mesh.grpc_channel(TARGET) as channel:
        for timeout in (None, 1.0, 1.0, None, 2.0):
            call = channel.dialer.routed(method, b"", timeout, None, None, None)
            assert call.timeouts.read == timeout
