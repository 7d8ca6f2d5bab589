"""Where the application behind the proxy is, and how it is called."""

from __future__ import annotations

import asyncio

import pytest

import meshlib
from meshlib.policy.retry import NO_RETRY
from meshlib.proxy.inbound_application import Application, ApplicationAddress, address_of
from meshlib.proxy.options import InboundPair
from meshlib.proxy.places import TcpPlace, UnixPlace
from tests.support.inbound_proxy import REVIEWS, SERVICE
from tests.support.mesh_config import mesh_config
from tests.support.resources import destination_rule, pod, service

PLACE = TcpPlace("0.0.0.0", 15006)


def mesh_of(*resources):
    return meshlib.Mesh.from_resources([*SERVICE, *resources], workload=REVIEWS)


def cluster(live, path):
    return live.cluster(path.rules[0].destinations[0].cluster)


@pytest.mark.parametrize(
    ("app", "port", "shown", "dialled"),
    [
        (TcpPlace("127.0.0.1", 8080), 8080, "127.0.0.1:8080", "127.0.0.1:8080"),
        (TcpPlace("::1", 8080), 8080, "[::1]:8080", "[::1]:8080"),
        (UnixPlace("/run/app.sock"), 9080, "unix:///run/app.sock", "unix:///run/app.sock"),
    ],
)
def test_policies_know_it_by_its_port(app, port, shown, dialled):
    address = address_of(InboundPair(PLACE, app, port))
    assert (str(address), address.known_as) == (shown, port)
    with mesh_of() as mesh:
        live, path = Application(mesh._core, address).path(False)
        found = cluster(live, path)
        assert [endpoint.endpoint.key for endpoint in found.endpoints] == [dialled]
        assert found.spec.key == f"inbound|{port}||"


def test_it_is_called_without_a_timeout_and_again_only_if_it_cannot_have_seen_the_request():
    with mesh_of() as mesh:
        _, path = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080)).path(False)
        rule = path.rules[0]
        assert (rule.timeout, rule.retry.attempts, rule.retry.retry_on.text) == (None, 2, "reset-before-request")
    with mesh_of(mesh_config(defaultInboundHttpRetryPolicy={})) as mesh:
        _, path = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080)).path(False)
        assert path.rules[0].retry == NO_RETRY


def test_limits_of_connections_are_those_of_its_services_destination_rule():
    pool = {"tcp": {"maxConnections": 3}, "http": {"maxRequestsPerConnection": 5}}
    rule = destination_rule("reviews", connectionPool=pool)
    with mesh_of(rule) as mesh:
        limits = cluster(*Application(mesh._core, ApplicationAddress("127.0.0.1", 9080)).path(False)).spec.limits
        assert (limits.max_connections, limits.max_requests_per_connection) == (3, 5)
        other = cluster(*Application(mesh._core, ApplicationAddress("127.0.0.1", 1)).path(False)).spec.limits
        assert other.max_connections > 3


def test_a_port_of_grpc_is_called_over_http2_and_one_that_is_not_declared_as_its_client_speaks():
    grpc = [service("reviews", ports=[{"name": "grpc", "port": 9080}]), pod("reviews", "v1", 9080)]
    with meshlib.Mesh.from_resources(grpc, workload=REVIEWS) as mesh:
        application = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080))
        assert [cluster(*application.path(http2)).spec.http2 for http2 in (False, True)] == [True, True]
        unknown = Application(mesh._core, ApplicationAddress("127.0.0.1", 1))
        assert [cluster(*unknown.path(http2)).spec.http2 for http2 in (False, True)] == [False, True]
    with mesh_of() as mesh:
        http = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080))
        assert [cluster(*http.path(http2)).spec.http2 for http2 in (False, True)] == [False, False]


def test_where_endpoints_are_at_the_proxys_port_the_services_port_of_the_applications_number_counts():
    """Without interception whoever calls is sent to ``--inbound``: no endpoint is at the port of the application."""
    pool = {"tcp": {"maxConnections": 3}}
    resources = [service("reviews"), pod("reviews", "v1", 15006), destination_rule("reviews", connectionPool=pool)]
    with meshlib.Mesh.from_resources(resources, workload=REVIEWS) as mesh:
        application = Application(mesh._core, ApplicationAddress("unix:///run/app.sock", 0, 9080))
        found = [cluster(*application.path(http2)).spec for http2 in (False, True)]
        assert [(each.http2, each.limits.max_connections) for each in found] == [(False, 3), (False, 3)]
        other = Application(mesh._core, ApplicationAddress("127.0.0.1", 1))
        assert [cluster(*other.path(http2)).spec.http2 for http2 in (False, True)] == [False, True]


def test_a_services_target_port_may_be_the_proxys_and_its_port_another_number_than_the_applications():
    """80 leads to ``--inbound`` 15006, and that to the application's 8080: the service's port says what is spoken there."""
    ports = [{"name": "grpc", "port": 80, "targetPort": 15006}, {"name": "http-other", "port": 81, "targetPort": 15007}]
    pool = {"tcp": {"maxConnections": 3}}
    resources = [
        service("reviews", ports=ports),
        pod("reviews", "v1", 15006),
        destination_rule("reviews", connectionPool=pool),
    ]
    with meshlib.Mesh.from_resources(resources, workload=REVIEWS) as mesh:
        found = [
            cluster(*Application(mesh._core, ApplicationAddress("127.0.0.1", 8080), listens).path(False)).spec
            for listens in (15006, 15008)
        ]
    assert [(each.key, each.http2, each.limits.max_connections == 3) for each in found] == [
        ("inbound|8080||", True, True),
        ("inbound|8080||", False, False),
    ]


def test_a_port_that_an_endpoint_is_at_comes_before_the_service_port_of_the_same_number():
    ports = [{"name": "grpc", "port": 9080, "targetPort": 9090}, {"name": "http", "port": 80, "targetPort": 9080}]
    pods = pod("reviews", "v1", 9080)
    with meshlib.Mesh.from_resources([service("reviews", ports=ports), pods], workload=REVIEWS) as mesh:
        application = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080))
        assert [cluster(*application.path(http2)).spec.http2 for http2 in (False, True)] == [False, False]


class Gone:
    """An endpoint that the cluster has no more."""

    key = "127.0.0.1:1"


def test_a_reload_keeps_its_connections_unless_it_changes_what_they_are():
    async def scene(mesh):
        application = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080))
        first = cluster(*application.path(False))
        marker = object()
        first.targets[Gone()] = marker
        assert application.path(False)[0].cluster("inbound|9080||") is first
        mesh.apply([*SERVICE, service("other")])
        second = cluster(*application.path(False))
        assert second is not first
        assert (second.state is first.state, first.retired) == (True, True)
        assert marker not in second.targets.values()  # nobody's endpoint
        endpoint = second.endpoints[0]
        second.targets[endpoint] = marker
        mesh.apply(SERVICE)
        assert cluster(*application.path(False)).targets[endpoint] is marker

    with mesh_of() as mesh:
        asyncio.run(scene(mesh))


def test_of_a_mesh_that_is_closed_it_is_not_there():
    mesh = mesh_of()
    application = Application(mesh._core, ApplicationAddress("127.0.0.1", 9080))
    mesh.close()
    with pytest.raises(LookupError):
        application.path(False)
