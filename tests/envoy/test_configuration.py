"""A snapshot as all that an Envoy is told."""

from __future__ import annotations

from meshlib.envoy.configuration import configuration
from tests.support.envoy_engine import compiled, snapshot_of
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service

PODS = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v2", 2), destination_rule("reviews", "v1", "v2")]


def test_a_cluster_by_eds_has_endpoints_and_no_other_has() -> None:
    made = compiled(
        *PODS,
        service_entry("a", "a.test", resolution="DNS"),
        virtual_service("reviews", {"route": [to("reviews", "v1")]}),
    )
    by_eds = {name for name, values in made.clusters.items() if values.get("type") == "EDS"}
    assert by_eds == made.endpoints.keys() == {"outbound|9080|v1|reviews.default.svc.cluster.local"}


def test_each_outbound_port_is_a_listener_with_the_same_routes() -> None:
    made = configuration(snapshot_of(*PODS), [("127.0.0.1", 15001), ("::1", 15002)])
    assert list(made.listeners) == ["outbound", "outbound-2"]
    assert list(made.routes) == ["outbound"]


def test_the_same_resources_are_the_same_configuration() -> None:
    assert compiled(*PODS) == compiled(*PODS)


def test_one_endpoint_more_is_nothing_but_endpoints() -> None:
    before, after = compiled(*PODS), compiled(*PODS, pod("reviews", "v3", 3))
    assert (before.clusters, before.listeners, before.routes) == (after.clusters, after.listeners, after.routes)
    assert before.endpoints != after.endpoints
