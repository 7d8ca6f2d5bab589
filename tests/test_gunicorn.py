"""``meshlib.gunicorn``: a real gunicorn shows the certificate of the moment, and believes the roots of the moment."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import meshlib.gunicorn as hook
from meshlib.mesh import Mesh
from meshlib.problems import MeshError
from meshlib.security.authority import Authority
from meshlib.serving.tls_connections import GRACE
from meshlib.serving.tls_peer import TlsPeer
from tests.support.gunicorn_server import LONG, gunicorn
from tests.support.identities import CLIENT, World
from tests.support.mesh_config import mesh_config

pytestmark = pytest.mark.slow

APP = """
import json
import meshlib
STRICT = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
          "metadata": {"name": "default", "namespace": "istio-system"}, "spec": {"mtls": {"mode": "STRICT"}}}
mesh = meshlib.Mesh.from_resources([STRICT])

def application(environ, start_response):
    request = mesh.inbound()
    body = json.dumps({"peer": request.principal, "sni": request.sni}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

app = meshlib.MeshWSGIMiddleware(application, mesh)
"""
CONF = """
from meshlib.gunicorn import ssl_context
certfile, keyfile, ca_certs = {certfile!r}, {keyfile!r}, {ca_certs!r}
keepalive = 30
"""


@pytest.fixture
def world() -> World:
    world = World(of_a_mesh=True)
    world.rotate()
    return world


@pytest.fixture(params=["sync", "gthread"])
def port(request: pytest.FixtureRequest, tmp_path: Path, world: World) -> Iterator[int]:
    write(tmp_path, world)
    (tmp_path / "a_wsgi_shop.py").write_text(APP)
    files = {name: str(tmp_path / file) for name, file in FILES.items()}
    (tmp_path / "conf.py").write_text(CONF.format(**files))
    arguments = ("--config", str(tmp_path / "conf.py"), "--worker-class", request.param, "--pythonpath", str(tmp_path))
    with gunicorn(*arguments, app="a_wsgi_shop:app") as port:
        yield port


FILES = {"certfile": "cert.pem", "keyfile": "key.pem", "ca_certs": "bundle.pem"}


def write(folder: Path, world: World) -> None:
    told = world.source._told
    assert told is not None
    svid, bundles = told
    contents = {"bundle.pem": bundles.pem.encode(), "key.pem": svid.key_pem, "cert.pem": svid.chain_pem}
    for name, content in contents.items():
        (folder / f"{name}.new").write_bytes(content)
    for name in contents:
        os.replace(folder / f"{name}.new", folder / name)


class Asked:
    def __init__(self, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.said: dict[str, str] | str = ""
        self.resumed, self.session, self.shown = False, None, b""
        try:
            with socket.create_connection(("127.0.0.1", port), LONG) as plain:
                with context.wrap_socket(plain, server_hostname="reviews", session=session) as tls:
                    self.shown = tls.getpeercert(True) or b""
                    tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                    got = b""
                    while piece := tls.recv(65536):
                        got += piece
                    self.resumed, self.session = bool(tls.session_reused), tls.session
            self.said = json.loads(got.partition(b"\r\n\r\n")[2]) if b"200 OK" in got else "refused"
        except OSError as error:
            self.said = type(error).__name__


def eventually(what: Callable[[], bool]) -> None:
    for _ in range(2000):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not come")


HELLO = {"peer": CLIENT, "sni": "reviews"}


def test_the_certificate_and_the_roots_are_those_of_the_moment(port: int, tmp_path: Path, world: World) -> None:
    context = world.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = Asked(port, context)
    assert first.said == HELLO
    assert Asked(port, context, first.session).resumed
    svid = world.rotate()
    write(tmp_path, world)
    eventually(lambda: Asked(port, world.client()).shown == svid.leaf)
    assert Asked(port, context).said == HELLO
    new, old = Authority.root("cluster.local", world.now), world.root
    world.root = new
    world.rotate(new)
    write(tmp_path, world)
    both = world.client(new, old, new)
    eventually(lambda: Asked(port, both).said == HELLO)
    assert Asked(port, world.client(old, old, new)).said != HELLO
    assert Asked(port, context, first.session).said != HELLO, "a session of a dropped root resumes"
    with socket.create_connection(("127.0.0.1", port), LONG) as plain:  # STRICT, by its nature
        plain.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"200" not in plain.recv(1000)


# -- the hook itself -----------------------------------------------------------------------------------------------------


class Config:
    def __init__(self, folder: Path, **files: str | None) -> None:
        for name, file in FILES.items():
            setattr(self, name, files.get(name, str(folder / file)))

    certfile: str | None
    keyfile: str | None
    ca_certs: str | None


def never() -> ssl.SSLContext:
    raise AssertionError("gunicorn's own context is not asked for")


def test_without_a_certificate_connections_end_and_it_is_said_once(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(tmp_path)
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            hook.ssl_context(config, never)
    assert caplog.text.count("connections are reset") == 1
    write(tmp_path, world)
    context = hook.ssl_context(config, never)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert hook.ssl_context(config, never) is context, "sessions resume in the context that made them"


def test_the_oldest_tls_is_what_a_mesh_of_the_process_says(tmp_path: Path, world: World) -> None:
    write(tmp_path, world)
    config = Config(tmp_path)
    assert hook.ssl_context(config, never).minimum_version is ssl.TLSVersion.TLSv1_2
    with Mesh.from_resources([]), Mesh.from_resources([mesh_config(meshMTLS={"minProtocolVersion": "TLSV1_3"})]):
        assert hook.ssl_context(config, never).minimum_version is ssl.TLSVersion.TLSv1_3
    assert hook.ssl_context(config, never).minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_setting_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="set keyfile, ca_certs in gunicorn.conf.py"):
        hook.ssl_context(Config(tmp_path, keyfile=None, ca_certs=None), never)


def test_a_kept_connection_of_a_dropped_root_is_over_after_its_grace(tmp_path: Path, world: World) -> None:
    write(tmp_path, world)
    context = hook.ssl_context(Config(tmp_path), never)
    here, there = socket.socketpair()
    client: list[ssl.SSLSocket] = []
    shakes = threading.Thread(target=lambda: client.append(world.client().wrap_socket(there, server_hostname="a")))
    shakes.start()
    served = context.wrap_socket(here, server_side=True)
    shakes.join(LONG)
    try:
        client[0].sendall(b"first")
        assert served.recv(10) == b"first"
        assert isinstance(served, hook.JudgedSocket)
        followed = hook._current
        assert followed is not None
        assert isinstance(served._peer, TlsPeer)
        world.root = Authority.root("cluster.local", world.now)
        world.rotate(world.root)
        write(tmp_path, world)
        eventually(lambda: followed.over_for(served._peer) >= 0)  # type: ignore[arg-type]
        client[0].sendall(b"second")
        assert served.recv(10) == b"second", "what is under way may end"
        for root in followed._dropped:
            followed._dropped[root] -= GRACE
        client[0].sendall(b"third")
        assert served.recv(10) == b""
        assert served.recv_into(bytearray(10)) == 0
    finally:
        served.close()
        client[0].close()
