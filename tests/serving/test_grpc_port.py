"""One port of a gRPC server, without gRPC: what becomes of a connection by its first byte, and of those that send none."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshlib.alarms import Alarms
from meshlib.identity.credentials import Credentials
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.serving.admission import BACKOFF, PATIENCE
from meshlib.serving.grpc_port import GrpcPort, listen
from meshlib.transport.grpcio.server.spliced import at, peer_named
from meshlib.transport.upstream.splice import Splicer
from tests.support.fake_clock import FakeClock
from tests.support.grpc_echo import eventually
from tests.support.grpc_mtls import World
from tests.support.hellos import NEW, OLD

TLS, PLAIN = b"\x16\x03\x01", b"PRI * HTTP/2.0"


class Front:
    """A port in front of two unix sockets that say what has come to which."""

    def __init__(self, directory: Path, mode: MtlsMode | None, credentials: Credentials | None) -> None:
        self.mode: MtlsMode | None = mode
        self.credentials = credentials
        self.tls13 = False
        self.clock = FakeClock()
        self.alarms = Alarms(self.clock)
        self.splicer = Splicer("meshlib-test")
        self.inner = {name: socket.socket(socket.AF_UNIX) for name in ("plain", "tls")}
        for name, sock in self.inner.items():
            sock.bind(str(directory / name))
            sock.listen(8)
            sock.settimeout(60)
        self.listener = listen("127.0.0.1:0", reuse_port=False)
        self.address = self.listener.getsockname()
        self.port = GrpcPort(
            self.listener,
            50051,
            str(directory / "plain"),
            str(directory / "tls"),
            self.splicer,
            self.alarms,
            lambda: self.mode,
            lambda: self.credentials,
            lambda: self.tls13,
        )

    def send(self, data: bytes) -> socket.socket:
        client = socket.create_connection(self.address, 10)
        if data:
            client.sendall(data)
        return client

    def came(self, name: str) -> socket.socket:
        return self.inner[name].accept()[0]

    def close(self) -> None:
        self.port.close()
        self.splicer.close()
        self.alarms.close()
        for sock in self.inner.values():
            sock.close()


@pytest.fixture
def credentials() -> Credentials:
    world = World()
    return Credentials(world.root.issue(world.name, world.now), world.bundles())


@pytest.fixture
def front(tmp_path: Path, credentials: Credentials) -> Iterator[Front]:
    made = Front(tmp_path, MtlsMode.PERMISSIVE, credentials)
    yield made
    made.close()


def was_reset(client: socket.socket) -> bool:
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    return True


@pytest.mark.parametrize(("data", "name"), [(TLS, "tls"), (PLAIN, "plain")])
def test_a_connection_goes_where_its_first_byte_says_and_nothing_of_it_is_lost(
    front: Front, data: bytes, name: str
) -> None:
    with front.send(data) as client, front.came(name) as inner:
        assert inner.recv(100) == data
        inner.sendall(b"response")
        assert client.recv(100) == b"response"
        assert eventually(lambda: len(front.port.connections) == 1)
        (connection,) = front.port.connections
        host, port = client.getsockname()
        assert (connection.peer, connection.port) == (f"{host}:{port}", 50051)
        assert (connection.credentials is None) == (name == "plain")


@pytest.mark.parametrize("asked", [4, 5, 100])
def test_where_tls_1_3_is_the_oldest_a_hello_is_waited_for_whole(front: Front, asked: int) -> None:
    front.tls13 = True
    with front.send(NEW[:1]) as client:
        for piece in (NEW[1:asked], NEW[asked:-1]):
            client.sendall(piece)
        assert not eventually(lambda: bool(front.port.refused or front.port.connections), 0.05)
        client.sendall(NEW[-1:])
        with front.came("tls") as inner:
            assert inner.recv(65536) == NEW
            client.sendall(b"x")  # each byte is passed on from here
            assert inner.recv(100) == b"x"
    with front.send(NEW[:100]) as client:
        client.shutdown(socket.SHUT_WR)
        assert was_reset(client)
    assert was_reset(front.send(OLD))
    assert front.port.refused == {"old TLS": 2}


def test_what_is_known_of_a_connection_is_found_by_its_name_while_it_lasts(front: Front) -> None:
    with front.send(PLAIN) as client, front.came("plain") as inner:
        name = peer_named(inner.getpeername().decode())
        assert len(name) > len("unix-abstract:meshlib-") + 31  # 128 bits that nobody can guess
        found = at(name)
        assert found is not None
        assert eventually(lambda: found in front.port.connections)
        found.close()
        with contextlib.suppress(ConnectionResetError):  # where not all had been read
            assert client.recv(1) == b""
        assert eventually(lambda: at(name) is None and not front.port.connections)


@pytest.mark.parametrize(
    ("mode", "data", "why"),
    [(MtlsMode.STRICT, PLAIN, "plain text"), (None, PLAIN, "closed"), (None, TLS, "closed")],
)
def test_what_the_mode_does_not_accept_is_reset_and_counted(
    front: Front, mode: MtlsMode | None, data: bytes, why: str
) -> None:
    front.mode = mode
    assert was_reset(front.send(data))
    assert front.port.refused == {why: 1}


def test_tls_without_a_certificate_to_show_is_reset_and_said_once(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    front.credentials = None
    assert was_reset(front.send(TLS))
    assert was_reset(front.send(TLS))
    assert front.port.refused == {"no certificate": 2}
    assert caplog.text.count("port 50051 refuses mTLS") == 1


def test_who_says_nothing_is_cut_after_a_while_and_holds_up_nobody(front: Front) -> None:
    silent = [front.send(b"") for _ in range(30)]
    assert eventually(lambda: len(front.port._waiting) == 30)
    with front.send(PLAIN), front.came("plain") as inner:
        assert inner.recv(100) == PLAIN
    front.clock.advance(PATIENCE)
    assert all(map(was_reset, silent))
    assert front.port.refused == {"silent": 30}


def test_of_too_many_who_say_nothing_the_one_that_has_waited_longest_is_cut(front: Front) -> None:
    front.port._waiting.most = 2
    silent = [front.send(b"")]
    assert eventually(lambda: len(front.port._waiting) == 1)  # one after the other
    silent += [front.send(b""), front.send(b"")]
    assert eventually(lambda: front.port.refused == {"too many": 1})
    assert was_reset(silent[0])
    assert eventually(lambda: len(front.port._waiting) == 2)
    for client in silent[1:]:
        client.close()


def test_plain_text_is_refused_as_such_where_there_is_no_certificate_either(front: Front) -> None:
    front.mode, front.credentials = MtlsMode.STRICT, None
    assert was_reset(front.send(PLAIN))
    assert front.port.refused == {"plain text": 1}


def test_who_leaves_without_a_word_is_forgotten(front: Front) -> None:
    client = front.send(b"")
    assert eventually(lambda: len(front.port._waiting) == 1)
    client.close()
    assert eventually(lambda: not front.port._waiting)
    assert front.port.refused == {}


def test_a_server_that_does_not_accept_resets_its_clients(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    front.inner["plain"].close()
    assert was_reset(front.send(PLAIN))
    assert front.port.refused == {"server": 1}
    assert "the gRPC server does not accept connections" in caplog.text


def test_a_port_that_stops_accepts_nothing_more_and_its_connections_go_on(front: Front) -> None:
    with front.send(PLAIN) as client, front.came("plain") as inner:
        assert inner.recv(100) == PLAIN
        silent = front.send(b"")
        assert eventually(lambda: len(front.port._waiting) == 1)
        front.port.stop()
        assert was_reset(silent)
        with pytest.raises(OSError):
            socket.create_connection(front.address, 10)
        client.sendall(b"more")
        assert inner.recv(100) == b"more"


def test_a_process_that_can_open_nothing_more_tries_again_later(
    front: Front, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        tries = 0

        def accept(self) -> None:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

        def fileno(self) -> int:
            return front.listener.fileno()

        def close(self) -> None:
            front.listener.close()

    full = Full()
    on_thread(front, lambda: front.splicer.unwatch(front.listener))
    monkeypatch.setattr(front.port, "_listener", full)
    on_thread(front, lambda: front.splicer.watch(full, front.port._accept))  # type: ignore[arg-type]
    client = front.send(PLAIN)
    assert eventually(lambda: full.tries == 1 and len(front.alarms._due) == 1)
    assert front.port.refused == {}
    assert "cannot accept connections" in caplog.text
    monkeypatch.setattr(front.port, "_listener", front.listener)
    assert full.tries == 1  # it does not spin
    front.clock.advance(BACKOFF)
    with client, front.came("plain") as inner:
        assert inner.recv(100) == PLAIN


def on_thread(front: Front, job: Callable[[], object]) -> None:
    done = threading.Event()

    def told() -> None:
        job()
        done.set()

    front.splicer.call(told)
    assert done.wait(60)


@pytest.mark.parametrize("address", ["[::1]:0", "[::]:0", "localhost:0", ":0"])
def test_a_port_listens_at_addresses_as_grpcio_writes_them(address: str) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with listen(address, reuse_port=True) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("::1" if address != "localhost:0" else "localhost", port), 10):
            pass
        if address == "[::]:0":  # IPv4, too
            with socket.create_connection(("127.0.0.1", port), 10):
                pass
