"""What outbound ports hand connections on to; what becomes of them in the kernel's hands is in tests/proxy/test_transparent.py,
which plays both engines."""

from __future__ import annotations

from typing import Any

from meshlib.envoy.configuration import Configuration
from tests.support.envoy_engine import compiled
from tests.support.mesh_config import mesh_config
from tests.support.resources import pod, service, service_entry

Json = dict[str, Any]
REGISTRY_ONLY = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "MeshConfig",
    "metadata": {"name": "mesh", "namespace": "istio-system"},
    "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
}


def cluster() -> list[Json]:
    reviews = service("reviews", ports=[{"name": "http", "port": 9080, "targetPort": 8001}])
    reviews["spec"]["clusterIP"] = "10.1.0.5"
    database = service("database", ports=[{"name": "tcp-db", "port": 3306, "targetPort": 8002}])
    database["spec"]["clusterIP"] = "10.1.0.6"
    secure = service_entry("secure", "secure.test", ports=[{"number": 443, "name": "tls", "protocol": "TLS"}])
    wide = service_entry(
        "wide", "*.wide.test", ports=[{"number": 443, "name": "tls", "protocol": "TLS"}], resolution="NONE"
    )
    return [reviews, pod("reviews", "v1", 8001), database, pod("database", "v1", 8002), secure, wide]


def made(*more: Json, at: tuple[str, int] = ("127.0.0.1", 15001)) -> Configuration:
    return compiled(*cluster(), *more, transparent=True, at=at)


def target(chain: Json) -> str:
    """The cluster of a chain of bytes."""
    found: str = chain["filters"][-1]["typed_config"]["cluster"]
    return found


def chains_of(listener: Json) -> dict[str, Json]:
    """By what they are for."""
    found = {}
    for chain in listener["filter_chains"]:
        match = chain["filter_chain_match"]
        found[match.get("server_names", match.get("application_protocols"))[0]] = chain
    return found


def test_the_port_itself_asks_where_a_connection_was_meant_to_go_and_binds_alone() -> None:
    listeners = made().listeners
    own = listeners["outbound"]
    assert own["use_original_dst"] is True
    assert [each["name"].rpartition(".")[2] for each in own["listener_filters"]] == ["original_dst"]
    assert [name for name, each in listeners.items() if each.get("bind_to_port", True)] == ["outbound"]


def test_the_port_itself_reads_requests_of_clients_that_know_it_and_all_else_goes_where_it_was_meant_to() -> None:
    own = made().listeners["outbound"]
    (explicit,) = own["filter_chains"]
    assert explicit["filter_chain_match"] == {
        "destination_port": 15001,
        "prefix_ranges": [{"address_prefix": "127.0.0.1", "prefix_len": 32}],
    }
    assert target(own["default_filter_chain"]) == "PassthroughCluster|original"
    (everywhere,) = made(at=("0.0.0.0", 15001)).listeners["outbound"]["filter_chains"]
    assert [each["prefix_len"] for each in everywhere["filter_chain_match"]["prefix_ranges"]] == [8, 128]


def test_an_address_of_tcp_has_a_listener_of_its_own_that_waits_for_no_byte() -> None:
    listener = made().listeners["10.1.0.6_3306"]
    assert "listener_filters" not in listener
    (chain,) = listener["filter_chains"]
    assert target(chain) == "outbound|3306||database.default.svc.cluster.local"


def test_a_port_of_http_tells_requests_by_their_first_bytes_and_routes_them_by_host_alone() -> None:
    found = made()
    listener = found.listeners["0.0.0.0_9080"]
    assert [each["name"].rpartition(".")[2] for each in listener["listener_filters"]] == [
        "tls_inspector",
        "http_inspector",
    ]
    manager = chains_of(listener)["http/1.0"]["filters"][0]["typed_config"]
    assert manager["rds"]["route_config_name"] == "9080"
    assert target(listener["default_filter_chain"]) == "PassthroughCluster|original"
    routes = found.routes["9080"]
    assert routes["ignore_port_in_host_matching"] is True
    (reviews,) = [host for host in routes["virtual_hosts"] if "reviews" in host["domains"]]
    assert {"reviews.", "reviews.default.svc.cluster.local", "10.1.0.5"} <= set(reviews["domains"])
    assert routes["virtual_hosts"][-1]["routes"][0]["route"]["cluster"] == "PassthroughCluster|original"


def test_a_port_of_tls_goes_by_the_server_name() -> None:
    listener = made().listeners["0.0.0.0_443"]
    chains = chains_of(listener)
    assert target(chains["secure.test"]) == "outbound|443||secure.test"
    assert target(chains["*.wide.test"]) == "outbound|443||*.wide.test|original"


def test_a_cluster_without_addresses_of_its_own_goes_where_bytes_were_meant_to() -> None:
    found = made().clusters["outbound|443||*.wide.test|original"]
    assert (found["type"], found["lb_policy"]) == ("ORIGINAL_DST", "CLUSTER_PROVIDED")


def test_under_registry_only_what_the_mesh_does_not_know_is_closed_and_requests_get_502() -> None:
    found = made(REGISTRY_ONLY)
    assert target(found.listeners["outbound"]["default_filter_chain"]) == "missing"
    assert target(found.listeners["0.0.0.0_443"]["default_filter_chain"]) == "missing"
    assert found.routes["9080"]["virtual_hosts"][-1]["routes"][0]["direct_response"] == {"status": 502}


def test_addresses_of_ipv6_are_led_where_the_port_takes_ipv6() -> None:
    six = service_entry(
        "six", "six.test", ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}], addresses=["fd00::5"]
    )
    assert "[fd00__5]_5432" not in made(six).listeners
    found = made(six, at=("::", 15001)).listeners
    assert found["[fd00__5]_5432"]["address"]["socket_address"]["address"] == "fd00::5"
    assert found["outbound"]["address"]["socket_address"]["ipv4_compat"] is True
    assert found["0.0.0.0_9080"]["additional_addresses"][0]["address"]["socket_address"]["address"] == "::"


def undeclared(*more: Json) -> Configuration:
    either = service("either", ports=[{"name": "what", "port": 9000, "targetPort": 8003}], clusterIP="10.1.0.7")
    return made(either, pod("either", "v1", 8003), *more)


def test_the_address_of_an_undeclared_port_has_a_listener_of_its_own_for_requests_and_for_bytes() -> None:
    found = undeclared()
    listener = found.listeners["10.1.0.7_9000"]
    assert [each["name"].rpartition(".")[2] for each in listener["listener_filters"]] == ["http_inspector"]
    (chain,) = listener["filter_chains"]
    name = "either.default.svc.cluster.local:9000"
    assert chain["filters"][0]["typed_config"]["rds"]["route_config_name"] == name
    assert target(listener["default_filter_chain"]) == "outbound|9000||either.default.svc.cluster.local"
    (host,) = found.routes[name]["virtual_hosts"]
    assert host["domains"] == ["*"]
    assert host["routes"][0]["route"]["cluster"] == "outbound|9000||either.default.svc.cluster.local"
    assert "0.0.0.0_9000" not in found.listeners, "connections to others' addresses are theirs"


def test_first_bytes_are_waited_for_as_long_as_mesh_config_says_and_then_it_is_tcp() -> None:
    timed = undeclared(mesh_config(protocolDetectionTimeout="1500ms")).listeners
    for name in ("10.1.0.7_9000", "0.0.0.0_9080"):
        assert timed[name]["listener_filters_timeout"] == "1.5s"
        assert timed[name]["continue_on_listener_filters_timeout"] is True
    for each in (timed["0.0.0.0_443"], undeclared().listeners["10.1.0.7_9000"]):
        assert "continue_on_listener_filters_timeout" not in each, "names of TLS are waited for"


def test_at_a_port_whose_services_have_their_own_addresses_there_is_no_listener_for_others() -> None:
    assert "0.0.0.0_3306" not in made().listeners


def test_bytes_at_a_port_that_services_without_addresses_share_are_for_the_one_of_tcp() -> None:
    tcp = service_entry("tcp", "tcp.test", ports=[{"number": 443, "name": "tcp", "protocol": "TCP"}])
    listener = made(tcp).listeners["0.0.0.0_443"]
    assert target(chains_of(listener)["secure.test"]) == "outbound|443||secure.test"
    assert target(listener["default_filter_chain"]) == "outbound|443||tcp.test"


def headless(name: str, *modes: str) -> Configuration:
    """A headless service with a pod for each of ``modes``, the value of its label of mTLS, at 10.0.0.1 and on."""
    pods = [pod("db", "v1", 5432, f"10.0.0.{number}", f"db-{number}") for number in range(1, len(modes) + 1)]
    for each, mode in zip(pods, modes, strict=True):
        each["metadata"]["labels"]["security.istio.io/tlsMode"] = mode
    mesh = service("db", clusterIP="None", ports=[{"name": name, "port": 5432, "targetPort": 5432}])
    return compiled(mesh, *pods, transparent=True)


def test_each_pod_of_a_headless_service_of_tcp_has_a_listener_and_a_cluster_which_knows_whether_it_takes_mtls() -> None:
    found = headless("tcp", "istio", "disabled")
    keys = [target(found.listeners[f"10.0.0.{number}_5432"]["filter_chains"][0]) for number in (1, 2)]
    assert keys == [f"outbound|5432||db.default.svc.cluster.local|10.0.0.{number}:5432" for number in (1, 2)]
    (one,), (other,) = (found.endpoints[key]["endpoints"][0]["lb_endpoints"] for key in keys)
    assert one["endpoint"]["address"]["socket_address"] == {"address": "10.0.0.1", "port_value": 5432}
    assert one["metadata"]["filter_metadata"]["envoy.transport_socket_match"] == {"tlsMode": "istio"}
    assert "metadata" not in other


def test_a_pod_whose_port_declares_no_protocol_has_its_own_for_requests_and_for_bytes() -> None:
    found = headless("other", "istio", "disabled")
    for number in (1, 2):
        key = f"outbound|5432||db.default.svc.cluster.local|10.0.0.{number}:5432"
        listener = found.listeners[f"10.0.0.{number}_5432"]
        assert target(listener["default_filter_chain"]) == key
        (requests,) = listener["filter_chains"]
        name = requests["filters"][0]["typed_config"]["rds"]["route_config_name"]
        (host,) = found.routes[name]["virtual_hosts"]
        assert [route["route"]["cluster"] for route in host["routes"]] == [key]
