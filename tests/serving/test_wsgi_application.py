"""A WSGI application in threads behind an ASGI server is told what gunicorn would tell it, and nothing that is not so."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from meshlib.mesh import Mesh
from meshlib.problems import MeshError
from meshlib.serving.wsgi_application import WsgiApplication
from meshlib.transport.wsgi.connection import peer_of, sni_of
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
from tests.serving.test_http_server import ONLY_PRODUCTPAGE, ask
from tests.support.fake_clock import FakeClock
from tests.support.identities import CLIENT, World
from tests.support.mesh_server import SECONDS, MeshServer
from tests.support.protection import protection

Environ = dict[str, Any]


@pytest.fixture
def world() -> World:
    world = World(of_a_mesh=True)
    world.rotate()
    return world


def mesh_of(world: World, *resources: dict[str, Any]) -> Mesh:
    return Mesh.from_resources(resources, identity=world.identity)


class Application:
    """Responds with the body's length; keeps the environ."""

    def __init__(self) -> None:
        self.environs: list[Environ] = []
        self.lengths: list[int] = []
        self.failures: list[BaseException] = []
        self.mesh: Mesh | None = None
        self.inbound: list[str] = []

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        self.environs.append(environ)
        if self.mesh is not None:
            request = self.mesh.inbound()
            self.inbound.append("none" if request is None else request.principal)
        try:
            self.lengths.append(len(environ["wsgi.input"].read()))
        except BaseException as error:
            self.failures.append(error)
            raise
        start_response("200 OK", [("content-type", "application/json")])
        return [b'{"length": ', str(self.lengths[-1]).encode(), b"}"]


def test_it_is_told_who_the_peer_is_and_the_path_as_it_came(world: World) -> None:
    app = Application()
    with mesh_of(world) as mesh, MeshServer(WsgiApplication(app, 4), mesh) as server:
        assert ask(server, world.client(), "/a%2Fb?x=1", content=b"y" * 100_000) == {"length": 100_000}
        assert ask(server, None, "/plain") == {"length": 0}
    secure, plain = app.environs
    assert secure["RAW_URI"] == "/a%2Fb?x=1"
    assert secure["wsgi.url_scheme"] == "https"
    identity, mutual, tls = peer_of(secure["gunicorn.socket"], mesh._core.peers)
    assert (str(identity), mutual, tls) == (CLIENT, True, True)
    assert sni_of(secure["gunicorn.socket"]) == "", "the client has asked for an address"
    assert secure["gunicorn.socket"].getsockname() == ("127.0.0.1", server.port)
    assert secure["gunicorn.socket"].getpeername() == (secure["REMOTE_ADDR"], int(secure["REMOTE_PORT"]))
    assert "gunicorn.socket" not in plain
    assert plain["RAW_URI"] == "/plain"


def test_policies_decide_before_a_thread_is_taken_and_the_application_knows_the_request(world: World) -> None:
    app = Application()
    with mesh_of(world, ONLY_PRODUCTPAGE) as mesh, MeshServer(WsgiApplication(app, 1), mesh) as server:
        app.mesh = mesh
        assert ask(server, None) == 403
        assert app.environs == []
        assert ask(server, world.client()) == {"length": 0}
    assert app.inbound == [CLIENT]


def test_a_mesh_of_its_own_judges_the_same_peer(world: World) -> None:
    with Mesh.from_resources([ONLY_PRODUCTPAGE]) as own, mesh_of(world) as mesh:
        inner = MeshWSGIMiddleware(Application(), own)
        with MeshServer(WsgiApplication(inner, 4), mesh) as server:
            assert ask(server, world.client()) == {"length": 0}
            assert ask(server, world.client(name="spiffe://cluster.local/ns/default/sa/other")) == 403
            assert ask(server, None) == 403


def test_a_header_with_an_underscore_is_no_other_header(world: World) -> None:
    app = Application()
    with mesh_of(world) as mesh, MeshServer(WsgiApplication(app, 4), mesh) as server:
        ask(server, None, headers={"x_role": "admin", "x-own": "1"})
    assert "HTTP_X_ROLE" not in app.environs[0]
    assert app.environs[0]["HTTP_X_OWN"] == "1"


def test_a_body_that_is_cut_short_fails_its_reader(world: World) -> None:
    app = Application()
    with mesh_of(world) as mesh, MeshServer(WsgiApplication(app, 4), mesh) as server:
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf")
            while not app.environs:
                threading.Event().wait(0.005)
        while not (app.failures or app.lengths):
            threading.Event().wait(0.005)
    assert app.lengths == []
    assert "disconnected before the body" in str(app.failures[0])


def test_requests_run_at_once_in_as_many_threads(world: World) -> None:
    together = threading.Barrier(3, timeout=SECONDS)

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        together.wait(60)  # passed by three at once alone
        start_response("200 OK", [])
        return [b"{}"]

    with mesh_of(world) as mesh, MeshServer(WsgiApplication(app, 3), mesh) as server:
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(lambda _: ask(server, None), range(3)))
    assert said == [{}] * 3


def test_a_response_comes_piece_by_piece_and_its_iterable_is_closed(world: World) -> None:
    go_on, closed = threading.Event(), threading.Event()

    class Pieces:
        def __iter__(self) -> Any:
            yield b"first"
            assert go_on.wait(SECONDS)
            yield b"second"

        def close(self) -> None:
            closed.set()

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Pieces()

    with mesh_of(world) as mesh, MeshServer(WsgiApplication(app, 3), mesh) as server:
        with httpx.Client(verify=world.client(), timeout=SECONDS, trust_env=False) as client:
            with client.stream("GET", f"https://127.0.0.1:{server.port}/") as response:
                pieces = response.iter_raw()
                assert next(pieces) == b"first"
                go_on.set()
                assert b"".join(pieces) == b"second"
    assert closed.wait(SECONDS)


def test_without_a2wsgi_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2wsgi", None)
    with pytest.raises(MeshError, match=r"sidecarless\[serve\]"):
        WsgiApplication(Application(), 1)


def test_a_certificate_is_told_as_der_alone() -> None:
    from meshlib.serving.wsgi_application import PeerSocket

    leaf = World().root.issue(CLIENT, World().now).leaf
    told = PeerSocket({"client_cert_chain": (ssl.DER_cert_to_PEM_cert(leaf),)}, {})
    assert told.getpeercert(True) == leaf
    with pytest.raises(ValueError, match="binary_form"):
        told.getpeercert()


def test_a_line_for_its_threads_that_is_too_long_is_shed_before_anybody_joins_it() -> None:
    clock, held, go_on = FakeClock(), threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/hold":
            held.set()
            assert go_on.wait(SECONDS)
        start_response("200 OK", [])
        return [b"{}"]

    served = WsgiApplication(app, 1)
    shedding = protection(loadShedding={"maxQueueTime": "1s"})
    with Mesh.from_resources([shedding], clock=clock) as mesh, MeshServer(served, mesh) as server:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(ask, server, None, "/hold")
            assert held.wait(SECONDS)
            second = pool.submit(ask, server, None, "/waits")
            while not served.threads.line._standing:
                threading.Event().wait(0.001)
            clock.advance(0.9)
            third = pool.submit(ask, server, None, "/waits-too")
            while len(served.threads.line._standing) < 2:
                threading.Event().wait(0.001)
            clock.advance(0.2)
            assert ask(server, None, "/one-too-many") == 503
            assert ask(server, None, "/healthz/deep") == 503
            go_on.set()
            assert [each.result() for each in (first, second, third)] == [{}] * 3, "who was let in is served"
        assert ask(server, None) == 503, "the window is not over"
        clock.advance(0.3)
        assert ask(server, None) == {}
        assert mesh.problems == []
    assert served.threads.line._standing == {}
