"""``mesh.add_grpc_port``: gRPC servers whose ports PeerAuthentications govern, over real sockets."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from concurrent import futures

import grpc
import pytest

import meshlib
from meshlib.identity.credentials import Credentials
from meshlib.problems import MeshError
from meshlib.security.authority import Authority
from tests.support.grpc_echo import eventually
from tests.support.grpc_mtls import (
    CLIENT,
    COUNT,
    HOLD,
    PEER,
    TodaysClock,
    World,
    ask,
    dialled,
    on,
    peer_authentication,
    served,
)
from tests.support.mesh_config import mesh_config

RUNTIMES = ("threads", "asyncio")


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root() -> Authority:
    return World().root


@pytest.fixture
def world(root: Authority) -> World:
    return World(root=root)


def mesh_of(world: World | None, mode: str = "STRICT", **more: object) -> meshlib.Mesh:
    identity = None if world is None else world.identity
    return meshlib.Mesh.from_resources([peer_authentication(mode)], identity=identity, **more)  # type: ignore[arg-type]


# -- modes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "mutual", "plain"),
    [
        ("STRICT", CLIENT, "UNAVAILABLE"),
        ("PERMISSIVE", CLIENT, "nobody"),
        ("DISABLE", "UNAVAILABLE", "nobody"),
    ],
)
def test_the_mode_of_the_port_says_what_it_accepts(
    runtime: str, world: World, mode: str, mutual: str, plain: str
) -> None:
    with mesh_of(world, mode) as mesh:
        world.rotate()
        with served(mesh, runtime) as (port, _):
            assert ask(port, world.client()) == mutual
            assert ask(port) == plain


def handshake(port: int, context: ssl.SSLContext, pieces: int = 1) -> str:
    """The version that is agreed on, the ClientHello sent in so many pieces; or the name of the error."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                return tls.version() or ""
            except ssl.SSLWantReadError:
                said = outgoing.read()
            except ssl.SSLError as error:
                return type(error).__name__
            try:
                for at in range(0, len(said), -(-len(said) // pieces) or 1):
                    sock.sendall(said[at : at + -(-len(said) // pieces)])
                if not (heard := sock.recv(65536)):
                    return "closed"
                incoming.write(heard)
            except OSError as error:
                return type(error).__name__


def only_tls12(world: World) -> ssl.SSLContext:
    context = Credentials(world.root.issue(CLIENT, world.now), world.bundles()).client_context(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_where_tls_1_3_is_the_oldest_a_client_that_does_not_offer_it_is_refused(
    runtime: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    newest = mesh_config(meshMTLS={"minProtocolVersion": "TLSV1_3"})
    with mesh_of(world, "PERMISSIVE") as mesh:
        world.rotate()
        context = Credentials(world.root.issue(CLIENT, world.now), world.bundles()).client_context(["h2"])
        with served(mesh, runtime) as (port, _):
            assert handshake(port, only_tls12(world)) == "TLSv1.2"
            mesh.apply([peer_authentication("PERMISSIVE"), newest])
            assert handshake(port, only_tls12(world)) == "ConnectionResetError"
            assert handshake(port, context) == handshake(port, context, pieces=40) == "TLSv1.3"
            assert (ask(port, world.client()), ask(port)) == (CLIENT, "nobody")
            mesh.apply([peer_authentication("PERMISSIVE")])
            assert handshake(port, only_tls12(world)) == "TLSv1.2"
    assert "meshMTLS.minProtocolVersion" in caplog.text


def test_a_port_of_grpcios_own_cannot_be_told_the_oldest_tls(world: World) -> None:
    newest = mesh_config(meshMTLS={"minProtocolVersion": "TLSV1_3"})
    with mesh_of(world) as mesh:
        world.rotate()
        server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=mesh.grpc_server_interceptors())
        port = server.add_secure_port("127.0.0.1:0", mesh.grpc_server_credentials())
        server.start()
        assert handshake(port, only_tls12(world)) == "TLSv1.2"
        mesh.apply([peer_authentication("STRICT"), newest])
        assert handshake(port, only_tls12(world)) != "TLSv1.2"
        with pytest.raises(MeshError, match=r"mesh\.add_grpc_port"):
            mesh.grpc_server_credentials()
        server.stop(0).wait(60)


def test_a_mode_that_a_reload_changes_is_that_of_new_connections(runtime: str, world: World) -> None:
    with mesh_of(world, "PERMISSIVE") as mesh:
        world.rotate()
        with served(mesh, runtime) as (port, _), dialled(port) as plain:
            assert on(plain) == "nobody"
            mesh.apply([peer_authentication("STRICT")])
            assert ask(port) == "UNAVAILABLE"
            assert ask(port, world.client()) == CLIENT
            mesh.apply([peer_authentication("DISABLE")])
            assert ask(port) == "nobody"


def test_the_port_of_policies_is_the_one_that_is_said(world: World) -> None:
    """Where a container listens at another port than the one that its policies name."""
    strict_at_1 = peer_authentication(
        "DISABLE", selector={"matchLabels": {"app": "r"}}, portLevelMtls={"1": {"mode": "STRICT"}}
    )
    workload = meshlib.Workload("r", labels={"app": "r"})
    with meshlib.Mesh.from_resources([strict_at_1], identity=world.identity, workload=workload) as mesh:
        world.rotate()
        with served(mesh, listen=lambda server: mesh.add_grpc_port(server, "127.0.0.1:0", port=1)) as (port, _):
            assert (ask(port), ask(port, world.client())) == ("UNAVAILABLE", CLIENT)
            assert ask(port, world.client(), PEER).endswith(" 1")
        with served(mesh) as (port, _):
            assert ask(port) == "nobody"


def test_a_client_without_certificate_and_one_of_another_root_are_refused_in_the_handshake(world: World) -> None:
    with mesh_of(world, "PERMISSIVE") as mesh:
        world.rotate()
        with served(mesh) as (port, handlers):
            stranger = Authority.root("cluster.local", world.now)
            assert ask(port, world.client(stranger)) == "UNAVAILABLE"
            roots = world.bundles().pem.encode()
            assert ask(port, grpc.ssl_channel_credentials(roots)) == "UNAVAILABLE"


# -- who calls, and from where ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [True, False])
def test_the_peers_address_on_the_network_is_kept(runtime: str, world: World, secure: bool) -> None:
    with mesh_of(world, "PERMISSIVE") as mesh:
        world.rotate()
        with served(mesh, runtime) as (port, _):
            seen, of_grpcio, at = ask(port, world.client() if secure else None, PEER).split()
            host, _, number = seen.rpartition(":")
            assert host == "127.0.0.1"
            assert number.isdigit()
            assert of_grpcio == f"ipv4:{seen}"
            assert int(at) == port


def test_bytes_go_through_both_ways_whatever_their_number(runtime: str, world: World) -> None:
    with mesh_of(world) as mesh:
        world.rotate()
        sizes = [0, 1, 16384, 3_000_000, 7]
        with served(mesh, runtime) as (port, _), dialled(port, world.client()) as channel:
            sent = [bytes([i]) * size for i, size in enumerate(sizes)]
            assert list(channel.stream_stream(COUNT)(iter(sent), timeout=30)) == sent


# -- without a certificate ----------------------------------------------------------------------------------------------


def test_a_strict_port_serves_nobody_until_there_is_a_certificate(
    runtime: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with mesh_of(world) as mesh, served(mesh, runtime) as (port, _):
        assert (
            "refuses every connection: its PeerAuthentication is STRICT, and there is no certificate to present yet"
            in caplog.text
        )
        assert (ask(port, world.client()), ask(port)) == ("UNAVAILABLE", "UNAVAILABLE")
        assert eventually(lambda: "refuses mTLS: there is no certificate to present" in caplog.text)
        world.rotate()
        assert ask(port, world.client()) == CLIENT
        (told,) = mesh.status()["grpc_ports"]
        assert (told["port"], told["mode"], told["accepting"]) == (port, "STRICT", True)
        assert told["refused"]["no certificate"] >= 1


def test_a_permissive_port_serves_plain_text_without_a_certificate(world: World) -> None:
    with mesh_of(world, "PERMISSIVE") as mesh, served(mesh) as (port, _):
        assert (ask(port), ask(port, world.client())) == ("nobody", "UNAVAILABLE")


def test_a_mesh_without_identity_has_ports_without_tls(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with mesh_of(None) as mesh, served(mesh) as (port, _):
        assert "give the mesh an identity" in caplog.text
        assert (ask(port), ask(port, world.client())) == ("UNAVAILABLE", "UNAVAILABLE")
        mesh.apply([peer_authentication("PERMISSIVE")])
        assert (ask(port), ask(port, world.client())) == ("nobody", "UNAVAILABLE")


# -- who is not trusted any more ----------------------------------------------------------------------------------------


def test_connections_of_a_dropped_root_are_closed_with_their_streams(runtime: str, world: World) -> None:
    with mesh_of(world) as mesh:
        world.rotate()
        old, new = world.root, Authority.root("cluster.local", world.now)
        with served(mesh, runtime) as (port, handlers), dialled(port, world.client()) as channel:
            stream = channel.unary_stream(HOLD)(b"", timeout=30)
            assert next(stream) == b"held"
            world.root = new
            world.rotate(old, new)
            assert on(channel) == CLIENT
            world.rotate(new)
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert on(channel) == "UNAVAILABLE"
            assert ask(port, world.client(new)) == CLIENT
            assert ask(port, world.client(old)) == "UNAVAILABLE"
            handlers.release.set()
            assert handlers.ended.wait(60)


def test_connections_past_the_end_of_their_certificate_are_closed_within_a_minute(runtime: str, world: World) -> None:
    clock = TodaysClock()
    with mesh_of(world, clock=clock) as mesh:
        world.rotate(ttl=86400)
        with served(mesh, runtime) as (port, _), dialled(port, world.client(ttl=3600)) as channel:
            stream = channel.unary_stream(HOLD)(b"", timeout=30)
            assert next(stream) == b"held"
            clock.advance(3500)
            assert on(channel) == CLIENT
            clock.advance(160)
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_connection_that_has_not_called_yet_is_closed_too_when_its_root_is_dropped(world: World) -> None:
    """Nobody knows whose it is before its first call: it has a moment for that."""
    clock = TodaysClock()
    with mesh_of(world, clock=clock) as mesh:
        world.rotate()
        with served(mesh) as (port, _), dialled(port, world.client()) as channel:
            grpc.channel_ready_future(channel).result(60)
            count = lambda: mesh.status()["grpc_ports"][0]["connections"]  # noqa: E731
            assert count() == 1
            world.root = Authority.root("cluster.local", world.now)
            world.rotate()
            assert count() == 1
            clock.advance(10)
            clock.advance(50)
            assert eventually(lambda: count() == 0)


# -- life ---------------------------------------------------------------------------------------------------------------


def test_a_server_that_stops_leaves_its_port(runtime: str, world: World) -> None:
    with mesh_of(world, "PERMISSIVE") as mesh:
        with served(mesh, runtime) as (port, _):
            assert ask(port) == "nobody"
        assert eventually(lambda: refuses(port))
        # once the connection that asked has gone, too
        assert eventually(lambda: mesh.status()["grpc_ports"] == [])


def test_a_mesh_that_is_closed_has_no_ports_any_more(world: World) -> None:
    mesh = mesh_of(world, "PERMISSIVE")
    with mesh, served(mesh) as (port, _):
        with dialled(port) as channel:
            assert on(channel) == "nobody"
            mesh.close()
            assert on(channel) == "UNAVAILABLE"
        assert eventually(lambda: refuses(port))
        with pytest.raises(MeshError, match="closed"):
            mesh.add_grpc_port(grpc.server(futures.ThreadPoolExecutor(1)), "127.0.0.1:0")


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return True
    return False


def test_one_server_may_have_several_ports(world: World) -> None:
    with mesh_of(world, "PERMISSIVE") as mesh:
        world.rotate()
        ports: list[int] = []

        def listen(server: grpc.Server) -> int:
            ports.extend(mesh.add_grpc_port(server, "127.0.0.1:0") for _ in range(2))
            return ports[0]

        with served(mesh, listen=listen):
            for port in ports:
                assert (ask(port), ask(port, world.client())) == ("nobody", CLIENT)
        assert eventually(lambda: all(map(refuses, ports)))


def test_a_forked_child_leaves_the_port_to_its_parent(world: World) -> None:
    """A copy of the socket that listens would keep the port taken when the parent has gone."""
    with mesh_of(world, "PERMISSIVE") as mesh, served(mesh) as (port, _), dialled(port) as channel:
        assert on(channel) == "nobody"
        listener = mesh._core.ports._ports[0]._listener.fileno()  # type: ignore[union-attr, attr-defined]
        itself = os.fstat(listener).st_ino
        pid = os.fork()
        if not pid:
            try:
                still = os.fstat(listener).st_ino == itself  # its number may be another file's by now
            except OSError:
                still = False
            os._exit(still)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (on(channel), ask(port)) == ("nobody", "nobody")


# -- mistakes -----------------------------------------------------------------------------------------------------------


def test_a_server_without_interceptors_of_this_mesh_gets_no_port(world: World) -> None:
    """Nobody would judge who calls: gRPC core does not know what SPIFFE demands."""
    with mesh_of(world) as mesh, mesh_of(None) as other:
        for interceptors in ([], other.grpc_server_interceptors()):
            server = grpc.server(futures.ThreadPoolExecutor(1), interceptors=interceptors)
            with pytest.raises(MeshError, match=r"interceptors=mesh\.grpc_server_interceptors\(\)"):
                mesh.add_grpc_port(server, "127.0.0.1:0")


def server_of(mesh: meshlib.Mesh) -> grpc.Server:
    return grpc.server(futures.ThreadPoolExecutor(1), interceptors=mesh.grpc_server_interceptors())


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "127.0.0.1:", ":x", "127.0.0.1:70000", "unix:/tmp/x:1", "0.0.0.0:-1"]
)
def test_what_is_not_the_address_of_a_port_is_refused(world: World, address: str) -> None:
    with mesh_of(world) as mesh, pytest.raises(MeshError, match=r"write host:port"):
        mesh.add_grpc_port(server_of(mesh), address)


def test_an_address_where_nothing_can_listen_is_refused(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, mesh_of(world) as mesh:
        with pytest.raises(MeshError, match="nothing can listen at"):
            mesh.add_grpc_port(server_of(mesh), f"127.0.0.1:{taken.getsockname()[1]}", reuse_port=False)


def test_nothing_secret_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with mesh_of(world) as mesh:
        svid = world.rotate()
        with served(mesh) as (port, _):
            assert ask(port, world.client()) == CLIENT
            key = svid.key_pem.decode().splitlines()[1]
            assert key not in caplog.text
            assert key not in repr(mesh.status())
