"""One port before all of an application's, for Envoy; through a real one in a network namespace: in
tests/proxy/test_inbound_transparent.py, which plays both engines."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.envoy import launch
from meshlib.envoy.inbound_transparent import NO_CERTIFICATE, EveryPort, Served, every_port
from meshlib.envoy.launch import unsupported
from meshlib.envoy.messages import CLUSTER, LISTENER, packed
from meshlib.problems import MeshError
from meshlib.proxy.options import Given, checked
from meshlib.workload import Workload
from tests.support.envoy_engine import snapshot_of
from tests.support.inbound_policies import authorization_policy
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import pod, service

Json = dict[str, Any]
APP = Workload("app-v1", labels={"app": "app"}, service_account="app")
HTTP, BYTES = "http_connection_manager", "tcp_proxy"
DECLARED = [
    service(
        "app",
        ports=[
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "grpc", "port": 81, "targetPort": 8081},
            {"name": "tcp-db", "port": 3306},
            {"name": "what", "port": 9000},
            {"name": "http-named", "port": 82, "targetPort": "web"},
        ],
    )
]
NAMED = pod("app", "v1", 8082)
NAMED["spec"]["containers"][0]["ports"][0]["name"] = "web"


def served(*resources: Json, identity: bool = True, declared: list[Json] = DECLARED) -> Served:
    snapshot = snapshot_of(*declared, NAMED, *resources, workload=APP)
    made = every_port(EveryPort("0.0.0.0", 15006), snapshot, identity)
    if made.listener is not None:
        packed(LISTENER, made.listener)
    for cluster in made.clusters.values():
        packed(CLUSTER, cluster)
    return made


def ways(made: Served, port: int | None) -> list[tuple[str, str, tuple[str, ...], bool]]:
    """(what reads them, transport, protocols, whether mTLS ends there) of the chains of a port, None: of all others."""
    assert made.listener is not None
    found = []
    for chain in made.listener["filter_chains"]:
        match = chain.get("filter_chain_match", {})
        if match.get("destination_port") == port:
            reader = chain["filters"][-1]["name"].rpartition(".")[2]
            alpn = tuple(match.get("application_protocols", ()))
            found.append((reader, match.get("transport_protocol", ""), alpn, "transport_socket" in chain))
    return found


def mode(mode: str, **ports: str) -> Json:
    made = peer_authentication("app", mode, app="app")
    if ports:
        made["spec"]["portLevelMtls"] = {number[1:]: {"mode": mode} for number, mode in ports.items()}
    return made


REQUESTS, OF_BYTES = ("istio-http/1.0", "istio-http/1.1", "istio-h2"), ("istio-peer-exchange", "istio")
PLAIN = ("http/1.0", "http/1.1", "h2c")


@pytest.mark.parametrize(
    ("said", "port", "wanted"),
    [
        ("STRICT", 8080, [(HTTP, "tls", (), True)]),
        ("PERMISSIVE", 8080, [(HTTP, "tls", (), True), (HTTP, "raw_buffer", (), False)]),
        ("DISABLE", 8080, [(HTTP, "", (), False)]),
        ("STRICT", 3306, [(BYTES, "tls", (), True)]),
        (
            "PERMISSIVE",
            3306,
            [
                (BYTES, "tls", (*REQUESTS, *OF_BYTES), True),
                (BYTES, "tls", (), False),
                (BYTES, "raw_buffer", (), False),
            ],
        ),
        ("DISABLE", 3306, [(BYTES, "", (), False)]),
        ("STRICT", 9000, [(HTTP, "tls", (*REQUESTS, "h2", "http/1.1"), True), (BYTES, "tls", (), True)]),
        ("DISABLE", 9000, [(HTTP, "", PLAIN, False), (BYTES, "", (), False)]),
        (
            "PERMISSIVE",
            None,
            [
                (HTTP, "tls", REQUESTS, True),
                (BYTES, "tls", OF_BYTES, True),
                (BYTES, "tls", (), False),
                (HTTP, "raw_buffer", PLAIN, False),
                (BYTES, "raw_buffer", (), False),
            ],
        ),
    ],
)
def test_what_tells_connections_apart_follows_from_mode_and_protocol(said, port, wanted):
    assert ways(served(mode(said)), port) == wanted


def test_a_target_port_that_is_a_name_is_known_by_its_number() -> None:
    assert ways(served(mode("DISABLE")), 8082) == [(HTTP, "", (), False)]


def test_port_level_modes_count_also_for_ports_that_no_service_declares() -> None:
    made = served(mode("STRICT", _7000="DISABLE", _8080="PERMISSIVE"))
    assert ways(made, 7000) == [(HTTP, "", PLAIN, False), (BYTES, "", (), False)]
    assert len(ways(made, 8080)) == 2
    assert all(transport == "tls" and mutual for _, transport, _, mutual in ways(made, None))


def test_a_port_that_is_strict_makes_no_other_strict() -> None:
    made = served(mode("PERMISSIVE", _7000="STRICT"))
    assert len(ways(made, 7000)) == 2
    assert len(ways(made, None)) == 5


def test_what_is_meant_for_the_port_itself_leads_nowhere() -> None:
    made = served()
    assert made.listener is not None
    (itself,) = [c for c in made.listener["filter_chains"] if c["name"] == "itself"]
    assert itself["filter_chain_match"] == {"destination_port": 15006}
    assert itself["filters"][-1]["typed_config"]["cluster"] == "missing"


def test_nothing_is_looked_at_where_nothing_has_to_be_told_apart() -> None:
    """So that a server may speak first."""
    made = served(mode("PERMISSIVE", _3306="DISABLE"))
    assert made.listener is not None
    meant, tls, requests = made.listener["listener_filters"]
    assert meant["name"].endswith("original_dst")
    at = [r["destination_port_range"]["start"] for r in tls["filter_disabled"]["or_match"]["rules"]]
    assert at == [3306, 15006]
    at = [r["destination_port_range"]["start"] for r in requests["filter_disabled"]["or_match"]["rules"]]
    assert at == [3306, 8080, 8081, 8082, 15006]


def test_the_application_is_spoken_to_as_its_port_says_at_the_address_that_was_meant() -> None:
    made = served()
    assert made.listener is not None
    to = {}
    for chain in made.listener["filter_chains"]:
        config = chain["filters"][-1]["typed_config"]
        if "route_config" in config:
            (route,) = config["route_config"]["virtual_hosts"][0]["routes"]
            to[chain.get("filter_chain_match", {}).get("destination_port")] = route["route"]["cluster"]
    assert to == {
        8080: "inbound|http|original_dst|",
        8081: "inbound|http2|original_dst|",
        8082: "inbound|http|original_dst|",
        9000: "inbound|sniffed|original_dst|",
        None: "inbound|sniffed|original_dst|",
    }
    for cluster in made.clusters.values():
        assert cluster["type"] == "ORIGINAL_DST"
        assert cluster["upstream_bind_config"]["source_address"]["address"] == "127.0.0.6"


def test_without_a_certificate_a_port_that_asks_for_one_is_closed_and_not_one_of_the_others() -> None:
    made = served(mode("PERMISSIVE", _3306="STRICT"), identity=False)
    assert made.listener is not None
    (chain,) = [
        c for c in made.listener["filter_chains"] if c.get("filter_chain_match", {}).get("destination_port") == 3306
    ]
    assert [each["name"].rpartition(".")[2] for each in chain["filters"]] == ["rbac", "tcp_proxy"]
    assert chain["filters"][-1]["typed_config"]["cluster"] == "missing"
    assert ways(made, 8080) == [(HTTP, "raw_buffer", (), False)]
    assert made.why == ""


def test_where_nobody_can_be_served_there_is_no_port() -> None:
    made = served(mode("STRICT"), identity=False)
    assert (made.listener, made.why) == (None, NO_CERTIFICATE)


def test_policies_are_asked_of_requests_and_of_connections() -> None:
    made = served(authorization_policy("no", "DENY", {"to": [{"operation": {"ports": ["3306"]}}]}))
    assert made.listener is not None
    for chain in made.listener["filter_chains"]:
        if chain["name"] != "itself":
            reader = chain["filters"][-1]
            http = [each["name"] for each in reader["typed_config"].get("http_filters", ())]
            network = [each["name"] for each in chain["filters"][:-1]]
            assert ("envoy.filters.http.rbac" in http) or network == ["envoy.filters.network.rbac"], chain["name"]


def test_what_of_security_has_no_translation_lets_nobody_in() -> None:
    jwt = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "jwt", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": "a", "jwksUri": "https://a.test/keys"}]},
    }
    made = served(jwt)
    assert "jwksUri" in made.why or "a.test" in made.why
    assert made.listener is not None
    for chain in made.listener["filter_chains"]:
        assert "rbac" in str(chain["filters"]) or chain["name"] == "itself"


def test_first_bytes_are_waited_for_as_long_as_mesh_config_says() -> None:
    made = served(mesh_config(protocolDetectionTimeout="2s")).listener
    assert made is not None
    assert (made["listener_filters_timeout"], made["continue_on_listener_filters_timeout"]) == ("2s", True)


def test_addresses_of_clients_are_kept_where_the_kernel_has_left_them() -> None:
    led, kept = (
        every_port(EveryPort("0.0.0.0", 15006, keeps), snapshot_of(*DECLARED), True) for keeps in (False, True)
    )
    for made, keeps in ((led, False), (kept, True)):
        assert made.listener is not None
        packed(LISTENER, made.listener)
        assert made.listener.get("transparent", False) is keeps
        names = [each["name"].rpartition(".")[2] for each in made.listener["listener_filters"]]
        assert names == ["original_dst", *(["original_src"] if keeps else []), "tls_inspector", "http_inspector"]
        assert all(("upstream_bind_config" in cluster) is not keeps for cluster in made.clusters.values())
    assert kept.listener is not None
    assert kept.listener["listener_filters"][1]["typed_config"]["mark"] == 1337


def test_a_process_that_may_not_keep_them_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_allowed(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    given = Given(["mesh"], [], ["0.0.0.0:15006"], [], transparent=True, interception="TPROXY")
    assert unsupported(checked(given), None) == []
    monkeypatch.setattr(launch, "allow_any_address", not_allowed)
    with pytest.raises(MeshError, match=r"takes CAP_NET_ADMIN, which this process has not \(Operation not permitted\)"):
        launch._may_keep_sources()
