"""A port before an application, for Envoy; and over it, through real ones."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshlib.envoy.configuration import configuration
from meshlib.envoy.inbound import InboundPort, inbound_listener
from meshlib.envoy.messages import LISTENER, packed
from meshlib.workload import Workload
from tests.proxy.test_inbound_command import INBOUND, OUTBOUND, Says, options_of
from tests.proxy.test_inbound_command import authority as authority  # a fixture
from tests.support.envoy_engine import require_envoy, snapshot_of
from tests.support.eventually import eventually
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand

pytestmark = pytest.mark.slow

PORT = InboundPort("0.0.0.0", 15006, "127.0.0.1", 8080, 8080)
JWT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "RequestAuthentication",
    "metadata": {"name": "jwt", "namespace": "default"},
    "spec": {"jwtRules": [{"issuer": "a", "jwksUri": "https://a.test/keys"}]},
}


def peer(mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"mtls": {"mode": mode}},
    }


def listener(*resources: dict[str, Any], identity: bool = True) -> tuple[dict[str, Any] | None, str]:
    made, why = inbound_listener(PORT, snapshot_of(*resources, workload=Workload()), identity)
    if made is not None:
        packed(LISTENER, made)
    return made, why


@pytest.mark.parametrize(
    ("mode", "identity", "chains"),
    [
        ("STRICT", True, ["tls"]),
        ("PERMISSIVE", True, ["tls", "raw_buffer"]),
        ("DISABLE", True, ["raw_buffer"]),
        ("PERMISSIVE", False, ["raw_buffer"]),
    ],
)
def test_connections_are_taken_as_peer_authentication_says(mode: str, identity: bool, chains: list[str]) -> None:
    made, why = listener(peer(mode), identity=identity)
    assert made is not None
    assert [each["filter_chain_match"]["transport_protocol"] for each in made["filter_chains"]] == chains
    assert why == ""
    if chains[0] == "tls":
        assert made["filter_chains"][0]["transport_socket"]["typed_config"]["require_client_certificate"] is True


def test_strict_without_a_certificate_is_no_listener_at_all() -> None:
    made, why = listener(peer("STRICT"), identity=False)
    assert made is None
    assert "no certificate" in why


def test_policies_come_before_the_application() -> None:
    made, _ = listener(authorization_policy("deny", "DENY", on_paths("/admin")))
    assert made is not None
    filters = made["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    assert [each["name"] for each in filters] == ["envoy.filters.http.rbac", "envoy.filters.http.router"]


def test_what_proxies_tell_each_other_is_not_for_the_application() -> None:
    made, _ = listener(peer("DISABLE"))
    assert made is not None
    removed = made["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["request_headers_to_remove"]
    assert removed == ["x-envoy-decorator-operation", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id"]


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        (JWT, "RequestAuthentication default/jwt: keys that are fetched"),
        (authorization_policy("c", "CUSTOM", on_paths("/"), provider={"name": "x"}), "CUSTOM"),
    ],
)
def test_what_has_no_translation_lets_nobody_in(resource: dict[str, Any], said: str) -> None:
    made, why = listener(resource)
    assert said in why
    assert made is not None
    for chain in made["filter_chains"]:
        first = chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]
        assert first["rules"] == {
            "action": "DENY",
            "policies": {"all": {"permissions": [{"any": True}], "principals": [{"any": True}]}},
        }


def test_the_application_is_a_cluster_of_one_endpoint_over_a_unix_socket_too() -> None:
    place = InboundPort("127.0.0.1", 15006, "unix:///run/app.sock", 0, 9080)
    made = configuration(snapshot_of(), [], None, [place])
    (members,) = made.endpoints["inbound|9080||"]["endpoints"]
    assert members["lb_endpoints"][0]["endpoint"]["address"] == {"pipe": {"path": "/run/app.sock"}}
    assert made.routes == {}


# -- real ones --------------------------------------------------------------------------------------------------------


class OnUnixSocket(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "app.sock"
    with OnUnixSocket(str(path), Says) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield path
        server.shutdown()


def command(folder: Path, backend: int, more: str, *arguments: str) -> ProxyCommand:
    (folder / "mesh").mkdir(parents=True)
    (folder / "mesh" / "more.yaml").write_text(more)
    return ProxyCommand(folder, backend, *arguments)


@pytest.mark.parametrize(("out", "into"), [("envoy", "envoy"), ("meshlib", "envoy"), ("envoy", "meshlib")])
def test_from_one_engine_to_the_other_over_mtls(
    tmp_path: Path, app: Path, authority: Path, out: str, into: str
) -> None:
    require_envoy()
    inbound = ("--engine", into, "--inbound", "127.0.0.1:0", "--app", f"unix:{app}", "--app-port", "9080")
    with command(tmp_path / "reviews", 1, INBOUND, *inbound, *options_of(authority, "reviews")) as reviews:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", reviews.says("serving unix:"))
        assert found is not None
        port = int(found[1])
        with Client(port) as plain, pytest.raises(OSError):  # STRICT
            plain.get()
        engine = ("--engine", out)
        with (
            command(
                tmp_path / "productpage", port, OUTBOUND, *engine, *options_of(authority, "productpage")
            ) as productpage,
            productpage.client() as client,
        ):
            response = client.get("/reviews/1", "GET", "reviews.example:9080")
            assert response.status == 200, response.body
            element = json.loads(response.body)["x-forwarded-client-cert"]
            assert element.startswith("By=spiffe://cluster.local/ns/default/sa/reviews;Hash=")
            assert element.endswith('Subject="";URI=spiffe://cluster.local/ns/default/sa/productpage')
        with (
            command(tmp_path / "other", port, OUTBOUND, *engine, *options_of(authority, "reviews")) as other,
            other.client() as client,
        ):
            assert client.get("/reviews/1", "GET", "reviews.example:9080").status == 403


def test_security_that_envoy_is_not_told_keeps_it_from_beginning_and_closes_it_after_a_reload(
    tmp_path: Path, app: Path
) -> None:
    require_envoy()
    inbound = ("--engine", "envoy", "--inbound", "127.0.0.1:0", "--app", f"unix:{app}", "--app-port", "9080")
    jwt = f"\n---\n{json.dumps(JWT)}\n"
    with command(tmp_path / "a", 1, jwt, *inbound) as refused:
        assert refused.ends() == 1
        refused.says("would let nobody in at port 9080: RequestAuthentication default/jwt")
    with command(tmp_path / "b", 1, "", *inbound) as proxy:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", proxy.says("serving unix:"))
        assert found is not None

        def status() -> int:
            with Client(int(found[1])) as client:
                code: int = client.get().status
                return code

        assert status() == 200
        proxy.configure(jwt)
        proxy.says("nobody is let in at port 9080")
        assert eventually(lambda: status() == 403)
        proxy.configure()
        assert eventually(lambda: status() == 200)
