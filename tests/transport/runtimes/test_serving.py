"""What every door of servers shares: the engine's calls, and the exchange of each."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.drivers import finish, run, run_async
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CLOSED, CUT
from meshlib.engine.inbound_request import InboundRequest
from meshlib.transport.runtimes.serving import Server
from tests.support.fake_clock import FakeClock
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.resources import service

DELAY = {"delay": {"fixed_delay": "2s", "percentage": {"numerator": 100}}}


def served(*resources: object, **more: object) -> tuple[meshlib.Mesh, Server, FakeClock]:
    clock = FakeClock()
    mesh = meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), clock=clock, **more)
    return mesh, Server(mesh._core, mesh._telemetry_of_servers()), clock


def test_a_request_is_served_by_what_is_in_force_when_it_comes():
    mesh, server, clock = served(envoy_filter("f", fault_patch(**DELAY)))
    with mesh:
        call = server.call(InboundRequest("GET", "/"))
        exchange = server.exchange(call)
        mesh.apply([])
        assert run(exchange, server.blocking).refusal is None
        finish(exchange, Ended(200))
        assert (clock.slept, call.status, call.flags) == ([2.0], 200, "DI")
        assert server.call(InboundRequest("GET", "/")).inbound.faults == ()


async def test_a_mesh_that_is_closed_lets_nothing_in():
    mesh, server, _ = served()
    mesh.close()
    for awaited in (False, True):
        exchange = server.exchange(server.call(InboundRequest("GET", "/")))
        end = await run_async(exchange, server.awaited) if awaited else run(exchange, server.blocking)
        assert end.refusal is CLOSED


@pytest.mark.parametrize(("http2", "flag"), [(False, "DC"), (True, "DR")])
@pytest.mark.parametrize("sent", [0, 206])
def test_a_client_that_leaves_has_got_the_status_of_the_head_that_was_sent(http2, flag, sent):
    mesh, server, _ = served()
    with mesh:
        call = server.call(InboundRequest("GET", "/", http2=http2))
        exchange = server.exchange(call)
        run(exchange, server.blocking)
        if sent:
            call.responding(sent)
        finish(exchange, CUT)
        assert (call.status, call.grpc_status, call.flags) == (sent, None, flag)


def test_the_headers_that_say_how_much_time_is_left_follow_the_configuration():
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "ratings", "namespace": "default"},
        "spec": {"host": "ratings", "deadline": {"header": "X-Left"}},
    }
    mesh = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
    server = mesh._server()
    names = server.deadline_names()
    assert names == ("x-request-deadline", "grpc-timeout")
    assert server.deadline_names() is names
    mesh.apply([service("ratings"), policy])
    assert server.deadline_names() == ("x-left", "x-request-deadline", "grpc-timeout")
    mesh.close()
    assert server.deadline_names() == ("x-request-deadline", "grpc-timeout")
