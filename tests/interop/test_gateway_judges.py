"""Others' clients at a gateway: curl in every mode of TLS, and a browser. What is not there is skipped out loud."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.browser import needs_browser, running
from tests.support.gateway_certificates import Pair, certificate_pem, key_pem, leaf, root, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.identities import World
from tests.support.resources import pod, service, service_entry, to, virtual_service

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="NO CURL: gateways' TLS is NOT judged by it")
GONE = {35, 52, 55, 56, 58}
"""curl's codes of a connection that was closed in its handshake, or, over TLS 1.3, right after it."""
UNTRUSTED = 60
SHOP, BANK = leaf("shop.test"), leaf("bank.test")
SOMEBODY, STRANGER = leaf("somebody.test"), leaf("stranger.test", of="another")
DIRECT = {
    "directResponse": {"status": 200, "body": {"string": "hi"}},
    "headers": {"response": {"set": {"content-type": "text/html"}}},
}


def https(*hosts: str, mode: str = "SIMPLE", protocol: str = "HTTPS", **tls: str) -> dict:
    return server(*hosts, port=443, protocol=protocol, name=hosts[0].replace(".", "-"), tls={"mode": mode, **tls})


def routes(host: str) -> dict:
    return virtual_service(host.replace(".", "-"), DIRECT, hosts=[host], gateways=["gw"])


class Curl:
    """Asks a gateway for a name, verified by a root of ours, or with its own certificate."""

    def __init__(self, folder: Path, gw: Gateway) -> None:
        self._folder = folder
        self._port = gw.port(443)
        self._root = self._file("root.pem", certificate_pem(root("root")))

    def _file(self, name: str, content: bytes) -> str:
        (self._folder / name).write_bytes(content)
        return str(self._folder / name)

    def __call__(self, name: str, *more: str, shows: Pair | None = None, trusts: str = "") -> tuple[int, str]:
        """Its exit code and what it was told."""
        assert CURL is not None
        command = [CURL, "--silent", "--noproxy", "*", "--max-time", "60", "--cacert", trusts or self._root]
        command += ["--resolve", f"{name}:{self._port}:127.0.0.1"]
        if shows is not None:
            command += ["--cert", self._file("cert.pem", certificate_pem(shows))]
            command += ["--key", self._file("key.pem", key_pem(shows))]
        line = [*command, *more, f"https://{name}:{self._port}/"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=90, check=False)
        return done.returncode, done.stdout


@needs_curl
def test_a_server_is_told_by_its_name_and_proves_it(tmp_path: Path) -> None:
    servers = [https("shop.test", credentialName="shop"), https("bank.test", credentialName="bank")]
    resources = [tls_secret("shop", SHOP), tls_secret("bank", BANK), routes("shop.test"), routes("bank.test")]
    with Gateway(*resources, gateway(*servers)) as gw:
        curl = Curl(tmp_path, gw)
        assert curl("shop.test", "--http1.1") == (0, "hi")
        assert curl("bank.test", "--http2") == (0, "hi")
        assert curl("other.test")[0] in GONE
        assert curl("shop.test", "-H", "Host: bank.test", "-o", "/dev/null", "-w", "%{http_code}") == (0, "404")
        strangers = tmp_path / "another.pem"
        strangers.write_bytes(certificate_pem(root("another")))
        assert curl("shop.test", trusts=str(strangers))[0] == UNTRUSTED


@needs_curl
@pytest.mark.parametrize("mode", ["MUTUAL", "OPTIONAL_MUTUAL"])
def test_a_client_shows_its_certificate(tmp_path: Path, mode: str) -> None:
    resources = [tls_secret("shop", SHOP, root("root")), routes("shop.test")]
    with Gateway(*resources, gateway(https("shop.test", mode=mode, credentialName="shop"))) as gw:
        curl = Curl(tmp_path, gw)
        assert curl("shop.test", shows=SOMEBODY) == (0, "hi")
        assert curl("shop.test", shows=STRANGER)[0] in GONE
        code, said = curl("shop.test")
        assert (code in GONE) if mode == "MUTUAL" else (code, said) == (0, "hi")


@needs_curl
def test_a_client_of_the_mesh_shows_an_identity(tmp_path: Path) -> None:
    world = World(of_a_mesh=True)
    world.rotate()
    mine = world.root.issue("spiffe://cluster.local/ns/default/sa/caller", world.now)
    files = {"--cert": mine.chain_pem, "--key": mine.key_pem}
    shown = []
    for option, content in files.items():
        path = tmp_path / f"mesh{option}.pem"
        path.write_bytes(content)
        shown += [option, str(path)]
    servers = gateway(https("shop.test", mode="ISTIO_MUTUAL"))
    with Gateway(routes("shop.test"), servers, identity=world.identity) as gw:
        curl = Curl(tmp_path, gw)
        assert curl("shop.test", "--insecure", *shown) == (0, "hi")  # a mesh's certificates have no DNS names
        assert curl("shop.test", "--insecure")[0] in GONE
        assert curl("shop.test", "--insecure", shows=STRANGER)[0] in GONE


class Bank(BaseHTTPRequestHandler):
    """What is behind TLS that passes through."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"bank")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[int]:
    """The port of a server of bank.test that ends TLS itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = tmp_path / "bank.pem"
    file.write_bytes(key_pem(BANK) + certificate_pem(BANK))
    context.load_cert_chain(file)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Bank)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()
    thread.join(60)


@needs_curl
def test_tls_that_passes_through_is_that_of_the_upstream(tmp_path: Path, upstream: int) -> None:
    entry = service_entry(
        "bank",
        "bank.internal.test",
        ports=[{"number": 443, "name": "tls", "protocol": "TLS"}],
        endpoints=[{"address": "127.0.0.1", "ports": {"tls": upstream}}],
    )
    rule = {"match": [{"sniHosts": ["bank.test"]}], "route": [to("bank.internal.test", port=443)]}
    passed = virtual_service("bank", hosts=["bank.test"], gateways=["gw"], tls=[rule])
    servers = [https("bank.test", mode="PASSTHROUGH", protocol="TLS"), https("shop.test", credentialName="shop")]
    with Gateway(entry, passed, tls_secret("shop", SHOP), routes("shop.test"), gateway(*servers)) as gw:
        curl = Curl(tmp_path, gw)
        assert curl("bank.test") == (0, "bank")
        assert curl("shop.test") == (0, "hi")  # beside it, on the same port
        assert curl("other.test")[0] in GONE


@needs_curl
def test_auto_passthrough_is_for_clients_of_the_mesh_alone(tmp_path: Path) -> None:
    made = pod("app", "v1", 1)
    made["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    servers = gateway(https("*.local", mode="AUTO_PASSTHROUGH", protocol="TLS"))
    with Gateway(service("app", 80), made, servers) as gw:
        assert Curl(tmp_path, gw)("outbound_.80_._.app.default.svc.cluster.local", "--insecure")[0] in GONE
        assert gw.process.listener.counts["no_server"] == 1


@needs_browser
def test_a_browser_gets_the_page_over_http2() -> None:
    key = SHOP[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
    resources = [tls_secret("shop", SHOP), routes("shop.test")]
    with Gateway(*resources, gateway(https("shop.test", credentialName="shop"))) as gw:
        port = gw.port(443)
        options = [
            f"--host-resolver-rules=MAP shop.test 127.0.0.1:{port}",
            f"--ignore-certificate-errors-spki-list={pin}",
        ]
        with running(*options) as page:
            page.open(f"https://shop.test:{port}/")
            assert page.run("document.body.innerText") == "hi"
            assert page.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
            assert page.run("window.isSecureContext") is True
