"""TLS on a socket that blocks: nothing waits where no poll sees it, and times are those of a plain socket."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meshlib.clock import SystemClock
from meshlib.transport.upstream import tls_socket
from meshlib.transport.upstream.tls_socket import CLOSED_EARLY, PIECE, RECORD, TlsSocket, holds, is_unsent, plain_socket
from tests.support.lender import AUTHORITY, CLIENT, NAME, SERVER, secured

BIG = bytes(range(256)) * 8192
NOW = socket.MSG_DONTWAIT
OLD_CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
OLD_CLIENT.maximum_version = ssl.TLSVersion.TLSv1_2
AUTHORITY.configure_trust(OLD_CLIENT)


class Ends:
    """A client after its handshake, and a server whose records a test sends as it likes."""

    def __init__(self) -> None:
        self.at = 100.0
        ours, self.far = socket.socketpair()
        self.far.settimeout(60)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = SERVER.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.tls = TlsSocket(ours, CLIENT, NAME, lambda: self.at)

    def shake(self, with_the_end: bytes = b"") -> None:
        """``with_the_end``: what comes with the server's last words of a handshake, which the client's are before TLS 1.3."""
        client = threading.Thread(target=self.tls.do_handshake, args=(10.0,), daemon=True)
        client.start()
        self.incoming.write(self.far.recv(PIECE))
        with pytest.raises(ssl.SSLWantReadError):
            self.server.do_handshake()
        self.far.sendall(self.outgoing.read())
        self.incoming.write(self.far.recv(PIECE))
        self.server.do_handshake()
        self.far.sendall(self.outgoing.read() + (self.records(with_the_end) if with_the_end else b""))
        client.join(60)

    def records(self, *data: bytes) -> bytes:
        for each in data:
            self.server.write(each)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.server.unwrap()
        return self.outgoing.read()

    def poll(self) -> bool:
        waits = select.poll()
        waits.register(self.tls.fileno(), select.POLLIN)
        return bool(waits.poll(0))


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.tls.close()
    made.far.close()


@pytest.fixture
def pair() -> Iterator[tuple[TlsSocket, ssl.SSLSocket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    tls, server = secured(ours, theirs)
    yield tls, server
    tls.close()
    server.close()


def read(recv: Callable[[int], bytes], count: int) -> bytes:
    found = b""
    while len(found) < count and (more := recv(PIECE)):
        found += more
    return found


def test_big_bodies_go_both_ways_at_once(pair):
    tls, server = pair
    found: list[bytes] = []

    def serve() -> None:
        found.append(read(server.recv, len(BIG)))

    threads = [threading.Thread(target=serve), threading.Thread(target=server.sendall, args=(BIG,))]
    threads[0].start()
    tls.sendall(BIG)
    threads[0].join(60)
    threads[1].start()
    assert read(tls.recv, len(BIG)) == BIG
    threads[1].join(60)
    assert found == [BIG]
    assert not is_unsent(tls)


def test_all_records_that_have_come_are_read_at_once_and_a_poll_tells_of_the_rest(ends):
    ends.shake()
    wire = ends.records(b"one ", b"two ", b"three")
    ends.far.sendall(wire[:-1])
    assert ends.tls.recv(PIECE) == b"one two "
    assert not ends.poll()
    assert not ends.tls.held
    ends.far.sendall(wire[-1:])
    assert ends.poll()
    assert ends.tls.recv(PIECE, NOW) == b"three"
    with pytest.raises(BlockingIOError):
        ends.tls.recv(PIECE, NOW)


def test_a_record_may_come_byte_by_byte(ends):
    ends.shake()
    for byte in (wire := ends.records(b"hello"))[:-1]:
        ends.far.sendall(bytes([byte]))
        with pytest.raises(BlockingIOError):
            ends.tls.recv(PIECE, NOW)
    ends.far.sendall(wire[-1:])
    assert ends.tls.recv(PIECE) == b"hello"


def test_a_server_that_dribbles_does_not_begin_the_timeout_again(ends, monkeypatch):
    ends.shake()
    ends.tls.seconds = 5.0
    ends.far.sendall(ends.records(b"hello")[:10])
    took, waits = ends.tls._took, _Waits()

    def later(data: bytes) -> None:
        ends.at += 3.0
        took(data)

    ends.tls._took = later
    monkeypatch.setattr(tls_socket, "waiting_poll", lambda _: waits)
    with pytest.raises(TimeoutError):
        ends.tls.recv(PIECE)
    assert waits.asked == [2000.0], "milliseconds: what is left of the five seconds"


class _Waits:
    """A poll that sees nothing come."""

    def __init__(self) -> None:
        self.asked: list[float | None] = []

    def register(self, *_: object) -> None:
        """Nothing to do."""

    def poll(self, left: float | None) -> list[tuple[int, int]]:
        self.asked.append(left)
        return []


def test_nothing_is_waited_for_by_one_that_does_not_block(ends):
    ends.shake()
    ends.tls.setblocking(False)
    ends.far.sendall(ends.records(b"hello")[:10])
    with pytest.raises(BlockingIOError):
        ends.tls.recv(PIECE)
    with pytest.raises(BlockingIOError):
        ends.tls.recv(PIECE)


def test_what_comes_with_the_end_of_the_handshake_is_held(ends):
    ends.tls = TlsSocket(ends.tls.raw, OLD_CLIENT, NAME, lambda: 0.0)
    ends.shake(b"early")
    assert holds(ends.tls)
    assert ends.tls.recv(PIECE) == b"early"
    assert not holds(ends.tls)


def test_a_goodbye_behind_the_last_bytes_is_held_and_is_the_end_from_then_on(ends):
    ends.shake()
    ends.far.sendall(ends.records(b"bye") + ends.goodbye())
    assert ends.tls.recv(PIECE) == b"bye"
    assert holds(ends.tls)
    assert not ends.poll()
    assert [ends.tls.recv(PIECE), ends.tls.recv(PIECE, NOW)] == [b"", b""]
    ends.tls.sendall(b"still heard")  # one side has ended


def test_a_false_record_behind_good_ones_is_told_after_them_and_the_server_hears_why(ends):
    ends.shake()
    ends.far.sendall(ends.records(b"good") + b"\x17\x03\x03\x00\x10" + bytes(16))
    assert ends.tls.recv(PIECE) == b"good"
    assert holds(ends.tls)
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            ends.tls.recv(PIECE)
    ends.incoming.write(ends.far.recv(PIECE))
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        ends.server.read(1)


def test_an_end_without_a_goodbye_is_the_end(ends):
    ends.shake()
    ends.far.sendall(ends.records(b"hello")[:10])
    ends.far.close()
    assert ends.tls.recv(PIECE) == b""
    assert ends.tls.recv(PIECE) == b""


def test_what_a_full_socket_does_not_take_is_bounded_and_goes_out_in_order(pair):
    tls, server = pair
    sent = 0
    while not is_unsent(tls):
        sent += tls.send(BIG[sent % 256 :][: 1 << 18], NOW)
    with pytest.raises(BlockingIOError):
        tls.send(b"more", NOW)
    assert len(tls.unsent) < 2 * PIECE
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(read(server.recv, sent)), daemon=True)
    thread.start()
    while is_unsent(tls):
        assert tls.send(b"") == 0  # blocks: the server reads
    thread.join(60)
    assert found[0] == (BIG * 8)[:sent]


def test_written_pieces_follow_what_was_left(pair):
    tls, server = pair
    tls.unsent += tls.encrypt(b"first ")
    tls.sendall(b"second")
    assert read(server.recv, 12) == b"first second"


def test_a_server_that_does_not_end_the_handshake_is_waited_for_as_long_as_allowed():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        at = iter([0.0, 0.0, 7.0])
        with pytest.raises(TimeoutError):
            TlsSocket(ours, CLIENT, NAME, lambda: next(at)).do_handshake(7.0)
        with pytest.raises(TimeoutError):
            TlsSocket(ours, CLIENT, NAME, SystemClock.monotonic).do_handshake(0.01)


def test_a_server_that_ends_in_the_handshake_is_an_error_of_tls():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLError) as ended:
            TlsSocket(ours, CLIENT, NAME, SystemClock.monotonic).do_handshake(10.0)
    assert ended.value.reason == "UNEXPECTED_EOF_WHILE_READING"


def test_a_server_that_is_not_trusted_hears_why():
    ours, theirs = socket.socketpair()
    refused: list[BaseException] = []

    def serve() -> None:
        try:
            SERVER.wrap_socket(theirs, server_side=True).recv(1)
        except OSError as error:
            refused.append(error)

    with ours, theirs:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ssl.SSLCertVerificationError):
            TlsSocket(ours, ssl.create_default_context(), NAME, SystemClock.monotonic).do_handshake(10.0)
        thread.join(60)
    assert "UNKNOWN_CA" in str(refused[0])


def test_it_closes_detaches_and_shuts_down_as_the_socket_below(pair):
    tls, server = pair
    assert plain_socket(tls).fileno() == tls.fileno()
    tls.shutdown(socket.SHUT_RDWR)
    assert (tls.recv(1), server.recv(1)) == (b"", b"")
    number = tls.detach()
    assert (number >= 0, tls.fileno()) == (True, -1)
    socket.close(number)


def arrives(sock: socket.socket) -> bool:
    waits = select.poll()
    waits.register(sock, select.POLLIN)
    return bool(waits.poll(10_000))


class Renegotiating:
    """A session of TLS 1.2 in which writing waits for the server once."""

    def __init__(self, ends: int) -> None:
        self.waits, self.written = 1, b""
        self.ends = ends

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_hostname: object) -> Any:
        self.incoming, self.outgoing = incoming, outgoing
        return self

    def read(self, size: int) -> bytes:
        raise ssl.SSLWantReadError

    def write(self, data: bytes | memoryview) -> int:
        if self.waits:
            self.waits -= 1
            self.outgoing.write(b"<hello>")
            raise ssl.SSLWantReadError
        assert self.incoming.read() == b"<finished>"
        self.outgoing.write(bytes(data))
        return len(data)


def test_what_is_written_during_a_renegotiation_waits_for_it():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tls = TlsSocket(ours, Renegotiating(0), NAME, SystemClock.monotonic)
        theirs.sendall(b"<finished>")
        tls.sendall(b"request")
        assert theirs.recv(99) == b"<hello>request"
        tls = TlsSocket(ours, Renegotiating(1), NAME, SystemClock.monotonic)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError, match=CLOSED_EARLY):
            tls.sendall(b"request")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl is not installed")
@pytest.mark.parametrize(
    ("version", "command"), [("-tls1_3", b"K\n"), ("-tls1_2", b"r\n")], ids=["new keys", "renegotiation"]
)
def test_a_server_of_openssl_may_change_keys_between_two_requests(tmp_path, version, command):
    certificate = AUTHORITY.issue_cert(NAME)
    (tmp_path / "server.pem").write_bytes(
        certificate.private_key_pem.bytes() + b"".join(each.bytes() for each in certificate.cert_chain_pems)
    )
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", version, "-naccept", "1"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        heard = iter(process.stdout.readline, b"")
        port = int(next(line for line in heard if line.startswith(b"ACCEPT")).rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            tls = TlsSocket(raw, CLIENT, NAME, SystemClock.monotonic)
            tls.do_handshake(10.0)
            for request, said in (
                (b"1\n", []),
                (b"2\n", [command]),
                (b"3\n", []),
            ):  # session tickets come with the first
                tls.sendall(request)
                assert any(line == request for line in heard)
                for line in (*said, b"response\n"):
                    process.stdin.write(line)
                    process.stdin.flush()
                    assert arrives(raw)  # it takes one command of what it reads at once
                assert tls.recv(PIECE) == b"response\n"
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_piece_is_more_than_a_record():
    assert PIECE > RECORD + 1024  # so that one read of the system may have a whole one
