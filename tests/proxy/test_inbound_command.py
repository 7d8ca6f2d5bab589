"""``meshlib proxy`` as processes, with certificates of ``meshlib ca``: an application calls through the outbound side of one,
and the inbound side of the other hands the call to an application on a unix socket."""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand

pytestmark = pytest.mark.slow

INBOUND = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-productpage, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/productpage]}}]
    to: [{operation: {ports: ["9080"]}}]
"""
OUTBOUND = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""


class Says(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class OnUnixSocket(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "app.sock"
    with OnUnixSocket(str(path), Says) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield path
        server.shutdown()


@pytest.fixture
def authority(tmp_path):
    folder = tmp_path / "ca"
    for arguments in (
        ["init", str(folder), "--trust-domain", "cluster.local"],
        *(["issue", str(folder), "-n", "default", "--service-account", name] for name in ("reviews", "productpage")),
    ):
        done = CliRunner().invoke(main, ["ca", *arguments])
        assert done.exit_code == 0, done.output
    return folder


def options_of(authority: Path, name: str) -> list[str]:
    issued = authority / "issued" / f"ns+default+sa+{name}"
    files = (issued / "cert.pem", issued / "key.pem", issued / "bundle.pem")
    assert all(file.exists() for file in files), list(issued.iterdir())
    named = zip(("--cert", "--key", "--bundle"), map(str, files), strict=True)
    return [*(word for pair in named for word in pair), "--workload", f"{name}-v1", "--labels", f"app={name}"]


def command(folder: Path, backend: int, more: str, *arguments: str) -> ProxyCommand:
    folder.mkdir()
    (folder / "mesh").mkdir()
    (folder / "mesh" / "more.yaml").write_text(more)
    return ProxyCommand(folder, backend, *arguments)


def test_from_one_process_with_two_workers_to_the_other(tmp_path, app, authority):
    inbound = ("--inbound", "127.0.0.1:0", "--app", f"unix:{app}", "--app-port", "9080", "--workers", "2")
    with command(tmp_path / "reviews", 1, INBOUND, *inbound, *options_of(authority, "reviews")) as reviews:
        line = reviews.says("serving unix:")
        port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", line)[1])
        with Client(port) as plain, pytest.raises(ConnectionResetError):
            plain.get()
        with (
            command(tmp_path / "productpage", port, OUTBOUND, *options_of(authority, "productpage")) as productpage,
            productpage.client() as client,
        ):
            response = client.get("/reviews/1", "GET", "reviews.example:9080")
            assert response.status == 200, response.body
            element = json.loads(response.body)["x-forwarded-client-cert"]
            assert element.startswith("By=spiffe://cluster.local/ns/default/sa/reviews;Hash=")
            assert element.endswith('Subject="";URI=spiffe://cluster.local/ns/default/sa/productpage')
        with (
            command(tmp_path / "other", port, OUTBOUND, *options_of(authority, "reviews")) as other,
            other.client() as client,
        ):
            assert client.get("/reviews/1", "GET", "reviews.example:9080").status == 403
