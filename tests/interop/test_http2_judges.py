"""``meshlib proxy`` before judges of HTTP/2 and gRPC that others wrote: h2spec, grpc-go, nghttp2 and curl.

``make h2spec`` and ``make grpc-interop`` get those in Go, ``make proxy-tools`` nghttp2's.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from benchmarks import proxy_tools
from benchmarks.free_ports import free_port
from tests.support.eventually import eventually
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.go_tools import found, needs
from tests.support.inbound_proxy import InboundProxy
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service
from tests.support.servers import EchoServer

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
)
NOT_PASSED = "Sends invalid connection preface"
"""The port speaks HTTP/1.1, too: what is no preface is a bad request of HTTP/1.1, which gets its 400 before the connection
closes."""
SECONDS = 120


def resources(name: str, speaks: str, at: int, port: int) -> list[dict]:
    """A service that is called ``localhost``, as judges send the authority that they connect to."""
    ports = [{"name": speaks, "port": at, "targetPort": port}]
    return [service(name, ports=ports), pod(name, "v1", port)]


@contextlib.contextmanager
def proxy_before(speaks: str, port: int, **policy: object) -> Iterator[Proxy]:
    """A proxy on ``localhost:port`` for whom ``localhost:port`` is this upstream."""
    at = free_port()
    found = resources("localhost", speaks, at, port)
    if policy:
        found.append(destination_rule("localhost", **policy))
    with Proxy(found, port=at) as proxy:
        yield proxy


@pytest.fixture
def upstream():
    with EchoServer("judged") as made:
        yield made


def before_an_application(upstream):
    return InboundProxy(upstream.port, own=resources("reviews", "http", upstream.port, upstream.port))


@needs("h2spec")
@pytest.mark.parametrize("side", ["outbound", "inbound"])
def test_h2spec_passes_144_of_145(upstream, side):
    made = proxy_before("http", upstream.port) if side == "outbound" else before_an_application(upstream)
    with made as proxy:
        judged(proxy.port)


@needs("h2spec")
@pytest.mark.parametrize("number", [80, 443])
def test_so_does_a_gateway_in_plain_text_and_over_tls(upstream, number):
    tls = {"mode": "SIMPLE", "credentialName": "cert"}
    servers = server("*"), server("*", port=443, protocol="HTTPS", tls=tls)
    entry = service_entry("app", "app.test", resolution="STATIC", endpoints=[{"address": "127.0.0.1"}])
    entry["spec"]["endpoints"][0]["ports"] = {"http": upstream.port}
    entry["spec"]["ports"] = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    routes = virtual_service("app", {"route": [to("app.test", port=80)]}, hosts=["*"], gateways=["gw"])
    with Gateway(gateway(*servers), routes, entry, tls_secret("cert", leaf("localhost"))) as gw:
        judged(gw.port(number), *(["-t", "-k"] if number == 443 else []))


def judged(port, *options):
    """By h2spec."""
    done = subprocess.run(
        [found("h2spec") or "", "-h", "localhost", "-p", str(port), "-o", str(SECONDS // 4), *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    failures = done.stdout.partition("Failures:")[2]
    failed = re.findall(r"× \d+: (.*)", failures)
    assert failed in ([], [NOT_PASSED]), failures
    assert "145 tests" in done.stdout


@contextlib.contextmanager
def interop_server(*options: str) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([found("interop-server") or "", "-port", str(port), *options])
    try:
        assert eventually(lambda: _listens(port))
        yield port
    finally:
        process.kill()
        process.wait(60)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def plaintext():
    with interop_server() as port, proxy_before("grpc", port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    options = ("-use_tls", f"-tls_cert_file={folder / 'cert.pem'}", f"-tls_key_file={folder / 'key.pem'}")
    tls = {"mode": "SIMPLE", "caCertificates": str(folder / "ca.pem"), "sni": "localhost"}
    with interop_server(*options) as port, proxy_before("grpc", port, tls=tls) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def inbound():
    with interop_server() as port:
        with InboundProxy(port, own=resources("reviews", "grpc", port, port)) as proxy:
            yield proxy


@needs("interop-client", "interop-server")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["plaintext", "over_tls", "inbound"])
def test_grpc_go_talks_to_grpc_go_through_the_proxy(request, way, case):
    proxy = request.getfixturevalue(way)
    command = [found("interop-client") or "", "-server_host", "localhost", "-server_port", str(proxy.port)]
    done = subprocess.run([*command, "-test_case", case], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr


def test_curl_speaks_http2_with_the_proxy_by_prior_knowledge(upstream):
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("NO curl with HTTP/2: what a real one says is NOT tested")
    with proxy_before("http", upstream.port) as proxy:
        url = f"http://localhost:{proxy.port}/reviews/1"
        common = [curl, "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"]
        got = subprocess.run([*common, url], capture_output=True, text=True, timeout=SECONDS)
        sent = subprocess.run([*common, "-d", "x" * 100_000, url], capture_output=True, text=True, timeout=SECONDS)
    assert got.stdout.endswith("2 200"), got
    assert sent.stdout.endswith("2 200"), sent
    assert len(upstream.seen[1]["body"]) == 100_000


def test_h2load_and_nghttp_are_served_without_an_error(upstream):
    h2load = proxy_tools.found("h2load")
    if h2load is None:
        pytest.skip("NO h2load: what nghttp2's client says is NOT tested (make proxy-tools)")
    with proxy_before("http", upstream.port) as proxy:
        url = f"http://localhost:{proxy.port}/"
        done = subprocess.run(
            [h2load, "-n", "400", "-c", "4", "-m", "10", url],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=proxy_tools.environment(),
        )
    assert "400 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done
    assert "400 2xx" in done.stdout
