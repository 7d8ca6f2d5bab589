"""One attempt with a single response, the caller's thread waiting: what it comes to, and on which channel it is made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from meshlib.engine.outcome import Failure
from meshlib.transport.grpcio.client import thread_runtime
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.thread_runtime import Blocking
from meshlib.transport.grpcio.client.upstream import Upstream
from tests.support.grpc_begun import begun, dialer_of, first_send
from tests.support.grpc_echo import EchoServer
from tests.support.grpc_runtimes import HOST, mesh_of
from tests.support.resources import to

TOLD = [{"route": [{**to(HOST), "headers": {"response": {"set": {"x": "1"}}}}]}]


@pytest.fixture
def server():
    with EchoServer("a") as made:
        yield made


@pytest.fixture
def mesh(server):
    with mesh_of(server) as made:
        yield made


def blocking(mesh):
    dialer = dialer_of(mesh)
    return Blocking(dialer.core, dialer.settings)


def sent(mesh, **more):
    """The outcome of a first attempt, and its effect."""
    _, exchange = begun(mesh, **more)
    effect = first_send(exchange)
    outcome = blocking(mesh).send(effect)
    exchange.close()
    return outcome, effect


def test_its_message_and_grpcios_call_are_the_outcome(server, mesh):
    outcome, _ = sent(mesh, metadata=(("y", "2"),))
    assert type(outcome) is GrpcOutcome
    assert (outcome.message.server, outcome.code, outcome.grpc_status) == ("a", 0, None)
    assert dict(iter(outcome.call.trailing_metadata())) == {"answered-by": "a"}
    assert server.seen[0].metadata["y"] == "2"
    assert server.seen[0].metadata["x-envoy-attempt-count"] == "1"


def test_of_a_call_that_nobody_looks_at_there_is_the_message_alone(server, mesh):
    outcome, _ = sent(mesh, metadata=(("y", "2"),), with_call=False)
    assert type(outcome) is GrpcOutcome
    assert (outcome.message.server, outcome.code, outcome.grpc_status, outcome.call) == ("a", 0, None, None)
    assert server.seen[0].metadata["y"] == "2"
    assert server.seen[0].metadata["x-envoy-attempt-count"] == "1"


def test_headers_that_a_rule_changes_are_told_of_such_a_call_too(server):
    with mesh_of(server, rules=TOLD) as mesh:
        outcome, _ = sent(mesh, with_call=False)
        assert outcome.told_headers


def test_attempts_share_the_channel_to_their_endpoint(server, mesh):
    _, first = sent(mesh)
    _, second = sent(mesh)
    [upstream] = first.cluster.targets.values()
    assert type(upstream) is Upstream
    assert second.cluster.targets == {(first.endpoint, dialer_of(mesh).settings): upstream}
    assert len({seen.peer for seen in server.seen}) == 1


def test_a_status_of_the_servers_is_its_word(server, mesh):
    server.echo.script = ["NOT_FOUND"]
    outcome, _ = sent(mesh)
    assert (outcome.failure, outcome.code, outcome.grpc_status) == (None, 5, 5)
    assert outcome.error.details() == "scripted NOT_FOUND"


@pytest.mark.parametrize("rules", [(), TOLD])
def test_metadata_is_among_the_headers_only_for_rules_that_change_them(server, rules):
    server.echo.script = [("head", "ok")]
    with mesh_of(server, rules=rules) as mesh:
        outcome, _ = sent(mesh)
    assert outcome.told_headers is bool(rules)


@pytest.mark.parametrize(
    ("error", "failure"), [(CannotConnect("no"), Failure.CONNECT_FAILED), (LookupError(), Failure.INVALID_REQUEST)]
)
def test_what_raises_where_it_begins_is_its_failure(mesh, monkeypatch, error, failure):
    def raising(*_):
        raise error

    monkeypatch.setattr(thread_runtime, "upstream_for", raising)
    outcome, _ = sent(mesh)
    assert outcome.failure is failure


def test_a_closed_mesh_makes_none(server, mesh):
    _, exchange = begun(mesh)
    effect = first_send(exchange)
    mesh.close()
    assert blocking(mesh).send(effect).failure is Failure.CLOSED
    assert server.seen == []


def test_a_race_says_who_has_won(mesh):
    _, exchange = begun(mesh)
    tries = SimpleNamespace(another=lambda: None, wins=lambda outcome: True, lost=lambda send: None)
    race = SimpleNamespace(first=first_send(exchange), delay=60.0, tries=tries)
    blocking(mesh).race(race)
    assert race.winner is race.first
    assert race.winner.outcome.message.server == "a"
    exchange.close()
