"""Whole calls of httpx through the mesh, to an endpoint that is spoken to in HTTP/2."""

from __future__ import annotations

import asyncio

import httpx
import pytest

import meshlib
from meshlib import errors
from tests.support.h2_server import H2Server, Peer, Request, answer_ok
from tests.support.resources import destination_rule, pod, service, to, virtual_service

REVIEWS = service("reviews", ports=[{"name": "http2", "port": 9080, "targetPort": "http"}])


@pytest.fixture(params=["sync", "asyncio"])
def request_of(request):
    """``ask(mesh, method, path, ...)`` in both runtimes."""

    def blocking(mesh, *args, **options):
        with mesh.client(**options) as client:
            return [client.request(method, f"http://reviews:9080{path}", **kwargs) for method, path, kwargs in args]

    def on_a_loop(mesh, *args, **options):
        async def ask():
            async with mesh.async_client(**options) as client:
                answers = [
                    await client.request(method, f"http://reviews:9080{path}", **kwargs)
                    for method, path, kwargs in args
                ]
            mesh._core.loop_upstream().close()
            await asyncio.sleep(0.01)
            return answers

        return asyncio.run(ask())

    return blocking if request.param == "sync" else on_a_loop


def mesh_of(server: H2Server, **rule) -> meshlib.Mesh:
    resources = [REVIEWS, pod("reviews", "v1", server.port)]
    if rule:
        resources.append(virtual_service("reviews", {"route": [to("reviews")], **rule}))
    return meshlib.Mesh.from_resources(resources)


def test_a_call_of_httpx_goes_over_http2(request_of):
    with H2Server(lambda peer, request: peer.respond(request, bytes(request.body), trailers=[(b"t", b"1")])) as server:
        with mesh_of(server) as mesh:
            (answer,) = request_of(mesh, ("POST", "/a?b", {"content": b"hello", "headers": {"X-A": "1"}}))
    assert (answer.http_version, answer.text, "t" in answer.headers) == ("HTTP/2", "hello", False)
    (seen,) = server.requests
    assert seen.header(b":authority") == b"reviews:9080"
    assert seen.header(b"x-a") == b"1"
    assert seen.header(b"connection") is None


def refuse_first(count: int):
    def answer(peer: Peer, request: Request) -> None:
        if len(peer.server.requests) <= count:
            peer.refuse(request)
        else:
            answer_ok(peer, request)

    return answer


def test_a_refused_stream_is_retried_as_istio_does_by_default(request_of):
    with H2Server(refuse_first(2)) as server, mesh_of(server) as mesh:
        (answer,) = request_of(mesh, ("POST", "/", {"content": b"x"}))
        assert answer.text == "POST /"
        assert [attempt.failure for attempt in answer.extensions["mesh"].attempts] == ["refused", "refused", ""]


def test_a_refused_stream_that_is_not_retried_is_an_upstream_reset(request_of):
    with H2Server(refuse_first(9)) as server, mesh_of(server, retries={"attempts": 0}) as mesh:
        with pytest.raises(httpx.RemoteProtocolError, match="REFUSED_STREAM") as caught:
            request_of(mesh, ("GET", "/", {}))
        assert isinstance(caught.value, errors.UpstreamReset)
        assert caught.value.exchange.flags == "UR"
        (answer,) = request_of(mesh, ("GET", "/", {}), local_replies="respond")
        assert (answer.status_code, answer.text.rpartition(": ")[2]) == (503, "remote refused stream reset")


def test_a_request_that_goaway_left_untouched_is_sent_again_unseen(request_of):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/second" and len(peer.server.requests) == 2:
            peer.goaway(request.stream - 2)
        else:
            answer_ok(peer, request)

    with H2Server(answer) as server, mesh_of(server, retries={"attempts": 0}) as mesh:
        answers = request_of(mesh, ("GET", "/first", {}), ("GET", "/second", {}))
        assert [one.text for one in answers] == ["GET /first", "GET /second"]
        assert answers[1].extensions["mesh"].flags == ""
        assert server.connections == 2


@pytest.mark.parametrize(
    ("detection", "last"),
    [
        ({"consecutiveGatewayErrors": 2}, "UH"),
        # on a connection that was made, nothing adds up to a row of failures to connect
        ({"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2}, "UR"),
    ],
)
def test_refusals_count_against_the_endpoint_as_gateway_errors(request_of, detection, last):
    with H2Server(refuse_first(9)) as server, mesh_of(server, retries={"attempts": 0}) as mesh:
        detection = {**detection, "maxEjectionPercent": 100}
        mesh.apply(
            [
                REVIEWS,
                pod("reviews", "v1", server.port),
                destination_rule("reviews", outlierDetection=detection),
                virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}}),
            ]
        )
        answers = request_of(mesh, *[("GET", "/", {})] * 3, local_replies="respond")
        assert [one.extensions["mesh"].flags for one in answers] == ["UR", "UR", last]


@pytest.mark.parametrize(
    ("port", "policy", "version"),
    [
        ({"name": "http"}, {}, "HTTP/1.1"),
        ({"name": "http"}, {"h2UpgradePolicy": "UPGRADE"}, "HTTP/2"),
        ({"name": "http"}, {"h2UpgradePolicy": "DO_NOT_UPGRADE"}, "HTTP/1.1"),
        ({"name": "http2"}, {"h2UpgradePolicy": "DO_NOT_UPGRADE"}, "HTTP/2"),
        ({"name": "grpc-api"}, {}, "HTTP/2"),
        ({"name": "x", "appProtocol": "kubernetes.io/h2c"}, {}, "HTTP/2"),
        ({"name": "http", "appProtocol": "http2"}, {}, "HTTP/2"),
        ({"name": "http"}, {"useClientProtocol": True}, "HTTP/1.1"),
    ],
)
def test_the_ports_name_and_the_policy_decide_the_protocol(port, policy, version):
    rules = [destination_rule("reviews", connectionPool={"http": policy})] if policy else []
    ports = [{"port": 9080, "targetPort": "http", **port}]
    resources = [service("reviews", ports=ports), pod("reviews", "v1", 1), *rules]
    with meshlib.Mesh.from_resources(resources) as mesh:
        (target,) = mesh.explain(url="http://reviews:9080/").to_dict()["destinations"]
    assert target["protocol"] == version
