"""What is told of requests that a gateway's policies refuse, and of those whose client leaves before."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.call import Call
from meshlib.engine.plain_request import PlainRequest
from meshlib.policy.refusal import Refusal
from meshlib.proxy.gateway_refusals import Refusals
from meshlib.proxy.gateway_request import GatewayRequest, GatewayServed
from meshlib.transport.runtimes.serving import Server

SERVED = Refusal(403, "RBAC: access denied", detail="rbac")


def begun():
    registry = CollectorRegistry()
    mesh = meshlib.Mesh.from_resources([], registry=registry)
    core = mesh._core
    refusals = Refusals(core)
    sent = GatewayRequest(b"GET", b"a.test", b"/", b"Host: a.test\r\n", b"\r\nhost: a.test\r\n", None)
    call = Server(core, refusals).call(GatewayServed(sent, "127.0.0.1:1", "127.0.0.1", 80, "", False, "127.0.0.1"))
    return mesh, registry, refusals, call


def counted(registry, **labels):
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "istio_requests_total" and labels.items() <= sample.labels.items()
    )


def test_a_refusal_is_told_as_a_callers():
    mesh, registry, refusals, call = begun()
    with mesh:
        call.refuse(SERVED)
        refusals.ended(call, refusals.began(call))
        assert counted(registry, reporter="source", response_code="403") == 1


def test_what_was_forwarded_is_told_by_its_call_alone():
    mesh, registry, refusals, call = begun()
    with mesh:
        call.hop = Call(PlainRequest("GET", "http", "a.test", "/", {}), mesh._core.live, call.clock, call.rng)
        refusals.ended(call, None)
        assert counted(registry) == 0


def test_a_client_that_leaves_is_told_of():
    mesh, registry, refusals, call = begun()
    with mesh:
        refusals.broken(call, None)
        assert counted(registry, response_flags="DC") == 1


def test_of_a_mesh_that_is_closed_nothing_is_told():
    mesh, registry, refusals, call = begun()
    mesh.close()
    refusals.ended(call, None)
    assert counted(registry) == 0
