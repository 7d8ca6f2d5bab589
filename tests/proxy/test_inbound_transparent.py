"""One port before all ports of an application: in a network namespace with the rules of ``meshlib iptables`` in force, and with
destinations that are made up."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.proxy.test_transparent import GET, GROUP, TALK, hello
from tests.support.credential_files import Files
from tests.support.envoy_engine import require_envoy
from tests.support.identities import CLIENT, SERVER, World
from tests.support.inbound_policies import authorization_policy
from tests.support.namespace import Namespace, end, namespaces, why_none
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import service

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
        proxy = here.meshlib(
            *("proxy", "--config", str(folder), "--transparent", "--inbound", "[::]:15006"),
            *("--interception-mode", mode, "--labels", "app=app", "--engine", engine),
            *map(str, identity),
            group=GROUP,
        )
        try:
            assert app.stdout.readline() == "up\n"
            for line in proxy.stdout:
                if "listening on" in line:
                    assert "serving each port of the application" in line
                    break
            here.run_meshlib(
                *("iptables", "apply", "--inbound", "*:15006", "--outbound-port", "0"),
                *("--proxy-group", str(GROUP), "--flavour", flavour, "--interception-mode", mode),
            )
            yield here, world, mode == "TPROXY"
            here.run_meshlib("iptables", "remove", "--flavour", flavour)
            assert "MESHLIB" not in here.run(f"iptables-{flavour}-save").stdout
            assert "lookup 133" not in here.run("ip", "rule").stdout
            assert "::6" not in here.run("ip", "-6", "addr", "show", "dev", "lo").stdout
        finally:
            end(app, proxy)


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
