"""Two sockets joined: every byte goes through, in order, and what ends on one side ends on the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from meshlib.transport.upstream.splice import BUFFER, RESET, Splice, Splicer, reset
from tests.support.grpc_echo import eventually
from tests.support.lender import secured


class Joined:
    """A client and a server with a pair in between: ``client`` and ``server`` are what they hold."""

    def __init__(self, splicer: Splicer) -> None:
        self.client, one = socket.socketpair()
        other, self.server = socket.socketpair()
        self.client.settimeout(60)
        self.server.settimeout(60)
        self.over = threading.Event()
        self.splice: list[Splice] = []
        one.setblocking(False)
        other.setblocking(False)
        splicer.call(lambda: self.splice.append(splicer.join(one, other, self.over.set)))

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def splicer() -> Iterator[Splicer]:
    made = Splicer("meshlib-test")
    yield made
    made.close()


@pytest.fixture
def joined(splicer: Splicer) -> Iterator[Joined]:
    made = Joined(splicer)
    yield made
    made.close()


def read(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (more := sock.recv(65536)):
        found += more
    return found


def test_bytes_go_both_ways(joined: Joined) -> None:
    joined.client.sendall(b"request")
    assert read(joined.server, 7) == b"request"
    joined.server.sendall(b"response")
    assert read(joined.client, 8) == b"response"


def test_what_the_other_side_does_not_take_waits_and_comes_whole_and_in_order(joined: Joined) -> None:
    sent = bytes(range(256)) * (BUFFER // 16)
    sender = threading.Thread(target=joined.client.sendall, args=(sent,))
    sender.start()
    assert eventually(lambda: bool(joined.splice) and bool(joined.splice[0].other.waiting))
    assert len(joined.splice[0].other.waiting) <= BUFFER
    joined.server.sendall(b"the other way is open")  # one direction does not hold up the other
    assert read(joined.client, 21) == b"the other way is open"
    assert read(joined.server, len(sent)) == sent
    sender.join(60)


def test_a_side_that_has_ended_may_still_be_responded_to(joined: Joined) -> None:
    joined.client.sendall(b"the last")
    joined.client.shutdown(socket.SHUT_WR)
    assert read(joined.server, 100) == b"the last"
    joined.server.sendall(b"response")
    assert read(joined.client, 8) == b"response"
    assert not joined.over.is_set()
    joined.server.close()
    assert joined.client.recv(1) == b""
    assert joined.over.wait(60)


def test_what_is_left_goes_out_before_the_end(joined: Joined) -> None:
    sent = b"x" * (4 * BUFFER)
    sender = threading.Thread(target=lambda: (joined.client.sendall(sent), joined.client.shutdown(socket.SHUT_WR)))
    sender.start()
    assert eventually(lambda: bool(joined.splice) and bool(joined.splice[0].other.waiting))
    assert len(read(joined.server, len(sent) + 1)) == len(sent)
    sender.join(60)


def test_a_pair_that_is_ended_closes_both_and_says_so_once(splicer: Splicer, joined: Joined) -> None:
    joined.client.sendall(b"a")
    assert read(joined.server, 1) == b"a"
    splicer.call(joined.splice[0].end)
    assert joined.over.wait(60)
    assert (joined.client.recv(1), joined.server.recv(1)) == (b"", b"")
    joined.over.clear()
    done = threading.Event()
    splicer.call(joined.splice[0].end)
    splicer.call(done.set)
    assert done.wait(60)
    assert not joined.over.is_set()


def test_a_reset_of_one_side_ends_the_other(splicer: Splicer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    other, server = socket.socketpair()
    server.settimeout(60)
    accepted.setblocking(False)
    other.setblocking(False)
    over = threading.Event()
    splicer.call(lambda: splicer.join(accepted, other, over.set) and None)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert server.recv(1) == b""
    assert over.wait(60)
    server.close()


def test_a_job_that_raises_is_logged_and_the_others_go_on(splicer: Splicer, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("as asked")

    splicer.call(broken)
    joined = Joined(splicer)
    joined.client.sendall(b"on")
    assert read(joined.server, 2) == b"on"
    assert "as asked" in caplog.text
    joined.close()


def test_closing_ends_every_pair_and_takes_no_more_jobs(splicer: Splicer, joined: Joined) -> None:
    joined.client.sendall(b"a")
    assert read(joined.server, 1) == b"a"
    splicer.close()
    assert joined.client.recv(1) == b""
    assert eventually(lambda: splicer.closed)
    splicer.call(lambda: pytest.fail("closed"))


def test_a_forked_child_closes_its_copies_and_the_parent_goes_on(splicer: Splicer, joined: Joined) -> None:
    joined.client.sendall(b"a")
    assert read(joined.server, 1) == b"a"
    descriptors = [joined.splice[0].one.sock.fileno(), joined.splice[0].other.sock.fileno()]
    import os

    pid = os.fork()
    if not pid:
        try:
            splicer.after_fork()
            gone = 0
            for descriptor in descriptors:
                try:
                    os.fstat(descriptor)
                except OSError:
                    gone += 1
            os._exit(gone)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    joined.client.sendall(b"b")
    assert read(joined.server, 1) == b"b"


def test_a_connection_that_is_reset_is_not_a_connection_that_has_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        reset(accepted)
        client.settimeout(60)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_over_tls_every_byte_goes_both_ways_and_what_waits_is_bounded(splicer: Splicer) -> None:
    client, one = socket.socketpair()
    ours, theirs = socket.socketpair()
    client.settimeout(60)
    secure, server = secured(ours, theirs)
    server.settimeout(60)
    one.setblocking(False)
    secure.setblocking(False)
    over = threading.Event()
    made: list[Splice] = []
    splicer.call(lambda: made.append(splicer.join(one, secure, over.set)))
    with client, server:
        sent = bytes(range(256)) * (BUFFER // 16)
        for near, far, waits in ((client, server, "other"), (server, client, "one")):
            sender = threading.Thread(target=near.sendall, args=(sent,), daemon=True)
            sender.start()
            assert eventually(lambda waits=waits: bool(made) and bool(getattr(made[0], waits).waiting))
            assert len(getattr(made[0], waits).waiting) < 2 * BUFFER
            assert read(far, len(sent)) == sent
            sender.join(60)
        server.close()
        assert client.recv(1) == b""
        assert over.wait(60)


def test_what_came_with_the_handshake_is_given_on(splicer: Splicer) -> None:
    client, one = socket.socketpair()
    ours, theirs = socket.socketpair()
    client.settimeout(60)
    secure, server = secured(ours, theirs)
    server.sendall(b"settings")
    secure.held, secure._kept = True, secure.recv(100)
    one.setblocking(False)
    secure.setblocking(False)
    splicer.call(lambda: splicer.join(one, secure, lambda: None))
    with client, server:
        assert read(client, 8) == b"settings"
