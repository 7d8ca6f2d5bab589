"""The ADS server that stands beside grpcio's xDS client: what it sends, and when."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from tests.support.ads_server import CLUSTER, ENDPOINTS, AdsServer, cluster, listener, message, parse, route
from tests.support.grpc_echo import eventually

REQUEST = message("envoy.service.discovery.v3.DiscoveryRequest")
RESPONSE = message("envoy.service.discovery.v3.DiscoveryResponse")


class Client:
    """A stream to the server: ``say`` sends, ``heard`` waits for the next answer."""

    def __init__(self, stub: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers = stub(iter(self._requests.get, None), timeout=10)

    def say(self, kind: str, *names: str, nonce: str = "", error: str = "") -> None:
        request = REQUEST(type_url=kind, resource_names=names, response_nonce=nonce)
        if error:
            request.error_detail.message = error
        self._requests.put(request)

    def heard(self) -> tuple[str, str, list[bytes]]:
        """(version, nonce, resources)."""
        answer = next(self.answers)
        return answer.version_info, answer.nonce, [resource.value for resource in answer.resources]

    def end(self) -> None:
        self._requests.put(None)
        self.answers.cancel()


@contextmanager
def client(server: AdsServer) -> Iterator[Client]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        made = Client(
            channel.stream_stream(
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
                request_serializer=REQUEST.SerializeToString,
                response_deserializer=RESPONSE.FromString,
            )
        )
        try:
            yield made
        finally:
            made.end()


def ports(resources: list[bytes]) -> list[int]:
    """Of endpoints."""
    parsed = [message("envoy.config.endpoint.v3.ClusterLoadAssignment").FromString(r) for r in resources]
    return [e.endpoint.address.socket_address.port_value for r in parsed for e in r.endpoints[0].lb_endpoints]


def test_a_client_is_sent_what_it_names_and_an_acknowledgement_is_not_answered():
    with AdsServer([*cluster("a", [1]), *cluster("b", [2])]) as server, client(server) as there:
        there.say(ENDPOINTS, "a", "nobody")
        version, nonce, resources = there.heard()
        assert (version, ports(resources)) == ("1", [1])
        there.say(ENDPOINTS, "a", "nobody", nonce=nonce)  # were this answered, the next answer would be it
        there.say(ENDPOINTS, "a", "b", nonce=nonce)
        assert ports(there.heard()[2]) == [1, 2]


def test_new_resources_are_pushed_to_whom_they_concern():
    with AdsServer([*cluster("a", [1]), *cluster("b", [2])]) as server, client(server) as there:
        there.say(ENDPOINTS, "a")
        assert there.heard()[0] == "1"
        server.set([*cluster("a", [1]), *cluster("b", [3])])
        server.set([*cluster("a", [4]), *cluster("b", [3])])
        version, _, resources = there.heard()
        assert (version, ports(resources)) == ("3", [4])


def test_a_request_about_an_answer_that_has_been_overtaken_is_not_answered():
    with AdsServer([*cluster("a", [1]), *cluster("b", [2])]) as server, client(server) as there:
        there.say(ENDPOINTS, "a")
        _, first, _ = there.heard()
        server.set([*cluster("a", [4]), *cluster("b", [2])])
        _, second, _ = there.heard()
        there.say(ENDPOINTS, "b", nonce=first)
        there.say(ENDPOINTS, "a", "b", nonce=second)
        assert ports(there.heard()[2]) == [4, 2]


def test_a_refusal_is_kept_and_not_answered():
    with AdsServer(cluster("a", [1])) as server, client(server) as there:
        there.say(CLUSTER, "a")
        _, nonce, _ = there.heard()
        there.say(CLUSTER, "a", nonce=nonce, error="no good")
        assert eventually(lambda: server.rejected == [(CLUSTER, "no good")])


def test_a_field_that_envoy_does_not_have_is_an_error():
    with pytest.raises(json_format.ParseError, match="lb_polizei"):
        AdsServer(cluster("a", [1], lb_polizei="ROUND_ROBIN"))


def test_routes_say_what_was_asked_for():
    _, routes = listener("s", [route({"a": 1, "b": 2}, path=("regex", "/x.*"), headers=[("h", "present", "")])])
    made = parse(routes).virtual_hosts[0].routes[0]
    assert made.match.safe_regex.regex == "/x.*"
    assert made.match.headers[0].present_match
    assert {c.name: c.weight.value for c in made.route.weighted_clusters.clusters} == {"a": 1, "b": 2}
