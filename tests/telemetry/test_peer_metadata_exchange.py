"""Workloads that tell each other who they are in headers, as Istio's proxies do: the labels of metrics at both ends, what the
applications see, and who is told nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import grpc
import httpx
import pytest
from google.protobuf.struct_pb2 import Struct
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.policy.peer_metadata import own_metadata, read
from tests.support.eventually import eventually
from tests.support.h2_server import H2Server, Peer, Request
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.mesh_server import MeshServer
from tests.support.mesh_tls import CLIENT, REVIEWS, identity, svid
from tests.support.peer_authentication import peer_authentication
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, service_entry, to, virtual_service
from tests.support.servers import EchoServer
from tests.telemetry.test_istio_labels import one, series

METADATA = "x-envoy-peer-metadata"
EXCHANGED = mesh_config(defaultConfig={"proxyHeaders": {"metadataExchangeHeaders": {"mode": "IN_MESH"}}})
WEB = meshlib.Workload("web-v1", "front", {"app": "web", "version": "v1"}, "client", cluster="west")
REMOTE = meshlib.Workload("api-v2", "back", {"app": "api", "version": "v2"}, "reviews", cluster="east")
AS_SOURCE = {
    "source_workload": "web-v1",
    "source_canonical_service": "web",
    "source_canonical_revision": "v1",
    "source_workload_namespace": "front",
    "source_app": "web",
    "source_version": "v1",
    "source_cluster": "west",
}
AS_DESTINATION = {
    "destination_workload": "api-v2",
    "destination_canonical_service": "api",
    "destination_canonical_revision": "v2",
    "destination_workload_namespace": "back",
    "destination_app": "api",
    "destination_version": "v2",
    "destination_cluster": "east",
}


class Seen(list[list[str]]):
    """The names of the headers that applications have got, at ``port``."""

    port = 0


def asgi(seen: Seen) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"].endswith("shutdown"):
                    return
        seen.append([name.decode() for name, _ in scope["headers"]])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return application


def wsgi(seen: Seen) -> Any:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.append([key[5:].replace("_", "-").lower() for key in environ if key.startswith("HTTP_")])
        start_response("200 OK", [("content-length", "0")])
        return [b""]

    return application


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def by_asgi(mesh: meshlib.Mesh, seen: Seen) -> Iterator[int]:
    with MeshServer(asgi(seen), mesh) as server:
        yield server.port


@contextlib.contextmanager
def by_wsgi(mesh: meshlib.Mesh, seen: Seen) -> Iterator[int]:
    wrapped = meshlib.MeshWSGIMiddleware(wsgi(seen), mesh)
    with make_server("127.0.0.1", 0, wrapped, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(20)


SERVERS = {"asgi": by_asgi, "wsgi": by_wsgi}


def entry(port: int, location: str = "MESH_INTERNAL") -> dict[str, Any]:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}}]
    return service_entry("gateway", "api.example", endpoints=endpoints, location=location)


@contextlib.contextmanager
def meshes(
    serve: Any = by_asgi, *, ours: Any = (EXCHANGED,), theirs: Any = (EXCHANGED,), location: str = "MESH_INTERNAL"
) -> Iterator[tuple[meshlib.Mesh, CollectorRegistry, CollectorRegistry, Seen]]:
    client, server, seen = CollectorRegistry(), CollectorRegistry(), Seen()
    with contextlib.ExitStack() as stack:
        serving = meshlib.Mesh.from_resources([*theirs], workload=REMOTE, registry=server)
        seen.port = port = stack.enter_context(serve(stack.enter_context(serving), seen))
        made = [entry(port, location), *ours]
        mesh = stack.enter_context(meshlib.Mesh.from_resources(made, workload=WEB, registry=client))
        yield mesh, client, server, seen


def call(mesh: meshlib.Mesh, **more: Any) -> httpx.Response:
    with mesh.client(timeout=20) as client:
        return client.get("http://api.example/", **more)


def within(wanted: dict[str, str], found: dict[str, str]) -> bool:
    return wanted == {name: found[name] for name in wanted}


@pytest.mark.parametrize("kind", SERVERS)
def test_both_ends_know_the_other_workload_and_no_application_sees_how(kind: str) -> None:
    with meshes(SERVERS[kind]) as (mesh, client, server, seen):
        response = call(mesh)
        call(mesh)
    assert within(AS_DESTINATION, one(client))
    assert within(AS_SOURCE, one(server))
    assert not [name for names in seen for name in names if name.startswith(METADATA)]
    assert len(seen) == 2
    assert not [name for name in response.headers if name.startswith(METADATA)]


async def test_on_asyncio_as_well() -> None:
    with meshes() as (mesh, client, server, _):
        async with mesh.async_client(timeout=20) as caller:
            response = await caller.get("http://api.example/")
    assert within(AS_DESTINATION, one(client))
    assert within(AS_SOURCE, one(server))
    assert not [name for name in response.headers if name.startswith(METADATA)]


def of_grpc(port: int) -> dict[str, Any]:
    made = entry(port)
    made["spec"]["ports"] = [{"number": 80, "name": "grpc", "protocol": "GRPC"}]
    made["spec"]["endpoints"][0]["ports"] = {"grpc": port}
    return made


def test_channels_and_servers_of_grpc_tell_others_and_no_application_sees_it() -> None:
    seen = Seen()

    def unary(_request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append([str(key) for key, _ in context.invocation_metadata()])
        return b"1"

    class Handler(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(unary)

    with contextlib.ExitStack() as stack:
        made = [EXCHANGED]
        serving = stack.enter_context(meshlib.Mesh.from_resources(made, workload=REMOTE, registry=CollectorRegistry()))
        interceptors = serving.grpc_server_interceptors()
        running = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()], interceptors=interceptors)
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        stack.callback(lambda: running.stop(None).wait(60))
        made = [of_grpc(port), EXCHANGED]
        mesh = stack.enter_context(meshlib.Mesh.from_resources(made, workload=WEB, registry=CollectorRegistry()))
        with mesh.grpc_channel("api.example:80") as channel:
            _, called = channel.unary_unary("/a.B/C").with_call(b"", timeout=20)
            came = called.initial_metadata()
        theirs = own_metadata("sidecar", "x", {})
        headers = {METADATA: theirs.value.decode(), f"{METADATA}-id": theirs.id.decode()}
        headers |= {"content-type": "application/grpc", "te": "trailers"}
        with httpx.Client(http1=False, http2=True, timeout=20) as raw:
            told = raw.post(f"http://127.0.0.1:{port}/a.B/C", content=b"\0\0\0\0\0", headers=headers).headers
    assert len(seen) == 2
    assert not [key for keys in seen for key in keys if key.startswith(METADATA)]
    assert not [key for key, _ in came or () if key.startswith(METADATA)]
    said = read(told[METADATA])
    assert said is not None
    assert said.workload == "api-v2"


def test_a_channel_of_grpc_tells_on_the_wire() -> None:
    got: list[tuple[bytes, bytes]] = []

    def answer(peer: Peer, request: Request) -> None:
        got.extend(request.headers)
        peer.respond(
            request,
            b"\0\0\0\0\0",
            headers=[(b"content-type", b"application/grpc")],
            trailers=[(b"grpc-status", b"0")],
        )

    with H2Server(answer) as server:
        made = [of_grpc(server.port), EXCHANGED]
        with meshlib.Mesh.from_resources(made, workload=WEB, registry=CollectorRegistry()) as mesh:
            with mesh.grpc_channel("api.example:80") as channel:
                assert channel.unary_unary("/a.B/C")(b"", timeout=20) == b""
    said = read(dict(got)[METADATA.encode()].decode())
    assert said is not None
    assert (said.workload, said.cluster) == ("web-v1", "west")


def test_by_default_nobody_is_told_anything_and_what_comes_is_left_alone() -> None:
    with meshes(ours=(), theirs=()) as (mesh, client, server, seen):
        call(mesh, headers={METADATA: "mine"})
    assert one(client)["destination_cluster"] == "west"
    assert one(server)["source_workload"] == "unknown"
    assert METADATA in seen[0]


def test_who_is_outside_the_mesh_is_told_nothing() -> None:
    with meshes(theirs=(), location="MESH_EXTERNAL") as (mesh, client, _, seen):
        call(mesh)
    assert not [name for name in seen[0] if name.startswith(METADATA)]
    assert one(client)["destination_workload"] == "gateway"


def test_a_host_that_nobody_knows_is_told_nothing() -> None:
    with meshes(theirs=()) as (mesh, _, _, seen):
        with mesh.client(timeout=20) as client:
            client.get(f"http://127.0.0.1:{seen.port}/")
    assert not [name for name in seen[0] if name.startswith(METADATA)]


def test_of_its_labels_a_workload_tells_what_metrics_are_made_of_and_no_more() -> None:
    workload = meshlib.Workload("web-v1", "front", {"app": "web", "version": "v1", "team": "payments"})
    got: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.update(self.headers.items())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = [entry(server.server_port), EXCHANGED]
        with meshlib.Mesh.from_resources(made, workload=workload, registry=CollectorRegistry()) as mesh:
            call(mesh, headers={METADATA: "a caller's own is not sent on"})
        server.shutdown()
    said = dict(Struct.FromString(base64.b64decode(got[METADATA])))
    assert said["WORKLOAD_NAME"] == "web-v1"
    assert set(said["LABELS"]) == {
        "app",
        "version",
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
    }
    assert got["x-envoy-peer-metadata-id"].startswith("sidecar~~web-v1-")


def test_rules_change_other_headers_all_the_same() -> None:
    change = {"request": {"set": {"x-a": "1"}}, "response": {"set": {"x-b": "2"}}}
    rule = virtual_service("api", {"route": [to("api.example")], "headers": change}, hosts=["api.example"])
    with meshes(ours=(EXCHANGED, rule)) as (mesh, client, server, seen):
        response = call(mesh)
    assert "x-a" in seen[0]
    assert response.headers["x-b"] == "2"
    assert METADATA not in response.headers
    assert within(AS_DESTINATION, one(client))
    assert within(AS_SOURCE, one(server))


# -- nobody gets anywhere by what he tells


def lie(workload: meshlib.Workload, **more: str) -> dict[str, str]:
    made = Struct()
    made.update({"WORKLOAD_NAME": workload.name, "NAMESPACE": workload.namespace, **more})
    return {METADATA: base64.b64encode(made.SerializeToString()).decode()}


def test_a_caller_that_lies_of_its_namespace_is_in_that_of_its_certificate() -> None:
    server = CollectorRegistry()
    theirs, ours = identity(svid(REVIEWS), start=False)[0], identity(svid(CLIENT), start=False)[0]
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        policies = [EXCHANGED, peer_authentication("all", "STRICT")]
        serving = enter(meshlib.Mesh.from_resources(policies, workload=REMOTE, identity=theirs, registry=server))
        port = enter(MeshServer(asgi(Seen()), serving)).port
        rule = destination_rule("api", tls={"mode": "ISTIO_MUTUAL", "subjectAltNames": [REVIEWS]})
        rule["spec"]["host"] = "api.example"
        made = [entry(port, "MESH_EXTERNAL"), rule]
        mesh = enter(meshlib.Mesh.from_resources(made, workload=WEB, identity=ours, registry=CollectorRegistry()))
        assert call(mesh, headers=lie(meshlib.Workload("admin", "kube-system"))).status_code == 200
    found = one(server)
    assert found["source_principal"] == CLIENT
    assert (found["source_workload"], found["source_workload_namespace"]) == ("admin", "default")


def test_no_policy_sees_what_a_caller_tells() -> None:
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "told", "namespace": "back"},
        "spec": {"rules": [{"when": [{"key": f"request.headers[{METADATA}]", "values": ["*"]}]}]},
    }
    with meshes(ours=(), theirs=(EXCHANGED, policy)) as (mesh, _, server, _):
        response = call(mesh, headers=lie(WEB))
    assert response.status_code == 403
    assert (one(server)["response_code"], one(server)["source_workload"]) == ("403", "web-v1")


def test_two_workloads_behind_one_address_are_counted_apart() -> None:
    with meshes(ours=()) as (mesh, _, server, _):
        for name in ("a", "b", "a"):
            call(mesh, headers=lie(meshlib.Workload(name, "x")))
    assert sorted(found["source_workload"] for found in series(server)) == ["a", "b"]


def test_a_stranger_who_makes_up_workloads_crowds_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlib.telemetry.peer_labels.MOST_PEERS", 3)
    with meshes(ours=()) as (mesh, _, server, _):
        call(mesh, headers=lie(WEB))
        for number in range(10):
            call(mesh, headers=lie(meshlib.Workload(f"made-up-{number}", "x")))
        call(mesh, headers=lie(WEB))
    counted = {
        s.labels["source_workload"]: s.value
        for family in server.collect()
        for s in family.samples
        if s.name == "istio_requests_total"
    }
    assert counted == {"web-v1": 2, "made-up-0": 1, "made-up-1": 1, "unknown": 8}


def test_two_proxies_tell_each_other_whose_they_are() -> None:
    with EchoServer("app") as app, InboundProxy(app.port, EXCHANGED, workload=REMOTE) as inbound:
        with Proxy([entry(inbound.port), EXCHANGED], workload=WEB) as outbound, outbound.client() as client:
            responses = [client.get("/", "GET", "api.example") for _ in range(2)]
            for response in responses:
                assert response.status == 200
                told = [*json.loads(response.body)["headers"], *(name for name, _ in response.headers)]
                assert not [name for name in told if name.startswith(METADATA)]
            made, served = {"reporter": "source", **AS_DESTINATION}, {"reporter": "destination", **AS_SOURCE}
            assert eventually(lambda: outbound.metric("istio_requests_total", **made) == 2)
            assert eventually(lambda: inbound.metric("istio_requests_total", **served) == 2)
