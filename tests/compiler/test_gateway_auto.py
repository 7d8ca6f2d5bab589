"""AUTO_PASSTHROUGH: the names that lead to services, and to which of their endpoints."""

from __future__ import annotations

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.gateway_auto import ALPN
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.resources.loader import load_objects
from tests.support.gateway_proxy import INGRESS, gateway, server
from tests.support.resources import destination_rule, pod, service, service_entry

ISTIO = {"security.istio.io/tlsMode": "istio"}
AUTO = {"mode": "AUTO_PASSTHROUGH"}


def compiled(*resources, hosts=("*.svc.cluster.local",)):
    auto = server(*hosts, port=15443, protocol="TLS", tls=AUTO)
    result = load_objects([gateway(auto), *resources])
    assert not result.errors, result.errors
    return Compiler(INGRESS, gateways=GatewayChoice()).compile(result.resources)


def taking_mtls(*args):
    made = pod(*args)
    made["metadata"]["labels"].update(ISTIO)
    return made


BASE = [service("reviews"), taking_mtls("reviews", "v1", 1), taking_mtls("reviews", "v2", 2), pod("reviews", "v1", 3)]
ALL = "outbound_.9080_._.reviews.default.svc.cluster.local"
V1 = "outbound_.9080_.v1_.reviews.default.svc.cluster.local"


def test_each_service_port_and_subset_has_its_name():
    made = compiled(*BASE, destination_rule("reviews", "v1", "v2"))
    port = made.gateway["", 15443]
    assert {name for chain in port.chains for name in chain.snis} == {ALL, V1, V1.replace("v1", "v2")}
    assert made.problems == ()


def test_only_endpoints_that_take_mtls_are_led_to_and_none_of_ours_begins():
    made = compiled(*BASE, destination_rule("reviews", "v1", "v2"))
    assert [e.port for e in made.clusters[ALL].endpoints] == [1, 2]
    assert [e.port for e in made.clusters[V1].endpoints] == [1]
    assert (made.clusters[ALL].tls, made.clusters[ALL].auto_mtls, made.clusters[ALL].mutual) == (
        None,
        None,
        frozenset(),
    )


def test_clients_offer_the_protocols_of_the_mesh():
    port = compiled(*BASE).gateway["", 15443]
    assert port.find(ALL, ("h2",)) is None
    assert all(port.find(ALL, (name,)) is not None for name in ALPN)


@pytest.mark.parametrize(("hosts", "there"), [(("*.local",), True), (("*.global",), False)])
def test_hosts_of_the_server_say_which_services(hosts, there):
    assert bool(compiled(*BASE, hosts=hosts).gateway["", 15443].chains) is there


def test_services_outside_the_mesh_are_not_led_to():
    outside = service_entry("away", "away.test", ports=[{"number": 443, "name": "tls", "protocol": "TLS"}])
    assert compiled(outside, hosts=("*",)).gateway["", 15443].chains == ()
