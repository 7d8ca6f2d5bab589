"""Connections that were meant for others: in network namespaces, with the rules of ``meshlib iptables`` in force."""

from __future__ import annotations

import contextlib
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.envoy_engine import require_envoy
from tests.support.eventually import eventually
from tests.support.mesh_config import mesh_config
from tests.support.namespace import Namespace, end, namespaces, why_none
from tests.support.resources import pod, service, service_entry

kernel = pytest.mark.skipif(bool(why_none()), reason=why_none())

GROUP = 1337

SERVER = """
import socketserver, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

name = sys.argv[1]

class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{name} {self.headers['host']} {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(f"{name} greets\\n".encode())
        for line in self.rfile:
            self.wfile.write(line.upper())

class Threading(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

for host, port, server in [each.split(",") for each in sys.argv[2:]]:
    made = (ThreadingHTTPServer if server == "http" else Threading)((host, int(port)), Http if server == "http" else Tcp)
    threading.Thread(target=made.serve_forever, daemon=True).start()
print("up", flush=True)
threading.Event().wait()
"""
GET = """
import http.client, sys
host, port, name, path = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=20)
connection.request("GET", path, headers={"Host": name})
response = connection.getresponse()
print(response.status, response.read().decode())
"""
TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as sock:
    first = bytes.fromhex(sys.argv[3])
    sock.sendall(first)
    said = b""
    while said.count(b"\\n") < int(sys.argv[4]):
        more = sock.recv(1000)
        if not more:
            break
        said += more
print(*said.decode("latin-1").splitlines()[: int(sys.argv[4])], sep="\\n")
"""


HEAR = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as sock:
    print(sock.recv(1000).decode(), end="")
"""


REGISTRY_ONLY = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "MeshConfig",
    "metadata": {"name": "mesh"},
    "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
}


def cluster() -> list[dict]:
    """Services at addresses where nobody is: HTTP on 9080, TCP on 3306."""
    reviews = service("reviews", ports=[{"name": "http", "port": 9080, "targetPort": 8001}])
    reviews["spec"]["clusterIP"] = "10.1.0.5"
    database = service("database", ports=[{"name": "tcp-db", "port": 3306, "targetPort": 8002}])
    database["spec"]["clusterIP"] = "10.1.0.6"
    secure = service_entry(
        "secure",
        "secure.example.com",
        ports=[{"number": 443, "name": "tls", "protocol": "TLS"}],
        endpoints=[{"address": "127.0.0.1", "ports": {"tls": 8002}}],
    )
    six = service_entry(
        "six",
        "six.example.com",
        ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
        addresses=["fd00:1::5"],
        endpoints=[{"address": "127.0.0.1", "ports": {"tcp": 8002}}],
    )
    return [six, reviews, pod("reviews", "v1", 8001), database, pod("database", "v1", 8002), secure]


def hello(name: str) -> bytes:
    """How a client of TLS begins that wants this server."""
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def undeclared(name: str, ip: str, port: int = 1, number: int = 9000) -> list[dict]:
    """A service whose port says nothing of what is spoken there, and where it is."""
    made = service(name, ports=[{"name": "what", "port": number, "targetPort": port}], clusterIP=ip)
    return [made, pod(name, "v1", port)]


@pytest.fixture(scope="module")
def mesh_folder(tmp_path_factory) -> Path:
    """Where the proxy reads its resources."""
    folder: Path = tmp_path_factory.mktemp("mesh")
    more = [*undeclared("web", "10.1.0.7", 8001), *undeclared("raw", "10.1.0.8", 8002)]
    (folder / "mesh.yaml").write_text(yaml.safe_dump_all([*cluster(), *more]))
    return folder


@pytest.fixture(scope="module", params=["meshlib", "envoy"])
def proxied(mesh_folder, request) -> Iterator[tuple[Namespace, Namespace]]:
    """A namespace whose connections a proxy takes, and the world around it: with each engine."""
    if request.param == "envoy":
        require_envoy()
    with namespaces() as (here, world):
        servers = [
            here.start([sys.executable, "-c", SERVER, "mine", "127.0.0.1,8001,http", "127.0.0.1,8002,tcp"]),
            world.start(
                [
                    sys.executable,
                    "-c",
                    SERVER,
                    "world",
                    "10.1.9.9,9080,http",
                    "10.1.9.9,7000,tcp",
                    "10.1.9.9,443,tcp",
                    "10.1.9.9,3306,tcp",
                ]
            ),
        ]
        proxy = here.meshlib(
            *("proxy", "--config", str(mesh_folder), "--outbound", "[::]:15001", "--transparent"),
            *("--drain", "1", "--engine", request.param),
            group=GROUP,
        )
        try:
            for server in servers:
                assert server.stdout.readline() == "up\n"
            for line in proxy.stdout:
                if "listening on" in line:
                    break
            said = here.run_meshlib("iptables", "apply", "--proxy-group", str(GROUP))
            assert said == "iptables: in force\nip6tables: in force\n"
            yield here, world
        finally:
            end(*servers, proxy)


@kernel
@pytest.mark.parametrize(
    ("address", "port", "host", "answer"),
    [
        ("10.1.0.5", 9080, "reviews", "200 mine reviews /x\n"),
        (
            "10.1.0.5",
            9080,
            "reviews.default.svc.cluster.local:9080",
            "200 mine reviews.default.svc.cluster.local:9080 /x\n",
        ),
        ("10.1.0.77", 9080, "reviews", "200 mine reviews /x\n"),  # by its Host, as at a sidecar's 0.0.0.0_9080
        ("10.1.9.9", 9080, "elsewhere", "200 world elsewhere /x\n"),
    ],
)
def test_requests_go_by_their_host_and_the_port_that_was_meant(proxied, address, port, host, answer):
    assert proxied[0].python(GET, address, str(port), host, "/x") == answer


@kernel
def test_a_server_of_tcp_speaks_first(proxied):
    assert proxied[0].python(TALK, "10.1.0.6", "3306", b"hello\n".hex(), "2") == "mine greets\nHELLO\n"


@kernel
def test_ports_that_the_mesh_does_not_know_go_where_they_were_meant_to(proxied):
    assert proxied[0].python(TALK, "10.1.9.9", "7000", b"hello\n".hex(), "2") == "world greets\nHELLO\n"


@kernel
def test_what_is_no_http_at_a_port_of_http_goes_where_it_was_meant_to(proxied):
    said = proxied[0].python(TALK, "10.1.9.9", "9080", b"\x00\x01\n\r\n\r\n".hex(), "1")
    assert "400" in said or said.startswith("<!DOCTYPE"), said  # of the world's server, which takes it for HTTP/0.9


@kernel
def test_the_address_of_an_undeclared_port_is_read_by_its_first_bytes(proxied):
    here = proxied[0]
    assert here.python(GET, "10.1.0.7", "9000", "whatever.test", "/x") == "200 mine whatever.test /x\n"
    assert here.python(TALK, "10.1.0.8", "9000", b"get key\r\n".hex(), "2") == "mine greets\nGET KEY\n"


@kernel
def test_a_stranger_who_speaks_first_is_heard_at_a_port_whose_services_have_their_own_addresses(proxied):
    assert proxied[0].python(TALK, "10.1.9.9", "3306", "", "1") == "world greets\n"


@kernel
def test_who_speaks_first_at_an_undeclared_port_is_heard_once_the_detection_timeout_is_over(proxied, mesh_folder):
    here, _ = proxied
    file = mesh_folder / "timeout.yaml"
    file.write_text(yaml.safe_dump(mesh_config(protocolDetectionTimeout="100ms")))
    try:
        assert eventually(
            lambda: here.run(sys.executable, "-c", HEAR, "10.1.0.8", "9000").stdout == "mine greets\n", 60
        )
        assert here.python(GET, "10.1.0.7", "9000", "whatever.test", "/x") == "200 mine whatever.test /x\n"
    finally:
        file.unlink()


@kernel
def test_tls_goes_by_the_name_that_it_asks_for_and_else_to_where_it_was_meant_to(proxied):
    here = proxied[0]
    assert here.python(TALK, "10.1.9.9", "443", hello("secure.example.com").hex(), "1") == "mine greets\n"
    assert here.python(TALK, "10.1.9.9", "443", hello("other.example.com").hex(), "1") == "world greets\n"


@kernel
def test_addresses_of_ipv6_are_led_too(proxied):
    here = proxied[0]
    assert here.python(TALK, "fd00:1::5", "5432", b"hello\n".hex(), "2") == "mine greets\nHELLO\n"
    assert here.python(GET, "fd00:1::77", "9080", "reviews", "/x") == "200 mine reviews /x\n"


@kernel
def test_a_client_may_use_the_port_as_a_proxy_that_it_knows(proxied):
    assert proxied[0].python(GET, "127.0.0.1", "15001", "reviews:9080", "/x") == "200 mine reviews:9080 /x\n"


@kernel
def test_the_proxys_own_connections_are_left_alone(proxied):
    assert proxied[0].python(TALK, "10.1.9.9", "7000", b"a\n".hex(), "2").startswith("world")
    done = proxied[0].run(sys.executable, "-c", GET, "10.1.9.9", "9080", "reviews", "/x", group=GROUP)
    assert done.stdout == "200 world reviews /x\n", done.stderr


@kernel
def test_a_reload_to_registry_only_closes_what_the_mesh_does_not_know(proxied, mesh_folder):
    here, _ = proxied

    def said() -> str:
        return here.run(sys.executable, "-c", TALK, "10.1.9.9", "7000", b"a\n".hex(), "1").stdout.strip()

    assert said() == "world greets"
    file = mesh_folder / "only.yaml"
    file.write_text(yaml.safe_dump(REGISTRY_ONLY))
    try:
        assert eventually(lambda: said() == "", 60)
        assert here.python(GET, "10.1.9.9", "9080", "elsewhere", "/x").startswith("502")
        assert here.python(GET, "10.1.9.9", "9080", "reviews", "/x") == "200 mine reviews /x\n"
        assert here.python(TALK, "10.1.0.6", "3306", b"hello\n".hex(), "2") == "mine greets\nHELLO\n"
    finally:
        file.unlink()
    assert eventually(lambda: said() == "world greets", 60)
