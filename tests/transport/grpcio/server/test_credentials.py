"""Credentials of grpcio's servers that follow an identity: ``mesh.grpc_server_credentials``."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import grpc
import pytest

import meshlib
from meshlib.problems import MeshError
from meshlib.security.authority import Authority
from tests.support.grpc_mtls import CLIENT, World, ask, dialled, on, peer_authentication, served

RUNTIMES = ("threads", "asyncio")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def mesh(world: World) -> Iterator[meshlib.Mesh]:
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as made:
        yield made


def secure(mesh: meshlib.Mesh, ports: int = 1) -> object:
    def listen(server: grpc.Server) -> int:
        credentials = mesh.grpc_server_credentials()
        found = [server.add_secure_port("127.0.0.1:0", credentials) for _ in range(ports)]
        return found[-1]

    return listen


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("ports", [1, 2])
def test_each_handshake_is_made_with_the_version_that_is_current(
    mesh: meshlib.Mesh, world: World, runtime: str, ports: int
) -> None:
    """Of a second port, too: gRPC core asks anew for each."""
    world.rotate()
    with served(mesh, runtime, secure(mesh, ports)) as (port, _):  # type: ignore[arg-type]
        shown = {leaf(port, world)}
        for _ in range(3):
            shown.add(world.rotate().leaf)
            assert ask(port, world.client()) == CLIENT
            assert leaf(port, world) in shown
            shown.add(leaf(port, world))
        assert len(shown) == 4


def leaf(port: int, world: World, session: list[ssl.SSLSession] | None = None) -> bytes:
    """The certificate that a port shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), 10) as sock, context.wrap_socket(sock) as tls:
        return tls.getpeercert(True) or b""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_before_there_is_a_certificate_every_handshake_fails(mesh: meshlib.Mesh, world: World, runtime: str) -> None:
    with served(mesh, runtime, secure(mesh)) as (port, _):  # type: ignore[arg-type]
        assert ask(port, world.client()) == "UNAVAILABLE"
        world.rotate()
        assert ask(port, world.client()) == CLIENT


def test_a_root_that_was_dropped_lets_nobody_in_any_more(mesh: meshlib.Mesh, world: World) -> None:
    world.rotate()
    old, new = world.root, Authority.root("cluster.local", world.now)
    with served(mesh, listen=secure(mesh)) as (port, _):  # type: ignore[arg-type]
        assert ask(port, world.client()) == CLIENT
        world.root = new
        world.rotate(old, new)
        assert (ask(port, world.client(old)), ask(port, world.client(new))) == (CLIENT, CLIENT)
        world.rotate(new)
        assert (ask(port, world.client(old)), ask(port, world.client(new))) == ("UNAVAILABLE", CLIENT)


@pytest.mark.parametrize("through", ["credentials", "port"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_a_dropped_root_is_not_resumed(
    mesh: meshlib.Mesh, world: World, version: ssl.TLSVersion, through: str
) -> None:
    world.rotate()
    svid = world.root.issue(CLIENT, world.now)
    from meshlib.identity.credentials import Credentials

    context = Credentials(svid, world.bundles()).client_context(("h2",))
    context.minimum_version = context.maximum_version = version
    listen = secure(mesh) if through == "credentials" else None
    with served(mesh, listen=listen) as (port, _):  # type: ignore[arg-type]
        session, _ = shaken(port, context, None)
        assert session is not None
        world.root = Authority.root("cluster.local", world.now)
        world.rotate()
        context.verify_mode = ssl.CERT_NONE
        with pytest.raises(OSError):
            shaken(port, context, session)


def shaken(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool | None]:
    """A handshake and the server's first frame (SETTINGS): the session, and whether an older one was resumed."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        with context.wrap_socket(sock, session=session) as tls:
            if not tls.recv(9):
                raise ConnectionError("the server has closed the connection")
            return tls.session, tls.session_reused


def test_a_mesh_without_identity_has_none() -> None:
    with meshlib.Mesh.from_resources([]) as mesh, pytest.raises(MeshError, match="has no identity"):
        mesh.grpc_server_credentials()


def test_tls_below_1_2_is_refused(mesh: meshlib.Mesh, world: World) -> None:
    world.rotate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with served(mesh, listen=secure(mesh)) as (port, _), pytest.raises(OSError):  # type: ignore[arg-type]
        shaken(port, context, None)


def test_calls_on_a_kept_connection_go_on_while_certificates_rotate(mesh: meshlib.Mesh, world: World) -> None:
    world.rotate()
    with served(mesh, listen=secure(mesh)) as (port, _), dialled(port, world.client()) as channel:  # type: ignore[arg-type]
        for _ in range(5):
            world.rotate()
            assert on(channel) == CLIENT
