"""Services and endpoints out of resources, as Istio's registry reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.registry.build import build_registry
from meshlib.registry.kubernetes import port_protocol
from meshlib.registry.names import SuffixIndex, dial_names, most_specific, resolve, wildcard_matches
from meshlib.resources.kubernetes import ServicePort
from meshlib.resources.loader import load_objects
from tests.support.resources import pod, service


def registry(*resources: dict):
    result = load_objects(resources)
    assert not result.errors, result.errors
    return build_registry(result.resources)


def keys(reg, host: str, port: int = 9080) -> list[str]:
    found = reg.lookup(host, "default")
    assert found is not None
    return [e.key for e in found.endpoints.get(port, ())]


REVIEWS = "reviews.default.svc.cluster.local"


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("reviews", "reviews.prod.svc.cluster.local"),
        ("Reviews", "reviews.prod.svc.cluster.local"),
        ("reviews.prod", "reviews.prod"),  # a dot: already final, and so not the service's name
        ("reviews.prod.svc.cluster.local.", "reviews.prod.svc.cluster.local"),
        ("*.example.com", "*.example.com"),
        ("*", "*"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_short_names_belong_to_the_resources_own_namespace(host, full):
    assert resolve(host, "prod") == full


def test_a_short_name_can_be_dialled_only_from_the_services_namespace():
    assert dial_names("a.prod.svc.cluster.local", "prod") == [
        "a.prod.svc.cluster.local",
        "a.prod",
        "a.prod.svc",
        "a",
    ]
    assert "a" not in dial_names("a.prod.svc.cluster.local", "dev")


def test_the_longest_wildcard_wins_and_an_exact_host_beats_it():
    patterns = ["*", "*.com", "*.example.com", "a.example.com"]
    assert most_specific(patterns, "a.example.com") == "a.example.com"
    assert most_specific(patterns, "b.example.com") == "*.example.com"
    assert most_specific(patterns, "example.com") == "*.com"
    assert most_specific(patterns, "x.org") == "*"
    assert most_specific(["*.example.com"], "x.org") is None


def test_a_suffix_index_finds_the_longest_suffix_that_a_name_ends_with():
    index: SuffixIndex[str] = SuffixIndex()
    for suffix in ("", ".com", "iews.com", ".reviews.com"):
        index.setdefault(suffix, suffix)
    assert index.setdefault(".com", "again") == ".com"
    assert [index.longest(name) for name in ("a.org", "a.com", "reviews.com", "v1.reviews.com", "com")] == [
        "",
        ".com",
        "iews.com",
        ".reviews.com",
        "",
    ]
    assert SuffixIndex[str]().longest("a.com") is None


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)


@given(st.lists(labels, min_size=1, max_size=4), labels)
def test_a_wildcard_covers_every_name_below_its_suffix_and_not_the_suffix_itself(parts, first):
    suffix = ".".join(parts)
    assert wildcard_matches(f"*.{suffix}", f"{first}.{suffix}")
    assert not wildcard_matches(f"*.{suffix}", suffix)


@given(labels, labels, labels)
def test_resolving_twice_changes_nothing(name, namespace, other):
    once = resolve(name, namespace)
    assert resolve(once, other) == once


# -- Kubernetes -------------------------------------------------------------------------------------------------------


def test_pods_are_found_by_selector_with_named_ports_of_their_own():
    reg = registry(
        service("reviews"), pod("reviews", "v1", 9081), pod("reviews", "v2", 9082), pod("ratings", "v1", 9083)
    )
    assert keys(reg, REVIEWS) == ["127.0.0.1:9081", "127.0.0.1:9082"]
    first = reg.lookup(REVIEWS, "default").endpoints[9080][0]
    assert first.labels == {"app": "reviews", "version": "v1"}


def test_a_numbered_target_port_is_the_same_on_every_pod():
    reg = registry(
        service("reviews", ports=[{"name": "http", "port": 9080, "targetPort": 8080}]),
        pod("reviews", "v1", 1, ip="10.0.0.1"),
        pod("reviews", "v1", 1, ip="10.0.0.2", name="other"),
    )
    assert keys(reg, REVIEWS) == ["10.0.0.1:8080", "10.0.0.2:8080"]


def test_pods_of_another_namespace_are_not_selected():
    reg = registry(service("reviews"), pod("reviews", "v1", 1, namespace="other"))
    assert keys(reg, REVIEWS) == []


@pytest.mark.parametrize(
    ("status", "healthy"),
    [
        ({}, True),
        ({"phase": "Running"}, True),
        ({"phase": "Pending"}, False),
        ({"phase": "Failed"}, False),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, True),
    ],
)
def test_readiness_of_a_pod_is_the_health_of_its_endpoint(status, healthy):
    made = pod("reviews", "v1", 1)
    made["status"].update(status)
    reg = registry(service("reviews"), made)
    assert [e.healthy for e in reg.lookup(REVIEWS, "default").endpoints[9080]] == [healthy]


def slice_of(name: str, *addresses: str, ready: bool | None = None, ref: str = "", port: int = 7) -> dict:
    endpoint: dict = {"addresses": list(addresses)}
    if ready is not None:
        endpoint["conditions"] = {"ready": ready}
    if ref:
        endpoint["targetRef"] = {"kind": "Pod", "name": ref}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{'-'.join(addresses)}", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [endpoint],
    }


def test_endpoint_slices_win_over_endpoints_and_pods():
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "reviews"},
        "subsets": [{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"name": "http", "port": 9}]}],
    }
    parts = [service("reviews"), pod("reviews", "v1", 1)]
    assert keys(registry(*parts), REVIEWS) == ["127.0.0.1:1"]
    assert keys(registry(*parts, endpoints), REVIEWS) == ["10.0.0.9:9"]
    assert keys(registry(*parts, endpoints, slice_of("reviews", "10.0.0.7")), REVIEWS) == ["10.0.0.7:7"]


def test_several_slices_of_a_service_are_joined_and_an_address_counts_once():
    reg = registry(service("reviews"), slice_of("reviews", "10.0.0.1"), slice_of("reviews", "10.0.0.2", "10.0.0.1"))
    assert keys(reg, REVIEWS) == ["10.0.0.1:7", "10.0.0.2:7"]


def test_labels_of_a_slices_endpoint_come_from_its_pod():
    reg = registry(service("reviews"), pod("reviews", "v3", 1, name="p"), slice_of("reviews", "10.0.0.1", ref="p"))
    (endpoint,) = reg.lookup(REVIEWS, "default").endpoints[9080]
    assert endpoint.labels["version"] == "v3"


def test_a_slices_ports_belong_to_the_services_port_of_that_name_and_a_sole_one_without_a_name_to_any():
    piece = slice_of("reviews", "10.0.0.1")
    for name, found in (("http", ["10.0.0.1:7"]), (None, ["10.0.0.1:7"]), ("", ["10.0.0.1:7"]), ("metrics", [])):
        piece["ports"] = [{"port": 7} if name is None else {"name": name, "port": 7}]
        assert keys(registry(service("reviews"), piece), REVIEWS) == found, name


def test_an_endpoint_that_is_not_ready_is_there_and_unhealthy_unless_the_service_publishes_it():
    parts = [slice_of("reviews", "10.0.0.1", ready=False)]
    assert [e.healthy for e in registry(service("reviews"), *parts).lookup(REVIEWS, "default").endpoints[9080]] == [
        False
    ]
    published = service("reviews", publishNotReadyAddresses=True)
    assert [e.healthy for e in registry(published, *parts).lookup(REVIEWS, "default").endpoints[9080]] == [True]


def test_a_service_whose_deployments_have_no_pods_says_so():
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "reviews-v1"},
        "spec": {"template": {"metadata": {"labels": {"app": "reviews"}}}},
    }
    (problem,) = registry(service("reviews"), deployment).problems
    assert "service reviews has no endpoints: Deployment reviews-v1 should run its pods" in problem.message


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ({"port": 1, "appProtocol": "kubernetes.io/h2c", "name": "tcp-x"}, "http2"),
        ({"port": 1, "name": "grpc-reviews"}, "grpc"),
        ({"port": 1, "name": "grpc-web"}, "grpc-web"),
        ({"port": 1, "name": "http2"}, "http2"),
        ({"port": 1, "name": "HTTPS-web"}, "https"),
        ({"port": 3306}, "tcp"),
        ({"port": 9080, "name": "whatever"}, "sniffed"),
        ({"port": 9080}, "sniffed"),
        ({"port": 9080, "name": "redis-cache"}, "redis"),
        ({"port": 9080, "name": "http", "appProtocol": "acme.io/own"}, "sniffed"),
        ({"port": 9080, "name": "tcp", "appProtocol": "HTTP2-x"}, "http2"),
        ({"port": 53, "protocol": "UDP"}, "udp"),
    ],
)
def test_a_ports_protocol_is_its_app_protocol_else_the_prefix_of_its_name(port, protocol):
    assert port_protocol(ServicePort.model_validate(port)) == protocol


# -- ServiceEntry and WorkloadEntry -----------------------------------------------------------------------------------


def entry(name: str, host: str, namespace: str = "default", **spec) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], **spec},
    }


def test_static_endpoints_choose_their_port_by_name_then_target_port_then_number():
    reg = registry(
        entry(
            "a",
            "a.example.com",
            resolution="STATIC",
            ports=[
                {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080},
                {"number": 81, "name": "other", "protocol": "HTTP"},
            ],
            endpoints=[{"address": "10.0.0.1", "ports": {"http": 1234}}, {"address": "10.0.0.2"}],
        )
    )
    assert keys(reg, "a.example.com", 80) == ["10.0.0.1:1234", "10.0.0.2:8080"]
    assert keys(reg, "a.example.com", 81) == ["10.0.0.1:81", "10.0.0.2:81"]


def test_dns_without_endpoints_resolves_the_host_itself():
    reg = registry(entry("a", "a.example.com", resolution="DNS"))
    assert (keys(reg, "a.example.com", 80), reg.lookup("a.example.com", "default").resolution) == (
        ["a.example.com:80"],
        "dns",
    )


def test_resolution_none_has_no_endpoints_of_its_own():
    reg = registry(entry("a", "*.example.com"))
    assert keys(reg, "*.example.com", 80) == []
    assert reg.lookup("*.example.com", "default").resolution == "none"
    assert reg.lookup("x.example.com", "default") is None  # a destination is a very host


def test_unix_sockets_are_endpoints():
    reg = registry(entry("a", "a.example.com", resolution="STATIC", endpoints=[{"address": "unix:///run/a.sock"}]))
    assert keys(reg, "a.example.com", 80) == ["unix:///run/a.sock"]


def workload_entry(name: str, address: str, **labels: str) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name},
        "spec": {"address": address, "labels": labels, "ports": {"http": 8000}, "weight": 3},
    }


def test_a_workload_selector_takes_workload_entries_and_pods_of_the_namespace():
    reg = registry(
        entry("a", "a.example.com", resolution="STATIC", workloadSelector={"labels": {"app": "vm"}}),
        workload_entry("vm1", "10.0.0.1", app="vm"),
        workload_entry("vm2", "10.0.0.2", app="else"),
        pod("vm", "v1", 9, ip="10.0.0.3"),
    )
    assert sorted(keys(reg, "a.example.com", 80)) == ["10.0.0.1:8000", "10.0.0.3:80"]


def test_workload_entries_back_kubernetes_services_with_their_weight():
    reg = registry(service("reviews"), workload_entry("vm", "10.0.0.1", app="reviews"))
    (endpoint,) = reg.lookup(REVIEWS, "default").endpoints[9080]
    assert (endpoint.key, endpoint.weight) == ("10.0.0.1:8000", 3)


def test_a_workload_entrys_own_port_goes_before_the_services_target_port():
    ports = [{"name": "http", "port": 9080, "targetPort": 9090}, {"name": "grpc", "port": 9081, "targetPort": 9091}]
    reg = registry(service("reviews", ports=ports), workload_entry("vm", "10.0.0.1", app="reviews"))
    assert (keys(reg, REVIEWS, 9080), keys(reg, REVIEWS, 9081)) == (["10.0.0.1:8000"], ["10.0.0.1:9091"])


def test_service_entries_of_one_host_and_namespace_pool_their_endpoints():
    reg = registry(
        entry("b", "a.example.com", resolution="STATIC", endpoints=[{"address": "10.0.0.2"}]),
        entry("a", "a.example.com", resolution="STATIC", endpoints=[{"address": "10.0.0.1"}]),
    )
    assert keys(reg, "a.example.com", 80) == ["10.0.0.1:80", "10.0.0.2:80"]


def test_of_one_host_in_several_namespaces_the_clients_own_counts_then_kubernetes_then_the_oldest():
    host = "x.prod.svc.cluster.local"
    kubernetes = service("x", port=80, namespace="prod")
    mine = entry("mine", host, namespace="dev", resolution="DNS")
    old = entry("old", host, namespace="other", resolution="DNS")
    reg = registry(mine, kubernetes, old)
    assert reg.lookup(host, "dev").resource == "ServiceEntry/dev/mine"
    assert reg.lookup(host, "elsewhere").resource == "Service/prod/x"
    assert registry(mine, old).lookup(host, "elsewhere").resource == "ServiceEntry/dev/mine"


@pytest.mark.parametrize(
    ("export_to", "seen"),
    [(["*"], True), (["."], False), (["dev"], True), (["other"], False), (["~"], False)],
)
def test_export_to_decides_who_sees_a_service_entry(export_to, seen):
    reg = registry(entry("a", "a.example.com", namespace="prod", exportTo=export_to))
    assert (reg.lookup("a.example.com", "dev") is not None) is seen


def test_a_kubernetes_service_is_exported_by_annotation():
    made = service("reviews", namespace="prod")
    made["metadata"]["annotations"] = {"networking.istio.io/exportTo": "., dev"}
    reg = registry(made)
    assert [reg.lookup("reviews.prod.svc.cluster.local", ns) is not None for ns in ("prod", "dev", "x")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(("location", "external"), [("MESH_EXTERNAL", True), ("MESH_INTERNAL", False), (None, True)])
def test_location_says_whether_a_host_is_outside_of_the_mesh(location, external):
    spec = {"location": location} if location else {}
    reg = registry(entry("x", "x.test", resolution="DNS", **spec))
    assert reg.lookup("x.test", "default").external is external


def test_an_endpoint_knows_its_locality_network_and_service_account():
    one = {"address": "10.0.0.1", "locality": "us/west/a", "network": "n1", "serviceAccount": "sa"}
    (endpoint,) = (
        registry(entry("x", "x.test", resolution="STATIC", endpoints=[one])).lookup("x.test", "default").endpoints[80]
    )
    assert (endpoint.locality, endpoint.network, endpoint.service_account) == ("us/west/a", "n1", "sa")


def test_addresses_are_names_that_clients_may_dial():
    from meshlib.compiler.compile import compile_snapshot
    from meshlib.workload import Workload

    one = entry(
        "x", "x.test", resolution="STATIC", addresses=["240.0.0.9/32", "10.0.0.0/8"], endpoints=[{"address": "1.1.1.1"}]
    )
    snapshot = compile_snapshot(load_objects([one]).resources, Workload())
    assert snapshot.virtual_host("240.0.0.9:80", "http").host == "x.test"
    assert snapshot.virtual_host("10.1.2.3:80", "http") is snapshot.passthrough
