"""The ports of a gateway for Envoy; and through a real one."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

import meshlib
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.envoy.configuration import Configuration, configuration
from meshlib.envoy.gateway import Served
from meshlib.envoy.messages import LISTENER, SECRET, packed
from tests.support.envoy_engine import EnvoyCommand, require_envoy
from tests.support.eventually import eventually
from tests.support.gateway_certificates import certificate_pem, client, key_pem, leaf, root, secret, tls_secret
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand, ask
from tests.support.resources import destination_rule, service_entry, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.tcp_server import TcpServer

pytestmark = pytest.mark.slow

APP = service_entry("app", "app.test", endpoints=[{"address": "127.0.0.1", "ports": {"http": 8080}}])
ROUTE = virtual_service("shop", {"route": [to("app.test")]}, hosts=["shop.test"], gateways=["public"])
SHOP, BANK = leaf("shop.test"), leaf("bank.test")


def gateway(*servers: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "public", "namespace": "default"},
        "spec": {"servers": list(servers)},
    }


def server(port: int, protocol: str, *hosts: str, **tls: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"port": {"number": port, "name": f"p{port}-{hosts[0]}", "protocol": protocol}}
    return {**made, "hosts": list(hosts), **({"tls": tls} if tls else {})}


def compiled(*resources: dict[str, Any]) -> Configuration:
    choice = GatewayChoice(("default/public",))
    with meshlib.Mesh.from_resources(list(resources), https_rules="istio", gateways=choice) as mesh:
        live = mesh._core.live
        assert live is not None
        snapshot = live.snapshot
    made = configuration(snapshot, [], gateway=lambda port: (port.bind or "0.0.0.0", port.number))
    for listener in made.listeners.values():
        packed(LISTENER, listener)
    return made


def manager(chain: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = chain["filters"][-1]["typed_config"]
    return found


def test_http_is_routed_by_host_at_the_edge_where_nobody_is_believed() -> None:
    made = compiled(gateway(server(80, "HTTP", "*")), APP, ROUTE)
    (chain,) = made.listeners["gateway_80"]["filter_chains"]
    found = manager(chain)
    (host,) = found["route_config"]["virtual_hosts"]
    assert (host["domains"], host["routes"][0]["route"]["cluster"]) == (["shop.test"], "outbound|80||app.test")
    assert (found["use_remote_address"], found["xff_num_trusted_hops"]) == (True, 0)
    assert found["forward_client_cert_details"] == "SANITIZE_SET"
    assert "x-envoy-peer-metadata" in found["route_config"]["request_headers_to_remove"]
    assert (found["server_name"], found["server_header_transformation"]) == ("istio-envoy", "OVERWRITE")
    assert "outbound|80||app.test" in made.endpoints


def test_https_redirect_sends_plain_text_away() -> None:
    made = compiled(gateway(server(80, "HTTP", "shop.test", httpsRedirect=True)), APP, ROUTE)
    (chain,) = made.listeners["gateway_80"]["filter_chains"]
    (route,) = manager(chain)["route_config"]["virtual_hosts"][0]["routes"]
    assert route["redirect"] == {"response_code": "MOVED_PERMANENTLY", "scheme_redirect": "https"}


def test_what_was_https_before_a_trusted_proxy_is_not_sent_there_again() -> None:
    config = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "MeshConfig",
        "metadata": {"name": "mesh", "namespace": "istio-system"},
        "spec": {"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 1}}},
    }
    made = compiled(config, gateway(server(80, "HTTP", "shop.test", httpsRedirect=True)), APP, ROUTE)
    found = manager(made.listeners["gateway_80"]["filter_chains"][0])
    first, second = found["route_config"]["virtual_hosts"][0]["routes"]
    assert first["match"]["headers"] == [{"name": "x-forwarded-proto", "string_match": {"exact": "https"}}]
    assert (first["route"]["cluster"], "redirect" in second) == ("outbound|80||app.test", True)
    assert found["xff_num_trusted_hops"] == 1


def test_each_server_name_has_its_own_certificate_and_a_missing_one_touches_no_other() -> None:
    made = compiled(
        gateway(
            server(443, "HTTPS", "shop.test", mode="SIMPLE", credentialName="shop"),
            server(443, "HTTPS", "bank.test", mode="MUTUAL", credentialName="bank"),
            server(443, "HTTPS", "gone.test", mode="SIMPLE", credentialName="gone"),
            server(443, "HTTPS", "bad.test", mode="SIMPLE", credentialName="bad"),
        ),
        tls_secret("shop", SHOP),
        tls_secret("bank", BANK, ca=root("root")),
        secret("bad", tls_crt=b"no", tls_key=b"no"),
        APP,
        *(
            virtual_service(name, {"route": [to("app.test")]}, hosts=[f"{name}.test"], gateways=["public"])
            for name in ("shop", "bank", "gone", "bad")
        ),
    )
    by_name = {
        chain["filter_chain_match"]["server_names"][0]: chain
        for chain in made.listeners["gateway_443"]["filter_chains"]
    }
    chains = {
        name: chain["transport_socket"]["typed_config"]
        for name, chain in by_name.items()
        if "transport_socket" in chain
    }
    assert {name: each["require_client_certificate"] for name, each in chains.items()} == {
        "shop.test": False,
        "bank.test": True,
    }
    for name in by_name.keys() - chains.keys():
        assert by_name[name]["filters"][0]["typed_config"]["rules"]["action"] == "DENY", name
    assert by_name.keys() - chains.keys() == {"gone.test", "bad.test"}
    assert "validation_context" not in chains["shop.test"]["common_tls_context"]
    assert len(made.refused) == 2


def test_a_certificate_that_cannot_be_used_is_named_by_its_secret() -> None:
    """Which of a hundred it is, an operator has to know."""
    mixed = secret("shop", tls_crt=certificate_pem(SHOP), tls_key=key_pem(BANK))
    made = compiled(gateway(server(443, "HTTPS", "shop.test", mode="SIMPLE", credentialName="shop")), mixed, APP)
    (why,) = made.refused.values()
    assert why.startswith("its tls cannot be used (Secret default/shop): ")


def ended_tls(pair: Any, mode: str = "SIMPLE", ca: Any = None, **more: Any) -> Configuration:
    tls = server(443, "HTTPS", "shop.test", mode=mode, credentialName="shop", **more)
    return compiled(gateway(tls), tls_secret("shop", pair, ca=ca), APP, ROUTE)


def test_a_secret_that_changes_changes_no_listener() -> None:
    before, after = ended_tls(SHOP), ended_tls(leaf("shop.test", "other.test"))
    assert before.listeners == after.listeners
    (name,) = before.secrets
    assert name in json.dumps(before.listeners)
    assert before.secrets[name] != after.secrets[name]
    for each in (before, after):
        packed(SECRET, each.secrets[name])


def test_roots_of_clients_are_a_secret_and_what_the_gateway_says_of_clients_is_not() -> None:
    names = {"subjectAltNames": ["client.test"]}
    before, after = (ended_tls(SHOP, "MUTUAL", root(ca), **names) for ca in ("root", "another"))
    assert before.listeners == after.listeners
    changed = [name for name in before.secrets if before.secrets[name] != after.secrets[name]]
    assert [list(before.secrets[name]) for name in changed] == [["name", "validation_context"]]
    packed(SECRET, before.secrets[changed[0]])
    assert before.listeners != ended_tls(SHOP, "MUTUAL", root("root")).listeners, (
        "whoever may come in is the listener's"
    )


def test_a_name_of_a_secret_that_is_taken_for_another_is_not_taken_again() -> None:
    served = Served()
    one: dict[str, Any] = {"inline_string": "1"}
    names = [served.secret("shop", tls_certificate=each)["name"] for each in (one, {}, one, {})]
    assert names == ["shop", "shop (2)", "shop", "shop (2)"]
    assert served.secrets["shop"] == {"name": "shop", "tls_certificate": one}


def test_tls_that_is_not_ended_and_tcp_go_where_their_rules_lead() -> None:
    tls = {"match": [{"sniHosts": ["db.test"]}], "route": [to("app.test", port=80)]}
    tcp = {"route": [to("app.test", port=80, weight=90), to("app.test", port=80, weight=10)]}
    made = compiled(
        gateway(server(443, "TLS", "db.test", mode="PASSTHROUGH"), server(5432, "TCP", "*")),
        APP,
        {**virtual_service("db", hosts=["db.test"], gateways=["public"], tls=[tls], tcp=[tcp])},
    )
    (through,) = made.listeners["gateway_443"]["filter_chains"]
    assert through["filter_chain_match"]["server_names"] == ["db.test"]
    assert manager(through)["cluster"] == "outbound|80||app.test"
    (plain,) = made.listeners["gateway_5432"]["filter_chains"]
    assert [each["weight"] for each in manager(plain)["weighted_clusters"]["clusters"]] == [90, 10]


def test_policies_count_for_connections_without_requests_too() -> None:
    tcp = {"route": [to("app.test", port=80)]}
    block = {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}
    made = compiled(
        gateway(server(5432, "TCP", "*")),
        APP,
        virtual_service("db", hosts=["*"], gateways=["public"], tcp=[tcp]),
        authorization_policy("p", "ALLOW", block, on_paths("/x")),
    )
    (chain,) = made.listeners["gateway_5432"]["filter_chains"]
    judged = chain["filters"][0]["typed_config"]["rules"]
    assert judged["action"] == "ALLOW"
    (policy,) = judged["policies"].values()
    (address,) = policy["principals"][0]["and_ids"]["ids"][0]["or_ids"]["ids"]
    assert address == {"direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}


def test_claims_that_routes_ask_for_let_nobody_in() -> None:
    match = [{"headers": {"@request.auth.claims[group]": {"exact": "a"}}}]
    rules = virtual_service(
        "shop", {"match": match, "route": [to("app.test")]}, hosts=["shop.test"], gateways=["public"]
    )
    made = compiled(gateway(server(80, "HTTP", "*")), APP, rules)
    assert "@request.auth.claims[group]" in made.closed[80]
    (chain,) = made.listeners["gateway_80"]["filter_chains"]
    assert manager(chain)["http_filters"][0]["typed_config"]["rules"]["action"] == "DENY"


# -- a real one -------------------------------------------------------------------------------------------------------


def over_tls(port: int, name: str, shows: Any = None) -> int:
    """The status of a request, 0 where there is no connection."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 30) as plain,
            client(shows).wrap_socket(plain, server_hostname=name) as secured,
        ):
            secured.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            head = secured.recv(1000)
            return int(head.split()[1]) if head else 0
    except (ssl.SSLError, ConnectionError):
        return 0


def test_a_real_gateway_ends_tls_by_server_name_rotates_and_follows_reloads(tmp_path: Path) -> None:
    require_envoy()

    def resources(shop: Any) -> str:
        made = [
            gateway(
                server(80, "HTTP", "shop.test", httpsRedirect=True),
                server(443, "HTTPS", "shop.test", mode="SIMPLE", credentialName="shop"),
                server(443, "HTTPS", "bank.test", mode="MUTUAL", credentialName="bank"),
                server(443, "HTTPS", "gone.test", mode="MUTUAL", credentialName="gone"),
                server(443, "HTTPS", "*.test", mode="SIMPLE", credentialName="wild"),
            ),
            tls_secret("shop", shop),
            tls_secret("wild", leaf("more.test", "gone.test")),
            tls_secret("bank", BANK, ca=root("root")),
            *(
                virtual_service(name, {"route": [to("reviews.example")]}, hosts=[f"{name}.test"], gateways=["public"])
                for name in ("shop", "bank", "gone", "more")
            ),
        ]
        return "\n---\n" + "\n---\n".join(map(json.dumps, made))

    (tmp_path / "mesh").mkdir()
    more = tmp_path / "mesh" / "more.yaml"
    more.write_text(resources(SHOP))
    arguments = ("--engine", "envoy", "--gateway", "default/public", "--gateway-port", "80=127.0.0.1:0")
    with (
        EchoServer("app") as app,
        ProxyCommand(tmp_path, app.port, *arguments, "--gateway-port", "443=127.0.0.1:0", outbound=False) as proxy,
    ):
        ports = [int(re.search(r"127\.0\.0\.1:(\d+)", proxy.says("serving Gateway", n))[1]) for n in (1, 2)]  # type: ignore[index]
        with Client(ports[0]) as plain:
            response = plain.get("/x", "GET", "shop.test")
            assert (response.status, response.header("location")) == (301, "https://shop.test/x")
        assert over_tls(ports[1], "shop.test") == 200
        assert over_tls(ports[1], "bank.test") == 0, "a certificate is asked for"
        assert over_tls(ports[1], "bank.test", leaf("somebody")) == 200
        assert over_tls(ports[1], "more.test") == 200
        assert over_tls(ports[1], "gone.test") == 0, "it has no certificate, and is not the wildcard's"
        assert "x-forwarded-for" in app.seen[-1]["headers"]
        more.write_text(resources(leaf("shop.test", "other.test")))
        assert eventually(lambda: over_tls(ports[1], "other.test") or "other.test" in shown(ports[1], "shop.test"))
        assert over_tls(ports[1], "bank.test", leaf("somebody")) == 200


def shown(port: int, name: str) -> str:
    """The names of the certificate that a server shows."""
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        client().wrap_socket(plain, server_hostname=name) as secured,
    ):
        return str(secured.getpeercert())


def test_a_real_gateway_passes_bytes_through(tmp_path: Path) -> None:
    require_envoy()
    with socket.create_server(("127.0.0.1", 0)) as backend:

        def speak() -> None:
            connection, _ = backend.accept()
            with connection:
                connection.sendall(b"hello")
                connection.recv(10)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        tcp = {"route": [to("raw.test", port=5432)]}
        made = [
            gateway(server(5432, "TCP", "*")),
            service_entry(
                "raw",
                "raw.test",
                ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
                endpoints=[{"address": "127.0.0.1", "ports": {"tcp": backend.getsockname()[1]}}],
            ),
            virtual_service("raw", hosts=["raw.test"], gateways=["public"], tcp=[tcp]),
        ]
        (tmp_path / "mesh").mkdir()
        (tmp_path / "mesh" / "more.yaml").write_text("\n---\n".join(map(json.dumps, made)))
        arguments = ("--engine", "envoy", "--gateway", "default/public", "--gateway-port", "5432=127.0.0.1:0")
        with ProxyCommand(tmp_path, 1, *arguments, outbound=False) as proxy:
            found = re.search(r"127\.0\.0\.1:(\d+)", proxy.says("serving Gateway"))
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found[1])), 30) as there:
                assert there.recv(5) == b"hello", "a server may speak first"
                there.sendall(b"bye")
        thread.join(30)


def test_a_load_balancer_tells_of_clients_and_upstreams_are_told_of_them(tmp_path: Path) -> None:
    require_envoy()
    heard: list[bytes] = []
    with EchoServer("app") as app, socket.create_server(("127.0.0.1", 0)) as backend:
        backend.settimeout(60)
        made = [
            mesh_config(defaultConfig={"gatewayTopology": {"proxyProtocol": {}}}),
            gateway(server(80, "HTTP", "*"), server(5432, "TCP", "*")),
            service_entry(
                "raw",
                "raw.test",
                ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
                endpoints=[{"address": "127.0.0.1", "ports": {"tcp": backend.getsockname()[1]}}],
            ),
            destination_rule("raw.test", proxyProtocol={"version": "V1"}),
            virtual_service(
                "raw", hosts=["raw.test"], gateways=["public"], tcp=[{"route": [to("raw.test", port=5432)]}]
            ),
            virtual_service("app", {"route": [to("reviews.example")]}, hosts=["app.test"], gateways=["public"]),
        ]
        (tmp_path / "mesh").mkdir()
        (tmp_path / "mesh" / "more.yaml").write_text("\n---\n".join(map(json.dumps, made)))
        arguments = ["--engine", "envoy", "--gateway", "default/public", "--gateway-port", "80=127.0.0.1:0"]
        arguments += ["--gateway-port", "5432=127.0.0.1:0"]
        with ProxyCommand(tmp_path, app.port, *arguments, outbound=False) as proxy:
            http, tcp = (
                int(re.search(r"127\.0\.0\.1:(\d+)", proxy.says("serving Gateway", number))[1])  # type: ignore[index]
                for number in (1, 2)
            )
            with Client(http) as told:
                told.send(b"PROXY TCP4 10.9.8.7 10.0.0.1 4711 80\r\n")
                assert told.get("/x", "GET", "app.test").status == 200
            assert app.seen[-1]["headers"]["x-forwarded-for"] == "10.9.8.7"
            with Client(http) as untold, pytest.raises((OSError, AssertionError)):
                untold.get("/x", "GET", "app.test")
            with socket.create_connection(("127.0.0.1", tcp), 30) as there:
                there.sendall(b"PROXY TCP4 10.9.8.7 10.0.0.1 4711 5432\r\nhello")
                plain, _ = backend.accept()
                with plain:
                    plain.settimeout(60)
                    while not b"".join(heard).endswith(b"hello"):
                        heard.append(plain.recv(1000))
                        assert heard[-1], heard
        assert b"".join(heard) == b"PROXY TCP4 10.9.8.7 10.0.0.1 4711 5432\r\nhello"


def test_streams_through_a_real_gateway_live_on_while_its_secret_changes(tmp_path: Path) -> None:
    with TcpServer() as echo:
        rule = {"route": [to("raw.test", port=5432)]}

        def resources(pair: Any, ca: Any) -> str:
            made = [
                gateway(server(443, "TLS", "db.test", mode="MUTUAL", credentialName="db")),
                tls_secret("db", pair, ca=ca),
                service_entry(
                    "raw",
                    "raw.test",
                    ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
                    endpoints=[{"address": "127.0.0.1", "ports": {"tcp": echo.port}}],
                ),
                virtual_service("raw", hosts=["db.test"], gateways=["public"], tcp=[rule]),
            ]
            return "\n---\n" + "\n---\n".join(map(json.dumps, made))

        arguments = ("--gateway", "default/public", "--gateway-port", "443=127.0.0.1:0", "--drain", "1")
        (tmp_path / "mesh").mkdir()
        (tmp_path / "mesh" / "more.yaml").write_text(resources(leaf("db.test"), root("root")))
        with EnvoyCommand(tmp_path, 1, *arguments, outbound=False) as proxy:
            port = int(re.search(r"127\.0\.0\.1:(\d+)", proxy.says("serving Gateway"))[1])  # type: ignore[index]
            with stream(port, leaf("somebody")) as before:
                assert said_back(before, b"one")
                new = leaf("db.test", "new.test")
                (tmp_path / "mesh" / "more.yaml").write_text(resources(new, root("another")))
                assert eventually(lambda: shows(port, "new.test", leaf("somebody", of="another")))
                assert said_back(before, b"two"), "its certificate was good when it came"
                with stream(port, leaf("somebody", of="another")) as after:
                    assert said_back(after, b"three")
                with pytest.raises((OSError, AssertionError)), stream(port, leaf("somebody")) as late:
                    assert said_back(late, b"four"), "its root is trusted no more"
                stats = dict(
                    line.split(": ") for line in ask(proxy.admin, "/stats?filter=listener_manager")[1].splitlines()
                )
                assert stats["listener_manager.listener_modified"] == "0"
                assert stats["listener_manager.total_listeners_draining"] == "0"
                assert said_back(before, b"five")


def stream(port: int, pair: Any) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), 30)
    return client(pair).wrap_socket(plain, server_hostname="db.test")


def said_back(there: ssl.SSLSocket, data: bytes) -> bool:
    there.sendall(data)
    return there.recv(100) == data


def shows(port: int, name: str, pair: Any) -> bool:
    """Whether a new connection, of one who may come, is shown a certificate with this name."""
    try:
        with stream(port, pair) as there:
            return name in str(there.getpeercert()) and said_back(there, b"x")
    except OSError:
        return False
