"""One port before all ports of an application: in a network namespace with the rules of ``meshlib iptables`` in force, and with
destinations that are made up."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import select
import sys
from collections.abc import Iterator

import pytest
import yaml

from meshlib.proxy import inbound_transparent
from meshlib.proxy.inbound_transparent import MeantFor, TransparentInbound
from tests.proxy.test_transparent import GET, GROUP, MESHLIB, TALK, hello
from tests.support.credential_files import Files
from tests.support.envoy_engine import require_envoy
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.h2_client import H2Client
from tests.support.identities import CLIENT, SERVER, TodaysClock, World
from tests.support.inbound_policies import authorization_policy
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.namespace import Namespace, namespaces, why_none
from tests.support.peer_authentication import peer_authentication
from tests.support.proxy import Client
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.tcp_server import TcpServer, echo

kernel = pytest.mark.skipif(bool(why_none()), reason=why_none())

APPLICATION = """
import socketserver, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.server.server_address[1]} for {self.client_address[0]} {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(f"{self.server.server_address[1]} greets {self.client_address[0]}\\n".encode())
        for line in self.rfile:
            self.wfile.write(line.upper())

class Threading(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

class Six(Threading):
    address_family = __import__("socket").AF_INET6

for port in (8080, 8081, 8082):
    threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", port), Http).serve_forever, daemon=True).start()
for made in (*(Threading(("0.0.0.0", port), Tcp) for port in (3306, 3307, 7000)), Six(("fd00:1::1", 3306), Tcp)):
    threading.Thread(target=made.serve_forever, daemon=True).start()
print("up", flush=True)
threading.Event().wait()
"""


def resources() -> list[dict]:
    """A workload whose Service declares a port of HTTP, one of TCP, and others not."""
    declared = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "tcp-db", "port": 3306, "targetPort": 3306},
    ]
    return [
        service("app", ports=declared),
        {
            **peer_authentication("app", "PERMISSIVE", app="app"),
            "spec": {
                "selector": {"matchLabels": {"app": "app"}},
                "mtls": {"mode": "PERMISSIVE"},
                "portLevelMtls": {
                    "3306": {"mode": "DISABLE"},
                    "3307": {"mode": "STRICT"},
                    "8082": {"mode": "STRICT"},
                },
            },
        },
        authorization_policy("no-admin", "DENY", {"to": [{"operation": {"ports": ["8081"], "paths": ["/admin"]}}]}),
        authorization_policy("no-8099", "DENY", {"to": [{"operation": {"ports": ["8099"]}}]}),
    ]


FLAVOURS = ["nft", "legacy"]
MODES = ["REDIRECT", "TPROXY"]


@pytest.fixture(scope="module")
def issued(tmp_path_factory) -> dict[str, Files]:
    """Certificates of the mesh, in files: of the workload, and of one who calls it."""
    made, found = World(), {}
    for who, name in (("server", SERVER), ("client", CLIENT)):
        found[who] = Files(tmp_path_factory.mktemp(who))
        found[who].write(made.root.issue(name, made.now, ttl=86400.0), made.root)
    return found


PLAYED = [
    *((flavour, mode, "meshlib") for flavour in FLAVOURS for mode in MODES),
    *(("nft", mode, "envoy") for mode in MODES),
]


@pytest.fixture(scope="module", params=PLAYED, ids="-".join)
def before_it(request, tmp_path_factory, issued) -> Iterator[tuple[Namespace, Namespace, bool]]:
    """A namespace with an application, all of whose ports the proxy is before, the world around it, and whether it keeps
    addresses."""
    flavour, mode, engine = request.param
    if engine == "envoy":
        require_envoy()
    folder = tmp_path_factory.mktemp("mesh")
    (folder / "mesh.yaml").write_text(yaml.safe_dump_all(resources()))
    server = issued["server"]
    identity = ["--cert", server.certificate, "--key", server.key, "--bundle", server.bundle]
    with namespaces() as (here, world):
        assert world.run("ip", "-6", "addr", "add", "fd00:1::9/64", "dev", "out", "nodad").returncode == 0
        app = here.start([sys.executable, "-c", APPLICATION])
        proxy = here.start(
            [
                *MESHLIB,
                "proxy",
                "--config",
                str(folder),
                "--transparent",
                "--inbound",
                "[::]:15006",
                "--interception-mode",
                mode,
                "--labels",
                "app=app",
                "--engine",
                engine,
                *map(str, identity),
            ],
            GROUP,
        )
        try:
            assert app.stdout.readline() == "up\n"
            for line in proxy.stdout:
                if "listening on" in line:
                    assert "serving each port of the application" in line
                    break
            done = here.run(
                *MESHLIB, "iptables", "apply", "--inbound", "*:15006", "--outbound-port", "0",
                "--proxy-group", str(GROUP), "--flavour", flavour, "--interception-mode", mode,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            yield here, world, mode == "TPROXY"
            done = here.run(*MESHLIB, "iptables", "remove", "--flavour", flavour)
            assert done.returncode == 0, done.stderr
            assert "MESHLIB" not in here.run(f"iptables-{flavour}-save").stdout
            assert "lookup 133" not in here.run("ip", "rule").stdout
            assert "::6" not in here.run("ip", "-6", "addr", "show", "dev", "lo").stdout
        finally:
            for process in (app, proxy):
                process.terminate()
                process.communicate(timeout=20)


def seen(keeps: bool, six: bool = False) -> str:
    """Whom the application sees."""
    return ("fd00:1::9" if six else "10.1.9.9") if keeps else ("::6" if six else "127.0.0.6")


@kernel
@pytest.mark.parametrize(
    ("port", "path", "said"),
    [
        (8080, "/x", "200 8080 for CLIENT /x\n"),  # declared
        (8081, "/x", "200 8081 for CLIENT /x\n"),  # declared by nobody: its first bytes are HTTP
        (8081, "/admin", "403 RBAC: access denied\n"),  # and policies see its own port
        (8080, "/admin", "200 8080 for CLIENT /admin\n"),
    ],
)
def test_requests_are_served_at_the_port_that_they_were_meant_for(before_it, port, path, said):
    _, world, keeps = before_it
    for _ in range(2):
        assert world.python(GET, "10.1.0.1", str(port), "app", path) == said.replace("CLIENT", seen(keeps))


@kernel
@pytest.mark.parametrize("host", ["10.1.0.1", "fd00:1::1"])
def test_a_server_that_speaks_first_is_heard_where_its_port_says_so(before_it, host):
    _, world, keeps = before_it
    assert world.python(TALK, host, "3306", b"a\n".hex(), "2") == f"3306 greets {seen(keeps, ':' in host)}\nA\n"


@kernel
def test_bytes_at_a_port_of_nobody_are_passed_through(before_it):
    _, world, keeps = before_it
    said = world.python(
        TALK, "10.1.0.1", "7000", b"\x00binary\n".hex(), "2"
    )  # of fewer than 5 bytes Envoy waits for more
    assert said == f"7000 greets {seen(keeps)}\n\x00BINARY\n"


OVER_TLS = """
import http.client, socket, ssl, sys
host, port, certificate, key, bundle, path, *alpn = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.load_verify_locations(bundle)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(alpn)
with context.wrap_socket(socket.create_connection((host, int(port)), 20)) as sock:
    if path:
        connection = http.client.HTTPConnection("app")
        connection.sock = sock
        connection.request("GET", path)
        response = connection.getresponse()
        print(response.status, response.read().decode())
    else:
        sock.sendall(b"a\\n")
        lines = sock.makefile()  # one: it may take both at once
        print(*(lines.readline() for _ in range(2)), sep="", end="")
"""
OF_REQUESTS = ("istio-http/1.1", "istio", "http/1.1")
OF_BYTES = ("istio-peer-exchange", "istio")


@kernel
@pytest.mark.parametrize(
    ("port", "path", "alpn", "said"),
    [
        (8082, "/x", OF_REQUESTS, "200 8082 for CLIENT /x\n"),  # STRICT, and declared by nobody
        (8080, "/x", OF_REQUESTS, "200 8080 for CLIENT /x\n"),  # PERMISSIVE
        (8081, "/admin", OF_REQUESTS, "403 RBAC: access denied\n"),
        (3307, "", OF_BYTES, "3307 greets CLIENT\nA\n"),
        (7000, "", OF_BYTES, "7000 greets CLIENT\nA\n"),
    ],
)
def test_mtls_of_the_mesh_ends_before_the_application(before_it, issued, port, path, alpn, said):
    _, world, keeps = before_it
    mine = issued["client"]
    arguments = ["10.1.0.1", str(port), *map(str, (mine.certificate, mine.key, mine.bundle)), path, *alpn]
    assert world.python(OVER_TLS, *arguments) == said.replace("CLIENT", seen(keeps))


@kernel
def test_plain_text_is_not_let_in_at_a_port_that_is_strict(before_it):
    done = before_it[1].run(sys.executable, "-c", GET, "10.1.0.1", "8082", "app", "/x")
    assert "ConnectionResetError" in done.stderr or "RemoteDisconnected" in done.stderr
    assert (
        before_it[1].run(sys.executable, "-c", TALK, "10.1.0.1", "3307", b"\x00binary\n".hex(), "1").stdout.strip()
        == ""
    )


@kernel
def test_a_clients_own_tls_goes_on_unread(before_it):
    _, world, keeps = before_it
    said = world.python(TALK, "10.1.0.1", "7000", hello("x.example.com").hex(), "1")
    assert said == f"7000 greets {seen(keeps)}\n"


@kernel
def test_processes_that_talk_to_each_other_on_this_machine_are_left_alone(before_it):
    assert before_it[0].python(GET, "10.1.0.1", "8080", "app", "/x") == "200 8080 for 10.1.0.1 /x\n"


@kernel
def test_what_the_proxy_sends_to_its_own_application_comes_in_again(before_it):
    here, _, keeps = before_it
    done = here.run(sys.executable, "-c", GET, "10.1.0.1", "8081", "app", "/admin", group=GROUP)
    assert done.stdout == "403 RBAC: access denied\n", done.stderr
    done = here.run(sys.executable, "-c", GET, "10.1.0.1", "8081", "app", "/x", group=GROUP)
    assert done.stdout == f"200 8081 for {'10.1.0.1' if keeps else '127.0.0.6'} /x\n", done.stderr


@kernel
def test_what_is_meant_for_the_proxy_itself_is_reset(before_it):
    done = before_it[1].run(sys.executable, "-c", GET, "10.1.0.1", "15006", "app", "/x")
    assert "ConnectionResetError" in done.stderr or "RemoteDisconnected" in done.stderr  # which is Envoy'"'"'s way


@kernel
def test_probes_go_around_the_proxy(before_it):
    _, world, _ = before_it
    done = world.run(sys.executable, "-c", GET, "10.1.0.1", "15021", "app", "/x")
    assert "ConnectionRefusedError" in done.stderr  # nobody is there: had it gone to the proxy, it would be a 503


# -- without a kernel that leads them ------------------------------------------------------------------------------------------


@pytest.fixture
def meant(monkeypatch):
    """Where connections were meant to go."""
    place: list[tuple[str, int] | None] = [None]
    monkeypatch.setattr(inbound_transparent, "original_destination", lambda sock: place[0])
    return place


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


@pytest.fixture
def tcp():
    with TcpServer() as made:
        yield made


def declaring(port: int, name: str, **more: object) -> list[dict]:
    """The workload's Service, with a targetPort that is a name."""
    return [
        service("reviews", ports=[{"name": name, "port": 80, "targetPort": "http"}], **more),
        pod("reviews", "v1", port),
    ]


def world() -> World:
    made = World(of_a_mesh=True)
    made.rotate()
    return made


def over_tls(made: World, *alpn: str):
    context = made.client(alpn=alpn)
    context.check_hostname = False
    return lambda sock: context.wrap_socket(sock, server_hostname="reviews")


def headers(response):
    return json.loads(response.body)["headers"]


def test_a_port_of_http_is_served_as_requests(meant, app):
    meant[0] = ("127.0.0.1", app.port)
    with InboundProxy(None, own=declaring(app.port, "http")) as proxy, proxy.client() as client:
        assert [client.get(f"/{n}").status for n in range(3)] == [200] * 3
        client.send(b"\x00\r\n\r\n")
        assert client.head().status == 400
        assert proxy.metric("istio_requests_total", reporter="destination", response_code="200") == 3


def test_a_port_of_tcp_is_bytes_whoever_speaks_first(meant):
    def greets(sock):
        sock.sendall(b"hi\n")
        echo(sock)

    disabled = peer_authentication("default", "DISABLE")
    with TcpServer(greets) as server:
        meant[0] = ("127.0.0.1", server.port)
        with InboundProxy(None, disabled, own=declaring(server.port, "tcp")) as proxy:
            with proxy.client() as client:
                assert client.until(b"\n") == b"hi\n"
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                assert client.until(b"\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
            labels = {"reporter": "destination", "request_protocol": "tcp", "destination_service_name": "reviews"}
            assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total", **labels) == 1)
            assert proxy.metric("istio_tcp_sent_bytes_total", **labels) == 21
            assert proxy.metric("istio_tcp_received_bytes_total", **labels) == 18


@pytest.mark.parametrize("own", [[], "sniffed"])
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x00\x01binary", b"\x00\x01binary"),
        (hello("x.example.com"), hello("x.example.com")[:6]),
    ],
)
def test_bytes_that_are_no_http_are_passed_through_where_nothing_is_declared(meant, tcp, own, sent, said):
    meant[0] = ("127.0.0.1", tcp.port)
    found = declaring(tcp.port, "what") if own else [service("other")]
    with InboundProxy(None, own=found, identity=world().identity) as proxy, proxy.client() as client:
        client.send(sent)
        assert client.exactly(len(said))[:6] == said[:6]


def test_a_clients_own_tls_that_comes_in_pieces_is_passed_through(meant, tcp):
    meant[0] = ("127.0.0.1", tcp.port)
    whole = hello("x.example.com")
    with InboundProxy(None, own=[service("other")], identity=world().identity) as proxy, proxy.client() as client:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        client.send(whole[:1])
        assert eventually(lambda: listener.acceptor.waiting == 1)
        client.send(whole[1:50])
        client.send(whole[50:])
        assert client.exactly(len(whole)) == whole


def test_a_client_that_leaves_amid_its_hello_is_forgotten(meant, tcp):
    meant[0] = ("127.0.0.1", tcp.port)
    with InboundProxy(None, own=[service("other")], identity=world().identity) as proxy:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        with proxy.client() as client:
            client.send(hello("x.example.com")[:40])
            assert eventually(lambda: listener.acceptor.waiting == 1)
        assert eventually(lambda: listener.acceptor.waiting == 0)
        assert tcp.accepted == []


@pytest.mark.parametrize(
    ("alpn", "name"),
    [(("istio-http/1.1", "istio", "http/1.1"), "what"), (("istio-http/1.1", "istio", "http/1.1"), "http")],
)
def test_requests_over_mtls_are_told_by_what_the_client_offers(meant, app, alpn, name):
    made = world()
    meant[0] = ("127.0.0.1", app.port)
    strict = peer_authentication("default", "STRICT")
    with InboundProxy(None, strict, own=declaring(app.port, name), identity=made.identity) as proxy:
        with proxy.client(over_tls(made, *alpn)) as client:
            response = client.get()
            assert response.status == 200
            assert "x-forwarded-client-cert" in headers(response)


def test_plain_text_is_reset_at_a_port_that_is_strict_and_at_no_other(meant, tcp, caplog):
    policy = peer_authentication("default", "PERMISSIVE", app="reviews")
    policy["spec"]["portLevelMtls"] = {str(tcp.port): {"mode": "STRICT"}}
    meant[0] = ("127.0.0.1", tcp.port)
    with TcpServer() as other, InboundProxy(None, policy, own=[service("reviews")], identity=world().identity) as proxy:
        with proxy.client() as client:
            client.send(b"hello\n")
            assert client.closed()
        meant[0] = ("127.0.0.1", other.port)
        with proxy.client() as client:
            client.send(b"hello\n")
            assert client.exactly(6) == b"hello\n"


def test_http2_is_served_as_http1_is(meant, app):
    meant[0] = ("127.0.0.1", app.port)
    with InboundProxy(None, own=declaring(app.port, "http")) as proxy, H2Client(proxy.port) as client:
        assert client.get(host="reviews").status == 200


@pytest.mark.parametrize("destination", [None, "own"])
def test_what_is_meant_for_the_proxy_itself_is_reset_with_a_message(meant, caplog, destination):
    with InboundProxy(None) as proxy:
        meant[0] = None if destination is None else ("10.1.0.1", proxy.port)
        with caplog.at_level(logging.WARNING, "meshlib.proxy"):
            for _ in range(2):
                with contextlib.suppress(ConnectionResetError), proxy.client() as client:  # as it connects, perhaps
                    assert client.closed()
            assert eventually(lambda: proxy.listener.counts["meant_for_the_proxy"] == 2)
    (said,) = [record.getMessage() for record in caplog.records if "proxy's own" in record.getMessage()]
    assert re.search(rf"was meant for port {proxy.port}, which is the proxy's own, and was reset", said)


def test_places_that_nobody_is_connected_to_are_forgotten_when_there_are_many(meant, app, monkeypatch):
    monkeypatch.setattr(inbound_transparent, "MOST_PLACES", 2)
    with InboundProxy(None, own=[service("reviews")]) as proxy:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        meant[0] = ("127.0.0.1", app.port)
        with proxy.client() as kept:
            assert kept.get().status == 200
            for last in (2, 3, 4, 5):
                meant[0] = (f"127.0.0.{last}", 1)
                with proxy.client() as client:
                    assert client.get().status == 503
                assert eventually(lambda: sum(each.users for each in listener._places.values()) == 1)
            assert len(listener._places) <= 3
            assert kept.get("/again").status == 200
        assert all(isinstance(each, MeantFor) for each in listener._places.values())


@pytest.mark.parametrize(("mode", "why"), [("STRICT", "the proxy has no certificate"), ("PERMISSIVE", "")])
def test_it_says_when_nobody_can_be_let_in(mode, why):
    with InboundProxy(None, peer_authentication("default", mode)) as proxy:
        assert why in proxy.listener.why_not_ready()
        assert bool(proxy.listener.why_not_ready()) == bool(why)


# -- how long first bytes are waited for


def greets(sock):
    sock.sendall(b"hi\n")
    echo(sock)


def heard(clock: FakeClock, client: Client) -> bool:
    """Whether a second later something has come, if only the end."""
    clock.advance(1.0)
    return bool(select.select([client.sock], [], [], 0.05)[0])


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
@pytest.mark.parametrize("name", ["what", "tcp"])
@pytest.mark.parametrize("first", [b"", b"G", b"\x16\x03\x01\x02"])
def test_who_says_too_little_within_the_detection_timeout_is_one_of_tcp(meant, mode, name, first):
    clock = FakeClock()
    timeout = mesh_config(protocolDetectionTimeout="5s")
    with TcpServer(greets) as server:
        meant[0] = ("127.0.0.1", server.port)
        own = declaring(server.port, name)
        with InboundProxy(None, timeout, peer_authentication("default", mode), own=own, clock=clock) as proxy:
            with proxy.client() as client:
                client.send(first)
                assert eventually(lambda: heard(clock, client))
                assert client.exactly(3 + len(first)) == b"hi\n" + first


def test_who_says_nothing_within_the_detection_timeout_is_reset_where_mtls_is_asked_for(meant, tcp):
    clock = TodaysClock()
    meant[0] = ("127.0.0.1", tcp.port)
    policies = [mesh_config(protocolDetectionTimeout="5s"), peer_authentication("default", "STRICT")]
    with InboundProxy(None, *policies, own=declaring(tcp.port, "tcp"), identity=world().identity, clock=clock) as proxy:
        with proxy.client() as client:
            assert eventually(lambda: heard(clock, client))
            assert client.closed()
    assert tcp.accepted == []


def test_requests_within_the_detection_timeout_are_such_and_may_take_as_long_as_they_like_later(meant, app):
    clock = FakeClock()
    meant[0] = ("127.0.0.1", app.port)
    timeout = mesh_config(protocolDetectionTimeout="5s")
    with InboundProxy(None, timeout, own=declaring(app.port, "what"), clock=clock) as proxy, proxy.client() as client:
        assert client.get().status == 200
        clock.advance(60)
        assert client.get("/again").status == 200
