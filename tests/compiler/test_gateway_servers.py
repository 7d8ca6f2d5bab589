"""The servers of Gateways, as they are written and as they share ports."""

from __future__ import annotations

import pytest

from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.gateway_servers import chosen, kind_of, merged, split_host
from meshlib.resources.loader import load_objects
from tests.support.gateway_proxy import INGRESS, gateway, server


def gateways(*written):
    result = load_objects(written)
    assert not result.errors, result.errors
    return result.resources


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.test", ("*", "a.test")),
        ("./A.test", ("ns", "a.test")),
        ("*/a.test", ("*", "a.test")),
        ("other/*.test", ("other", "*.test")),
    ],
)
def test_a_host_may_name_the_namespace_that_may_have_it(text, found):
    assert split_host(text, "ns") == found


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [("HTTP", "http"), ("GRPC", "http"), ("HTTPS", "tls"), ("TLS", "tls"), ("TCP", "tcp"), ("MONGO", "tcp")],
)
def test_the_protocol_says_what_a_connection_begins_with(protocol, kind):
    tls = {"mode": "PASSTHROUGH"} if kind == "tls" else None
    (made,) = gateways(gateway(server("*", protocol=protocol, tls=tls)))
    assert kind_of(made.spec.servers[0]) == kind


def test_older_gateways_count_first():
    young, old = gateway(server("*"), name="a"), gateway(server("*"), name="b")
    young["metadata"]["creationTimestamp"] = "2022-01-01T00:00:00Z"
    old["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z"
    assert [g.name for g in chosen(gateways(young, old), GatewayChoice(), INGRESS)] == ["b", "a"]


def test_names_of_routes_are_those_of_istiod():
    made = gateways(
        gateway(
            server("*"),
            server("x.test", port=443, protocol="HTTPS", name="web", tls={"mode": "SIMPLE", "credentialName": "x"}),
        )
    )
    ports, problems = merged(made, (), INGRESS)
    assert [s.route_name for port in ports for s in port.servers] == ["http.80", "https.443.web.gw.default"]
    assert problems == []
