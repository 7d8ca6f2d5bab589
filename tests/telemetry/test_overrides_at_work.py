"""Telemetries change what a running mesh counts, of calls it makes and of calls it serves; a reload changes it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.telemetry.inbound_metrics import InboundMetrics
from meshlib.telemetry.observe import InboundTelemetry
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from tests.support.asgi import Client, body, http_scope
from tests.support.mesh_config import mesh_config
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.telemetry import telemetry

TENANT = {"tenant": {"value": "request.headers['x-tenant']"}, "source_app": {"operation": "REMOVE"}}


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer("v1") as made:
        yield made


def metric(name: str, **rest: Any) -> dict[str, Any]:
    return telemetry(metrics=[{"overrides": [{"match": {"metric": name}, **rest}]}])


def total(registry: CollectorRegistry, name: str = "istio_requests_total") -> dict[tuple[str, ...], float]:
    """By tenant and code, of what there is."""
    return {
        tuple(s.labels[n] for n in ("tenant", "response_code", "source_app") if n in s.labels): s.value
        for family in registry.collect()
        for s in family.samples
        if s.name == name
    }


def test_calls_made(server: EchoServer) -> None:
    base, registry = [service("reviews"), pod("reviews", "v1", server.port)], CollectorRegistry()
    with (
        meshlib.Mesh.from_resources([*base, metric("REQUEST_COUNT", tagOverrides=TENANT)], registry=registry) as mesh,
        mesh.client() as client,
    ):
        for tenant in ("blue", "red", "blue", None):
            client.get("http://reviews:9080/", headers={"x-tenant": tenant} if tenant else {})
        assert total(registry) == {("blue", "200"): 2, ("red", "200"): 1, ("unknown", "200"): 1}
        assert total(registry, "istio_request_duration_milliseconds_count") == {("200", "unknown"): 4}
        errors = mesh.status()["telemetry"]["expression_errors"]  # type: ignore[index]
        assert mesh.status()["telemetry"]["resources"] == ["default/telemetry"]  # type: ignore[index]
        assert errors["request.headers['x-tenant']"] >= 1, "of this process"
        mesh.apply([*base, metric("REQUEST_COUNT", disabled=True)])
        client.get("http://reviews:9080/", headers={"x-tenant": "blue"})
        assert total(registry)["blue", "200"] == 2
        assert total(registry, "istio_request_duration_milliseconds_count") == {("200", "unknown"): 5}
        mesh.apply(base)
        client.get("http://reviews:9080/", headers={"x-tenant": "blue"})
        assert total(registry)["blue", "200"] == 2
        assert total(registry)["200", "unknown"] == 1


def serve(app: MeshASGIMiddleware, **headers: str) -> None:
    scope = http_scope("/", *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()))
    client = Client(body(b""))
    asyncio.run(app(scope, client.receive, client.send))


async def application(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def test_calls_served_also_where_calls_like_them_have_taken_the_short_cut() -> None:
    registry = CollectorRegistry()
    base = [service("orders")]
    with meshlib.Mesh.from_resources(base, registry=registry) as mesh:
        app = MeshASGIMiddleware(application, mesh)
        for _ in range(4):
            serve(app, x_tenant="blue")
        assert total(registry) == {("200", "unknown"): 4}
        mesh.apply([*base, metric("ALL_METRICS", tagOverrides=TENANT)])
        for tenant in ("blue", "red", "blue"):
            serve(app, x_tenant=tenant)
        assert total(registry) == {("200", "unknown"): 4, ("blue", "200"): 2, ("red", "200"): 1}
        assert total(registry, "istio_request_bytes_count")["blue", "200"] == 2
        mesh.apply([*base, telemetry(metrics=[{"overrides": [{"disabled": True}]}])])
        for _ in range(4):
            serve(app, x_tenant="blue")
        assert sum(total(registry).values()) == 7
        mesh.apply(base)
        for _ in range(4):
            serve(app, x_tenant="blue")
        assert total(registry)["200", "unknown"] == 8


def test_a_request_that_ends_while_a_reload_comes_into_force_is_nothing_that_others_are_counted_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, base, reconfigured = CollectorRegistry(), [service("orders")], InboundTelemetry.reconfigured
    with meshlib.Mesh.from_resources(base, registry=registry) as mesh:
        app = MeshASGIMiddleware(application, mesh)
        serve(app, x_tenant="blue")

        def meanwhile(me: InboundTelemetry, settings: Any) -> None:
            serve(app, x_tenant="blue")
            reconfigured(me, settings)

        monkeypatch.setattr(InboundTelemetry, "reconfigured", meanwhile)
        mesh.apply([*base, metric("ALL_METRICS", tagOverrides=TENANT)])
        serve(app, x_tenant="red")
        assert total(registry) == {("200", "unknown"): 2, ("red", "200"): 1}


WITHOUT_CODE = metric("REQUEST_COUNT", tagOverrides={"response_code": {"operation": "REMOVE"}})


def test_a_series_that_was_made_while_a_reload_came_counts_no_request_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, base, make = CollectorRegistry(), [service("orders")], InboundMetrics._make
    with meshlib.Mesh.from_resources(base, registry=registry) as mesh:
        app = MeshASGIMiddleware(application, mesh)

        def reloaded(*args: Any) -> Any:
            series = make(*args)
            monkeypatch.undo()
            mesh.apply([*base, WITHOUT_CODE])
            return series

        monkeypatch.setattr(InboundMetrics, "_make", reloaded)
        for _ in range(3):
            serve(app)
        assert total(registry) == {("200", "unknown"): 1, ("unknown",): 2}


def test_one_direction_alone(server: EchoServer) -> None:
    base, registry = [service("reviews"), pod("reviews", "v1", server.port)], CollectorRegistry()
    off = telemetry(metrics=[{"overrides": [{"match": {"mode": "CLIENT"}, "disabled": True}]}])
    with meshlib.Mesh.from_resources([*base, off], registry=registry) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/")
        assert total(registry) == {}
        serve(MeshASGIMiddleware(application, mesh))
        assert total(registry) == {("200", "unknown"): 1}


def test_an_expression_over_the_other_workload(server: EchoServer) -> None:
    base, registry = [service("reviews"), pod("reviews", "v1", server.port)], CollectorRegistry()
    change = metric(
        "REQUEST_COUNT", tagOverrides={"tenant": {"value": "upstream_peer.app + '-' + string(response.code)"}}
    )
    with meshlib.Mesh.from_resources([*base, change], registry=registry) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/")
        assert list(total(registry)) == [("reviews-200", "200", "unknown")]


def test_a_filter_of_an_access_log_by_expression(server: EchoServer, tmp_path: Path) -> None:
    """Both sides: ``accessLogging.filter.expression``; calls for which it comes to an error are not logged, as in Envoy."""
    file = tmp_path / "log"
    log = {"path": str(file), "logFormat": {"text": "%REQ(X-TENANT)% %RESPONSE_CODE%"}}
    config = mesh_config(extensionProviders=[{"name": "mine", "envoyFileAccessLog": log}])
    wanted = telemetry(
        accessLogging=[
            {
                "providers": [{"name": "mine"}],
                "filter": {"expression": "request.headers['x-tenant'] == 'blue' && response.code == 200"},
            }
        ]
    )
    base = [service("reviews"), pod("reviews", "v1", server.port), config, wanted]
    with meshlib.Mesh.from_resources(base, registry=CollectorRegistry()) as mesh, mesh.client() as client:
        for tenant in ("blue", "red", None):
            client.get("http://reviews:9080/", headers={"x-tenant": tenant} if tenant else {})
        app = MeshASGIMiddleware(application, mesh)
        serve(app, x_tenant="red")
        serve(app, x_tenant="blue")
    assert file.read_text() == "blue 200\n" * 2
