"""From one proxy to another over ISTIO_MUTUAL: an application calls through the outbound side of its proxy, and the other one's
inbound side knows who it was."""

from __future__ import annotations

import json
import re

import pytest

import meshlib
from meshlib.security.authority import Authority
from tests.support.eventually import eventually
from tests.support.identities import CLIENT, SERVER, ByHand, World
from tests.support.inbound_policies import authorization_policy
from tests.support.inbound_proxy import InboundProxy
from tests.support.peer_authentication import peer_authentication
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, pod, service
from tests.support.servers import EchoServer

STRICT = peer_authentication("default", "STRICT")
ONLY_PRODUCTPAGE = authorization_policy(
    "only", "ALLOW", {"from": [{"source": {"principals": [CLIENT.removeprefix("spiffe://")]}}]}
)


@pytest.fixture
def world():
    made = World(of_a_mesh=True)
    made.rotate()
    return made


def identity_of(world, name, signer=None):
    source = ByHand()
    source.publish((signer or world.root).issue(name, world.now, ttl=86400), world.bundles(world.root))
    return meshlib.Identity(source)


def outbound_to(port, world, name=CLIENT, signer=None, *resources):
    """The proxy of who calls ``reviews``, whose endpoint is the other proxy's port."""
    pods = pod("reviews", "v1", port)
    pods["spec"]["serviceAccountName"] = "reviews"
    pods["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    return Proxy(
        [service("reviews"), pods, destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"}), *resources],
        identity=identity_of(world, name, signer),
    )


def test_the_application_is_told_who_called_it_and_both_sides_count_mtls(world):
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, STRICT, ONLY_PRODUCTPAGE, identity=world.identity) as inbound,
        outbound_to(inbound.port, world) as outbound,
        outbound.client() as client,
    ):
        responses = [client.get(f"/{number}") for number in range(5)]
        found = [json.loads(response.body)["headers"] for response in responses]
        assert [response.status for response in responses] == [200] * 5
        element = rf'By={SERVER};Hash=[0-9a-f]{{64}};Subject="";URI={CLIENT}'
        assert all(re.fullmatch(element, each["x-forwarded-client-cert"]) for each in found)
        assert {each["x-forwarded-proto"] for each in found} == {"http"}  # as the first proxy has said
        assert {each["x-envoy-attempt-count"] for each in found} == {"1"}
        assert eventually(lambda: inbound.listener.acceptor.counts["tls"] == 1)
        mutual = {"connection_security_policy": "mutual_tls", "response_code": "200"}
        assert outbound.metric("istio_requests_total", reporter="source", response_code="200") == 5
        assert inbound.metric("istio_requests_total", reporter="destination", source_principal=CLIENT, **mutual) >= 4


def test_the_request_id_is_the_same_on_the_whole_way(world):
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, STRICT, identity=world.identity) as inbound,
        outbound_to(inbound.port, world) as outbound,
        outbound.client() as client,
    ):
        found = json.loads(client.get("/", "GET", "reviews:9080", "x-request-id: mine").body)["headers"]
        assert found["x-request-id"] == "mine"


def test_another_identity_is_refused_by_the_authorization_policy(world):
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, STRICT, ONLY_PRODUCTPAGE, identity=world.identity) as inbound,
        outbound_to(inbound.port, world, "spiffe://cluster.local/ns/default/sa/ratings") as outbound,
        outbound.client() as client,
    ):
        assert (client.get().status, app.seen) == (403, [])


def test_a_certificate_of_another_authority_is_not_let_in(world):
    stranger = Authority.root("cluster.local", world.now)
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, STRICT, identity=world.identity) as inbound,
        outbound_to(inbound.port, world, CLIENT, stranger) as outbound,
        outbound.client() as client,
    ):
        assert (client.get().status, app.seen) == (503, [])


def test_plain_text_is_not_let_in_under_strict(world):
    resources = [service("reviews"), pod("reviews", "v1", 1)]
    with EchoServer("app") as app, InboundProxy(app.port, STRICT, identity=world.identity) as inbound:
        resources[1] = pod("reviews", "v1", inbound.port)
        with Proxy(resources) as outbound, outbound.client() as client:
            assert (client.get().status, app.seen) == (503, [])


def test_a_server_that_is_somebody_else_is_not_spoken_to(world):
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, STRICT, identity=identity_of(world, CLIENT)) as inbound,
        outbound_to(inbound.port, world) as outbound,
        outbound.client() as client,
    ):
        assert (client.get().status, app.seen) == (503, [])


def test_bodies_go_both_ways_over_both(world):
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, STRICT, identity=world.identity) as inbound,
        outbound_to(inbound.port, world) as outbound,
        outbound.client() as client,
    ):
        body = b"y" * 1_500_000
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert json.loads(client.response().body)["body"] == body.decode()
