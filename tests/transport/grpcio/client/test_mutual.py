"""gRPC channels over mTLS of the mesh: whom they speak to, before a byte is sent, with certificates that rotate."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import meshlib
from meshlib.security.authority import Authority
from meshlib.transport.grpcio.client.upstreams import mutual_of
from tests.support.broken_svids import BROKEN, KEY_PEM, signed
from tests.support.grpc_echo import eventually
from tests.support.grpc_mtls import CLIENT, HOLD, SERVER, TodaysClock, World, peer_authentication, served
from tests.support.grpc_mutual import SNI, Calls, Client, calls

RUNTIMES = ("threads", "asyncio")


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[World, int]]:
    """Of STRICT mTLS, with a certificate that has no DNS name at all, as Istio's have none."""
    world = World()
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as mesh:
        world.rotate(dns=())
        with served(mesh) as (port, _):
            yield world, port


@pytest.fixture
def client(server: tuple[World, int]) -> Iterator[Client]:
    made = Client(server[0].root, server[1])
    yield made
    made.close()


# -- explicit -----------------------------------------------------------------------------------------------------------


def test_a_server_is_known_by_its_spiffe_id_and_knows_us_by_ours(client: Client, runtime: str) -> None:
    client.policy(SERVER)
    client.world.rotate()
    with calls(client, runtime) as made:
        assert made.who() == CLIENT
        assert made.who() == CLIENT


def test_a_server_that_may_not_answer_is_refused_with_the_reason_before_a_byte(client: Client, runtime: str) -> None:
    client.policy("spiffe://cluster.local/ns/default/sa/other")
    client.world.rotate()
    with calls(client, runtime) as made:
        told = made.who()
    assert told.startswith("UNAVAILABLE")
    assert f"the server is {SERVER}; only spiffe://cluster.local/ns/default/sa/other may serve this host" in told
    assert "flags UF" in told


def test_without_a_certificate_an_explicit_rule_fails_with_the_reason(client: Client, runtime: str) -> None:
    client.policy(SERVER)
    with calls(client, runtime) as made:
        told = made.who()
        assert told.startswith("UNAVAILABLE")
        assert "this process has no certificate yet: none has been received from the test" in told
        assert "flags UF" in told
        client.world.rotate()
        assert made.who() == CLIENT


def test_a_server_that_does_not_trust_us_is_told_as_the_reason(client: Client, runtime: str) -> None:
    """With TLS 1.3 our handshake is done before the server looks at our certificate."""
    client.policy(SERVER)
    theirs, ours = client.world.root, Authority.root("cluster.local", client.world.now)
    client.world.root = ours
    client.world.rotate(theirs)
    with calls(client, runtime) as made:
        told = made.who()
        assert told.startswith("UNAVAILABLE")
        assert "closed the connection after the TLS handshake without a word" in told
        client.world.root = theirs
        client.world.rotate()
        assert made.who() == CLIENT


def test_nothing_listens_there(runtime: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    client = Client(World().root, port)
    client.policy(SERVER)
    client.world.rotate()
    with calls(client, runtime) as made:
        assert "Connection refused" in made.who()
    client.close()


def test_credentials_of_a_call_reach_the_server(client: Client) -> None:
    """gRPC core sends them over connections that it takes for secure alone."""
    client.policy(SERVER)
    client.world.rotate()
    with calls(client, "threads") as made:
        assert made.who(credentials=grpc.access_token_call_credentials("token")) == CLIENT


def test_composite_credentials_of_a_channel_are_refused_as_for_any_tls_of_a_rule(client: Client) -> None:
    client.policy(SERVER)
    client.world.rotate()
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(), grpc.access_token_call_credentials("token")
    )
    with client.channel(credentials=credentials) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Who")(b"", timeout=60)
    assert "give call credentials with each call" in caught.value.details()


def test_what_a_server_is_asked_for_and_offered(client: Client) -> None:
    """SNI and ALPN as a sidecar's."""
    seen: list[tuple[str | None, str | None]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    from meshlib.identity.credentials import Credentials

    svid = client.world.root.issue(SERVER, client.world.now)
    made = Credentials(svid, client.world.bundles()).server_context(["istio-h2", "h2"])
    del context
    names: list[str | None] = []
    made.sni_callback = lambda _sock, name, _context: names.append(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with made.wrap_socket(sock, server_side=True) as tls:
                seen.append((names[0], tls.selected_alpn_protocol()))

        thread = threading.Thread(target=serve)
        thread.start()
        other = Client(client.world.root, listener.getsockname()[1])
        other.policy(SERVER)
        other.world.rotate()
        with calls(other, "threads") as made_calls:
            assert made_calls.who().startswith("UNAVAILABLE")
        thread.join(60)
        other.close()
    assert seen == [(SNI, "istio-h2")]


GRPC_CORE_DOES_NOT_SHOW = ("no digitalSignature",)


@pytest.mark.parametrize("name", [n for n in BROKEN if n not in ("not for clients", *GRPC_CORE_DOES_NOT_SHOW)])
def test_a_server_whose_certificate_breaks_a_rule_of_spiffe_is_sent_nothing(name: str) -> None:
    world = World()
    made = signed(world.root, world.now, **{"dns": ("echo.test",), **BROKEN[name]}).public_bytes(Encoding.PEM)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    called: list[bytes] = []
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: called.append(request) or b"")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Who": handler}),))
    credentials = grpc.ssl_server_credentials([(KEY_PEM, made)], world.bundles().pem.encode(), True)
    client = Client(world.root, server.add_secure_port("127.0.0.1:0", credentials))
    server.start()
    client.policy(SERVER)
    client.world.rotate()
    with calls(client, "threads") as made_calls:
        told = made_calls.who()
    client.close()
    server.stop(None).wait(60)
    assert told.startswith("UNAVAILABLE")
    assert "TLS" in told
    assert not called


# -- auto mTLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def permissive() -> Iterator[tuple[World, int]]:
    world = World()
    with meshlib.Mesh.from_resources([peer_authentication("PERMISSIVE")], identity=world.identity) as mesh:
        world.rotate(dns=())
        with served(mesh) as (port, _):
            yield world, port


def test_auto_mtls_without_a_certificate_is_plain_text_until_one_comes(
    permissive: tuple[World, int], runtime: str
) -> None:
    world, port = permissive
    client = Client(world.root, port)
    client.policy(auto=True)
    with calls(client, runtime) as made:
        assert made.who() == "nobody"
        client.world.rotate()
        assert made.who() == CLIENT
    client.close()


def test_auto_mtls_is_not_for_endpoints_that_do_not_take_it(permissive: tuple[World, int], runtime: str) -> None:
    world, port = permissive
    client = Client(world.root, port)
    client.world.rotate()
    client.policy(auto=True, taken_by=(1,))
    with calls(client, runtime) as made:
        assert made.who() == "nobody"
    client.close()


def test_auto_mtls_does_not_replace_tls_that_the_caller_brings(permissive: tuple[World, int]) -> None:
    world, port = permissive
    client = Client(world.root, port)
    client.world.rotate()
    client.policy("spiffe://cluster.local/ns/default/sa/nobody-may-answer", auto=True)
    world.rotate(dns=("echo.test",))
    with client.channel(credentials=world.client(name="spiffe://cluster.local/ns/default/sa/own")) as channel:
        assert channel.unary_unary("/t.T/Who")(b"", timeout=60) == b"spiffe://cluster.local/ns/default/sa/own"
    client.close()


# -- rotation -----------------------------------------------------------------------------------------------------------


def test_a_rotation_gives_new_calls_a_new_connection_and_lets_streams_go_on(
    server: tuple[World, int], runtime: str
) -> None:
    world, _ = server
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=World(root=world.root).identity):
        pass
    client = Client(world.root, server[1])
    client.policy(SERVER)
    client.world.rotate()
    with client.channel() as channel:
        stream = channel.unary_stream(HOLD)(b"", timeout=30)
        assert next(stream) == b"held"
        first = open_connections(client)
        client.world.rotate()
        with calls(client, runtime) as made:
            assert made.who() == CLIENT
            assert eventually(lambda: len(open_connections(client)) == 2)
            assert first < open_connections(client)
        stream.cancel()
    client.close()


def open_connections(client: Client) -> set[object]:
    return set(mutual_of(client.core)._open)


def test_connections_of_a_dropped_root_are_closed_with_their_streams_within_a_minute() -> None:
    world, clock = World(), TodaysClock()
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as mesh:
        world.rotate(dns=())
        with served(mesh) as (port, _):
            client = Client(world.root, port, clock=clock)
            client.policy(SERVER)
            client.world.rotate()
            with client.channel() as channel:
                stream = channel.unary_stream(HOLD)(b"", timeout=30)
                assert next(stream) == b"held"
                new = Authority.root("cluster.local", world.now)
                client.world.rotate(new)
                for _ in range(4):
                    clock.advance(15)
                    mutual_of(client.core).look()
                with pytest.raises(grpc.RpcError) as caught:
                    next(stream)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            with calls(client, "threads") as made:
                assert "is not trusted" in made.who()
            client.close()


# -- life ---------------------------------------------------------------------------------------------------------------


def test_the_sockets_of_channels_are_for_this_user_alone_and_gone_with_the_mesh(client: Client) -> None:
    client.policy(SERVER)
    client.world.rotate()
    with calls(client, "threads") as made:
        assert made.who() == CLIENT
        directory = Path(mutual_of(client.core)._directory)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert len(list(directory.iterdir())) == 1
        for _ in range(3):
            client.world.rotate()
            assert made.who() == CLIENT
        assert eventually(lambda: len(list(directory.iterdir())) == 1)  # those of channels that were replaced are gone
    client.close()
    assert eventually(lambda: not directory.exists() or not list(directory.iterdir()))


def test_a_mesh_that_is_closed_breaks_off_what_it_has_open(client: Client) -> None:
    client.policy(SERVER)
    client.world.rotate()
    with client.channel() as channel:
        stream = channel.unary_stream(HOLD)(b"", timeout=30)
        assert next(stream) == b"held"
        client.close()
        with pytest.raises(grpc.RpcError):
            next(stream)
        assert eventually(lambda: not open_connections(client))


def test_nothing_secret_is_in_what_callers_are_told(client: Client) -> None:
    client.policy("spiffe://cluster.local/ns/default/sa/other")
    svid = client.world.rotate()
    with calls(client, "threads") as made:
        assert svid.key_pem.decode().splitlines()[1] not in made.who()
    assert svid.key_pem.decode().splitlines()[1] not in repr(client.mesh.status())


def test_a_forked_child_leaves_the_connections_to_its_parent(client: Client) -> None:
    """Calls in the child need grpcio's own fork support; what must hold without it: the parent goes on."""
    client.policy(SERVER)
    client.world.rotate()
    made = Calls(client, "threads")
    assert made.who() == CLIENT
    descriptors = [end.sock.fileno() for splice in mutual_of(client.core)._open for end in (splice.one, splice.other)]
    pid = os.fork()
    if not pid:
        gone = 0
        for descriptor in descriptors:
            try:
                os.fstat(descriptor)
            except OSError:
                gone += 1
        os._exit(gone)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == len(descriptors) == 2
    assert made.who() == CLIENT
    made.close()
