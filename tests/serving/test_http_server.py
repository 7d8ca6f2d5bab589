"""uvicorn behind the acceptor: whatever parses HTTP and whatever loop runs, applications and policies are told who the peer
is, and a server that is told to stop ends what is under way and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.sync.client import connect

from meshlib.mesh import Mesh
from meshlib.security.authority import Authority
from meshlib.serving.http_server import HttpServer
from tests.support.eventually import eventually
from tests.support.identities import CLIENT, World
from tests.support.mesh_server import SECONDS, MeshServer, tells

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: servers are not tried on it")

KINDS = [("asyncio", "h11"), ("uvloop", "h11"), ("asyncio", "httptools"), ("uvloop", "httptools")]
WHATEVER = ("uvloop", "httptools")


def peer_authentication(mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "istio-system"},
        "spec": {"mtls": {"mode": mode}},
    }


ONLY_PRODUCTPAGE = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "only", "namespace": "default"},
    "spec": {"rules": [{"from": [{"source": {"principals": [CLIENT.removeprefix("spiffe://")]}}]}]},
}


@pytest.fixture
def world() -> World:
    world = World(of_a_mesh=True)
    world.rotate()
    return world


def mesh_of(world: World | None, *resources: dict[str, Any]) -> Mesh:
    return Mesh.from_resources(resources, identity=None if world is None else world.identity)


def ask(server: MeshServer, context: ssl.SSLContext | None, path: str = "/", **more: Any) -> Any:
    """What ``tells`` has told; a status that is not 200, or the name of the error."""
    scheme = "http" if context is None else "https"
    try:
        with httpx.Client(verify=context or False, timeout=SECONDS, trust_env=False) as client:
            response = client.post(f"{scheme}://127.0.0.1:{server.port}{path}", **more)
    except httpx.HTTPError as error:
        return type(error).__name__
    return response.json() if response.status_code == 200 else response.status_code


@pytest.mark.parametrize(("loop", "http"), KINDS)
class TestWhoThePeerIs:
    @pytest.fixture
    def server(self, world: World, loop: str, http: str) -> Iterator[MeshServer]:
        with mesh_of(world) as mesh, MeshServer(tells, mesh, loop=loop, http=http) as server:
            yield server

    def test_the_application_is_told_by_the_extension_tls(self, server: MeshServer, world: World) -> None:
        between = world.root.intermediate(world.now)
        told = ask(server, world.client(between, alpn=("istio-http/1.1", "istio", "http/1.1")), content=b"x" * 200_000)
        tls = told.pop("tls")
        assert told == {
            "client": ["127.0.0.1", told["client"][1]],
            "scheme": "https",
            "version": "1.1",
            "path": "/",
            "length": 200_000,
        }
        leaf, behind = tls["client_cert_chain"]
        assert CLIENT in str(ssl_names(leaf))
        assert behind.encode() == between.chain_pem
        assert tls["client_cert_name"] == ""
        assert tls["client_cert_error"] is None
        assert tls["tls_version"] == 0x0304
        assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
        assert "BEGIN CERTIFICATE" in tls["server_cert"]
        assert "PRIVATE" not in str(tls)

    def test_plain_text_has_no_peer_and_a_forwarded_address_is_no_peers(self, server: MeshServer) -> None:
        told = ask(server, None, headers={"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https"})
        assert (told["tls"], told["scheme"], told["client"][0]) == (None, "http", "127.0.0.1")

    def test_a_websocket_is_told_as_well(self, server: MeshServer, world: World) -> None:
        with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=world.client(), server_hostname="reviews") as socket_:
            socket_.send("who?")
            told = json.loads(socket_.recv(timeout=SECONDS))
        assert CLIENT in str(ssl_names(told["tls"]["client_cert_chain"][0]))
        assert told["tls"]["meshlib.sni"] == "reviews"
        with connect(f"ws://127.0.0.1:{server.port}/ws") as socket_:
            socket_.send("who?")
            assert json.loads(socket_.recv(timeout=SECONDS))["tls"] is None

    def test_a_response_is_one_record_of_tls(self, server: MeshServer, world: World) -> None:
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as plain:
            with world.client().wrap_socket(plain, server_hostname="reviews") as tls:
                for _ in range(3):
                    tls.sendall(b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n")
                    head, _, body = tls.recv(65536).partition(b"\r\n\r\n")  # a record at most
                    assert head.startswith(b"HTTP/1.1 200 ")
                    assert json.loads(body)["path"] == "/"

    def test_what_a_client_writes_says_nothing(self, server: MeshServer) -> None:
        told = ask(server, None, headers={"x-forwarded-client-cert": f"URI={CLIENT}", "tls": CLIENT})
        assert told["tls"] is None


def ssl_names(pem: str) -> list[str]:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(pem.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.mark.skipif(
    "http2" not in inspect.signature(uvicorn.Config).parameters,
    reason=f"uvicorn {uvicorn.__version__} has no HTTP/2: it is not tried",
)
def test_http2_is_spoken_where_uvicorn_can(world: World) -> None:
    pytest.importorskip("zttp", reason="zttp is not installed: HTTP/2 is not tried")
    with mesh_of(world, ONLY_PRODUCTPAGE) as mesh, MeshServer(tells, mesh, http2=True) as server:
        context = world.client(alpn=("h2", "http/1.1"))
        with httpx.Client(verify=context, http2=True, timeout=SECONDS, trust_env=False) as client:
            # zttp 0.0.35 does not tell the end of a GET's body, which ``tells`` waits for: not ours
            told = client.post(f"https://127.0.0.1:{server.port}/", content=b"x").json()
        assert told["version"] == "2"
        assert CLIENT in str(ssl_names(told["tls"]["client_cert_chain"][0]))
        assert ask(server, world.client())["version"] == "1.1"


def test_an_application_that_does_not_start_serves_nobody_whatever_its_uvicorn_makes_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def startup(server: uvicorn.Server, sockets: object = None) -> None:
        server.lifespan = SimpleNamespace(should_exit=True)  # uvicorn 0.30 returns; 0.54 leaves by SystemExit

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    heard: list[str] = []
    with mesh_of(world, ONLY_PRODUCTPAGE) as mesh, socket.create_server(("127.0.0.1", 0)) as sock:
        server = HttpServer(tells, mesh._core, sock, ready=lambda: heard.append("ready"))
        asyncio.run(server.startup())
        assert (heard, server.started) == ([], False)


def test_policies_judge_the_peer_of_the_connection(world: World) -> None:
    with mesh_of(world, ONLY_PRODUCTPAGE) as mesh, MeshServer(tells, mesh) as server:
        assert ask(server, world.client())["path"] == "/"
        assert ask(server, world.client(name="spiffe://cluster.local/ns/default/sa/other")) == 403
        assert ask(server, None) == 403
        with pytest.raises(Exception, match="403"):
            connect(f"ws://127.0.0.1:{server.port}/ws")


def test_policies_by_server_name_know_it(world: World) -> None:
    by_name = {
        **ONLY_PRODUCTPAGE,
        "spec": {"rules": [{"when": [{"key": "connection.sni", "values": ["reviews.default.svc"]}]}]},
    }
    with mesh_of(world, by_name) as mesh, MeshServer(tells, mesh) as server:
        with httpx.Client(verify=world.client(), timeout=SECONDS, trust_env=False) as client:
            url = f"https://127.0.0.1:{server.port}/"
            right = client.get(url, extensions={"sni_hostname": "reviews.default.svc"})
        with httpx.Client(verify=world.client(), timeout=SECONDS, trust_env=False) as client:
            wrong = client.get(url, extensions={"sni_hostname": "other"})
    assert (right.status_code, wrong.status_code) == (200, 403)


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE", "DISABLE"])
def test_the_mode_is_peer_authentications(world: World, mode: str) -> None:
    with mesh_of(world, peer_authentication(mode)) as mesh, MeshServer(tells, mesh) as server:
        plain, mutual = ask(server, None), ask(server, world.client())
    assert (plain == "ReadError", isinstance(mutual, dict)) == {
        "STRICT": (True, True),
        "PERMISSIVE": (False, True),
        "DISABLE": (False, False),
    }[mode]
    assert mode == "STRICT" or isinstance(plain, dict)


def test_a_reload_changes_the_mode_of_connections_to_come(world: World) -> None:
    with mesh_of(world, peer_authentication("PERMISSIVE")) as mesh, MeshServer(tells, mesh) as server:
        with httpx.Client(timeout=SECONDS, trust_env=False) as kept:
            url = f"http://127.0.0.1:{server.port}/"
            assert kept.get(url).status_code == 200
            mesh.apply([peer_authentication("STRICT")])
            assert ask(server, None) == "ReadError"
            assert kept.get(url).status_code == 403, "a connection that is open is judged by STRICT's check"


# -- health --------------------------------------------------------------------------------------------------------------


def health(port: int, context: ssl.SSLContext | None = None, path: str = "/healthz") -> tuple[int, str] | str:
    try:
        with httpx.Client(verify=context or False, timeout=SECONDS, trust_env=False) as client:
            response = client.get(f"http{'s' if context else ''}://127.0.0.1:{port}{path}")
    except httpx.HTTPError as error:
        return type(error).__name__
    return response.status_code, response.text


NOBODY = {**ONLY_PRODUCTPAGE, "spec": {}}  # an ALLOW without rules: nobody


def test_health_is_told_before_policies_and_not_ready_without_certificate(world: World) -> None:
    empty = World(of_a_mesh=True)
    with mesh_of(empty, NOBODY) as mesh, MeshServer(tells, mesh, health_path="/healthz") as server:
        assert health(server.port) == (503, "no certificate yet\n")
        assert ask(server, None) == 403
        empty.rotate()
        assert health(server.port) == (200, "ok\n")
        assert health(server.port, empty.client()) == (200, "ok\n")
        assert health(server.port, path="/healthz/") == (403, "RBAC: access denied")


def test_health_has_a_plain_port_of_its_own_where_the_other_is_strict(world: World) -> None:
    with mesh_of(world, peer_authentication("STRICT")) as mesh:
        with MeshServer(tells, mesh, health_path="/healthz", health_port=True) as server:
            assert health(server.port) == "ReadError"
            assert health(server.health_port) == (200, "ok\n")
            assert health(server.health_port, path="/") == (404, "")


def test_strict_without_any_certificate_is_not_ready_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with mesh_of(None, peer_authentication("STRICT")) as mesh:
        with MeshServer(tells, mesh, health_port=True) as server:
            assert health(server.health_port) == (503, "mTLS is required and there is no certificate\n")
            assert ask(server, None) == "ReadError"
    assert "nothing is served until there is one" in caplog.text


# -- stopping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loop", "http"), KINDS)
def test_told_to_stop_it_ends_what_is_under_way_and_closes_what_is_idle(world: World, loop: str, http: str) -> None:
    with mesh_of(world) as mesh, MeshServer(tells, mesh, loop=loop, http=http, keep_alive=3600) as server:
        url = f"https://127.0.0.1:{server.port}/"
        with (
            httpx.Client(verify=world.client(), timeout=SECONDS, trust_env=False) as idle,
            ThreadPoolExecutor() as pool,
        ):
            assert idle.get(url).status_code == 200
            sending, go_on = threading.Event(), threading.Event()

            def body() -> Iterator[bytes]:
                yield b"beginning"
                sending.set()
                assert go_on.wait(SECONDS)
                yield b"end"

            under_way = pool.submit(ask, server, world.client(), content=body())
            assert sending.wait(SECONDS)
            stalled = socket.create_connection(("127.0.0.1", server.port))
            stalled.sendall(b"\x16\x03\x01")
            server.begin_to_stop()
            wait_until_refused(server.port)
            stalled.settimeout(SECONDS)
            assert gone(stalled)
            assert not server.stopped
            go_on.set()
            assert under_way.result(SECONDS)["length"] == 12
            server.stop()
    assert len(server.server.server_state.connections) == 0


def wait_until_refused(port: int) -> None:
    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), SECONDS).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it came between the last one that was accepted and the end of the port
        return False

    assert eventually(refused), "it goes on accepting"


def gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    finally:
        connection.close()


def test_a_kept_connection_that_asks_while_it_stops_is_told_that_it_was_the_last_time(world: World) -> None:
    """Else its next request would meet a connection that is being closed."""
    with mesh_of(world) as mesh, MeshServer(tells, mesh, health_path="/healthz") as server:
        with httpx.Client(verify=world.client(), timeout=SECONDS, trust_env=False) as client:
            url = f"https://127.0.0.1:{server.port}/"
            assert "connection" not in client.get(url).headers
            server.server._front.draining = True
            assert client.get(url).headers["connection"] == "close"
            assert health(server.port, world.client()) == (503, "draining\n")


# -- rotation ------------------------------------------------------------------------------------------------------------


def test_connections_of_a_dropped_root_are_closed_idle_ones_and_websockets_at_once_busy_ones_after(
    world: World,
) -> None:
    new = Authority.root("cluster.local", world.now)
    with mesh_of(world) as mesh, MeshServer(tells, mesh, keep_alive=3600) as server, ThreadPoolExecutor() as pool:
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as plain:
            idle = world.client().wrap_socket(plain)
            idle.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")
            sending, go_on = threading.Event(), threading.Event()

            def body() -> Iterator[bytes]:
                yield b"beginning"
                sending.set()
                assert go_on.wait(SECONDS)
                yield b"end"

            busy = pool.submit(ask, server, world.client(), content=body())
            assert sending.wait(SECONDS)
            with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=world.client(), server_hostname="reviews") as ws:
                ws.send("who?")
                ws.recv(timeout=SECONDS)
                world.root, old = new, world.root
                world.rotate(new)
                assert_ends(idle)
                with pytest.raises(Exception, match="1012"):
                    ws.recv(timeout=SECONDS)
            go_on.set()
            assert busy.result(SECONDS)["length"] == 12
            assert isinstance(ask(server, world.client(new)), dict)
            assert not isinstance(ask(server, world.client(old, new)), dict)
            idle.close()


def assert_ends(connection: ssl.SSLSocket) -> None:
    connection.settimeout(SECONDS)
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass


def test_sigusr1_opens_the_files_of_access_logs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshlib.telemetry.access_log import writer

    opened = threading.Event()
    monkeypatch.setattr(writer, "reopen_all", opened.set)

    async def go() -> bool:
        with object.__new__(HttpServer).capture_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
            return await asyncio.to_thread(opened.wait, 30)

    assert asyncio.run(go())
