"""What a client of each kind speaks to a server of each kind, over real sockets: Istio's matrix of the modes of a server's
PeerAuthentication and what a client's DestinationRule says, with and without a certificate."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from tests.support.mesh_server import MeshServer, tells
from tests.support.mesh_tls import CLIENT, REVIEWS, ROOT, identity, svid
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import destination_rule, pod, service

SERVERS = ("STRICT", "PERMISSIVE", "DISABLE", "no mesh")
US = meshlib.Workload("client", labels={"app": "client"})
SERVER = meshlib.Workload("reviews-v1", labels={"app": "reviews"}, service_account="reviews")


class Plain(http.server.BaseHTTPRequestHandler):
    """Of a server that knows of no mesh."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """A server of each kind."""
    with contextlib.ExitStack() as stack:
        found = {}
        for mode in SERVERS[:3]:
            ours = identity(svid(REVIEWS), start=False)[0]
            policy = peer_authentication("all", mode)
            mesh = stack.enter_context(meshlib.Mesh.from_resources([policy], workload=SERVER, identity=ours))
            found[mode] = stack.enter_context(MeshServer(tells, mesh)).port
        outside = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plain)
        threading.Thread(target=outside.serve_forever, daemon=True).start()
        stack.callback(outside.server_close)
        stack.callback(outside.shutdown)
        found["no mesh"] = outside.server_address[1]
        yield found


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("roots") / "ca.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(ROOT.root_der))
    return file


MTLS, PLAIN_TEXT, FAILS, RESET = "mTLS", "plain text", "UF", "reset"
CLIENTS = ("no certificate", "auto", "ISTIO_MUTUAL", "ISTIO_MUTUAL without certificate", "DISABLE", "SIMPLE")
MATRIX = {
    # what the client is:               STRICT  PERMISSIVE  DISABLE     no mesh
    "no certificate": (RESET, PLAIN_TEXT, PLAIN_TEXT, PLAIN_TEXT),
    "auto": (MTLS, MTLS, PLAIN_TEXT, PLAIN_TEXT),
    "ISTIO_MUTUAL": (MTLS, MTLS, FAILS, FAILS),
    "ISTIO_MUTUAL without certificate": (FAILS, FAILS, FAILS, FAILS),
    "DISABLE": (RESET, PLAIN_TEXT, PLAIN_TEXT, PLAIN_TEXT),
    "SIMPLE": (
        RESET,
        RESET,
        FAILS,
        FAILS,
    ),  # TLS without a certificate of ours, which TLS 1.3 refuses at the first read
}
EACH = [(client, server, wanted) for client in CLIENTS for server, wanted in zip(SERVERS, MATRIX[client], strict=True)]


def resources(client: str, server: str, port: int, roots: Path) -> list[dict[str, Any]]:
    place = pod("reviews", "v1", port)
    place["spec"]["serviceAccountName"] = "reviews"
    found = [service("reviews"), place]
    if server != "no mesh":
        place["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
        found.append(peer_authentication("all", server))
    if client.startswith("ISTIO_MUTUAL"):
        found.append(destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"}))
    elif client == "DISABLE":
        found.append(destination_rule("reviews", tls={"mode": "DISABLE"}))
    elif client == "SIMPLE":
        tls = {"mode": "SIMPLE", "caCertificates": str(roots), "subjectAltNames": [REVIEWS]}
        found.append(destination_rule("reviews", tls=tls))
    return found


def flags_of(registry: CollectorRegistry) -> str:
    samples = [s for family in registry.collect() for s in family.samples if s.name == "istio_requests_total"]
    return ",".join(sorted({s.labels["response_flags"] for s in samples if s.value}))


def call(mesh: meshlib.Mesh, runtime: str) -> httpx.Response:
    if runtime == "threads":
        with mesh.client(timeout=20) as client:
            return client.get("http://reviews:9080/")

    async def get() -> httpx.Response:
        async with mesh.async_client(timeout=20) as client:
            return await client.get("http://reviews:9080/")

    return asyncio.run(get())


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize(("client", "server", "wanted"), EACH)
def test_what_is_spoken_and_what_comes_of_it(
    client: str, server: str, wanted: str, runtime: str, ports: dict[str, int], roots: Path
) -> None:
    registry = CollectorRegistry()
    with_certificate = client not in ("no certificate", "ISTIO_MUTUAL without certificate")
    ours = identity(svid(CLIENT), start=False)[0] if with_certificate else None
    made = resources(client, server, ports[server], roots)
    with meshlib.Mesh.from_resources(made, workload=US, identity=ours, registry=registry) as mesh:
        [target] = mesh.explain(url="http://reviews:9080/").to_dict()["destinations"]
        [endpoint] = target["endpoints"]
        if wanted in (MTLS, PLAIN_TEXT):
            response = call(mesh, runtime)
            assert response.status_code == 200
            shown = response.json().get("tls")
            assert (shown is not None) == (wanted == MTLS)
            assert endpoint["tls"] == wanted, endpoint["tls_reason"]
        elif wanted == FAILS:
            with pytest.raises(httpx.ConnectError):
                call(mesh, runtime)
            assert "UF" in flags_of(registry)
        else:
            with pytest.raises(httpx.TransportError) as caught:
                call(mesh, runtime)
            assert not isinstance(caught.value, httpx.TimeoutException)
            assert endpoint["tls"] == ("SIMPLE" if client == "SIMPLE" else PLAIN_TEXT)
            # a TLS 1.3 server's alert comes with the first read, or after the write: a refusal before may be tried again
            assert flags_of(registry) in ("UC", "UF", "UF,URX")
