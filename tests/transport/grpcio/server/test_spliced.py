"""What a port of the mesh knows of a connection, and that nobody else can say it."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest

import meshlib
from meshlib.transport.grpcio.server import spliced
from meshlib.transport.grpcio.server.spliced import Spliced, SplicedContext, address_of, grpc_name
from tests.support.grpc_mtls import PEER, Handlers, dialled, on


def test_a_connection_is_known_as_long_as_it_is_kept() -> None:
    made = Spliced("10.0.0.1:4711", 50051, None, lambda: None)
    spliced.keep("\0meshlib-test", made)
    assert spliced.at("unix-abstract:meshlib-test") is made
    spliced.forget("\0meshlib-test")
    assert spliced.at("unix-abstract:meshlib-test") is None


def test_the_first_call_tells_who_the_peer_is() -> None:
    made = Spliced("10.0.0.1:4711", 50051, None, lambda: None)
    made.judged((b"leaf", ()), True)
    made.judged((b"other", ()), False)
    assert (made.shown, made.trusted) == ((b"leaf", ()), True)


@pytest.mark.parametrize(
    ("address", "name"), [("10.0.0.1:4711", "ipv4:10.0.0.1:4711"), ("[::1]:4711", "ipv6:%5B::1%5D:4711")]
)
def test_handlers_are_told_the_peer_as_grpcio_would_tell_it(address: str, name: str) -> None:
    context = SplicedContext(object(), Spliced(address, 1, None, lambda: None))
    assert context.peer() == name


def test_grpcio_tells_peers_so() -> None:
    """Compared with grpcio itself, IPv4 and IPv6."""
    seen: list[str] = []

    def serve(_request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(context.peer())
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("a", {"b": grpc.unary_unary_rpc_method_handler(serve)}),)
    )
    hosts = ["127.0.0.1"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        hosts.append("[::1]")
    ports = [(host, server.add_insecure_port(f"{host}:0")) for host in hosts]
    server.start()
    for host, port in ports:
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            channel.unary_unary("/a/b")(b"", timeout=60)
    server.stop(None).wait(60)
    for host, peer in zip(hosts, seen, strict=True):
        assert peer == grpc_name(f"{host}:{peer.rpartition(':')[2]}")


def test_an_address_of_ipv4_on_a_socket_of_both_is_one_of_ipv4() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client:
            accepted, _ = listener.accept()
            with accepted:
                assert address_of(accepted) == f"127.0.0.1:{client.getsockname()[1]}"


def test_a_name_like_ours_on_a_socket_of_grpcios_own_is_nobodys_address(tmp_path: Path) -> None:
    """Somebody who may connect to a unix socket of the application binds a name as ports of the mesh bind theirs."""
    with meshlib.Mesh.from_resources([]) as mesh:
        server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=mesh.grpc_server_interceptors())
        server.add_generic_rpc_handlers((Handlers(mesh).of_threads(),))
        path = tmp_path / "own"
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:

                def forge() -> None:
                    sock, _ = listener.accept()
                    inner = socket.socket(socket.AF_UNIX)
                    inner.bind("\0meshlib-10.0.0.1:4711")
                    inner.connect(str(path))
                    for one, other in ((sock, inner), (inner, sock)):
                        threading.Thread(target=_pump, args=(one, other), daemon=True).start()

                threading.Thread(target=forge, daemon=True).start()
                with dialled(listener.getsockname()[1]) as channel:
                    told = on(channel, PEER)
        finally:
            server.stop(None).wait(60)
        assert told == "unix-abstract:meshlib-10.0.0.1:4711 unix-abstract:meshlib-10.0.0.1:4711 0"


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError), one:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
