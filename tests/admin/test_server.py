"""The thread of the admin endpoint: nobody who is slow, silent or gone holds up anybody else."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from meshlib.admin.address import TcpAddress
from meshlib.admin.listening import Listener, listen_tcp
from meshlib.admin.page import Page, text
from meshlib.admin.request import AdminRequest
from meshlib.admin.server import HEAD_SECONDS, MOST, AdminServer

GET = b"GET /a HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Running:
    """A server with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.listener: Listener = listen_tcp(TcpAddress("127.0.0.1", 0))
        self.server = AdminServer(self.listener.socket, self.respond, lambda: self.now, frozenset(["/change"]))
        self.made = 0
        self.server.start()

    def respond(self, request: AdminRequest) -> Page:
        if request.path == "/long":
            return Page(self.endless())
        if request.path == "/broken":
            raise LookupError("secret")
        if request.path == "/breaks":
            return Page(self.breaking())
        return text(f"{request.method} {request.path}\n")

    def endless(self) -> Iterator[bytes]:
        while True:
            self.made += 1
            yield b"x" * 65536

    def breaking(self) -> Iterator[bytes]:
        yield b"begun\n"
        raise LookupError("secret")

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.socket.getsockname(), timeout=20)

    def ask(self, data: bytes = GET) -> bytes:
        with self.connect() as client:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def close(self) -> None:
        self.server.close()
        self.listener.close()


@pytest.fixture
def running():
    made = Running()
    yield made
    made.close()


def test_a_page_comes_whole_and_the_connection_ends(running):
    answer = running.ask()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nGET /a\n")
    assert b"connection: close\r\n" in answer
    assert b"content-length: 7\r\n" in answer
    assert running.ask(GET.replace(b"GET", b"HEAD")).endswith(b"\r\n\r\n")


def test_a_post_changes_something_where_that_is_so_and_the_405_says_what_is_allowed(running):
    assert running.ask(b"POST /change HTTP/1.1\r\nhost: localhost\r\n\r\n").endswith(b"\r\n\r\nPOST /change\n")
    assert b"allow: POST\r\n" in running.ask(GET.replace(b"/a", b"/change"))
    assert b"allow: GET, HEAD\r\n" in running.ask(GET.replace(b"GET", b"POST"))


def test_what_no_page_may_do_in_a_browser_is_said(running):
    head = running.ask().partition(b"\r\n\r\n")[0].lower()
    for line in (
        b"cache-control: no-store",
        b"x-content-type-options: nosniff",
        b"content-security-policy: default-src 'none'",
    ):
        assert line in head
    assert b"access-control-allow" not in head


def test_a_refusal_says_why(running):
    answer = running.ask(GET.replace(b"GET", b"POST"))
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"allow: GET, HEAD\r\n" in answer
    assert running.ask(GET.replace(b"localhost", b"evil.example")).startswith(b"HTTP/1.1 403 ")
    assert running.server.requests == 0


def test_two_requests_in_one_packet_get_one_answer(running):
    assert running.ask(GET + GET).count(b"HTTP/1.1") == 1


def test_many_who_say_nothing_do_not_keep_anybody_out(running):
    silent = [running.connect() for _ in range(3 * MOST)]
    assert b"GET /a" in running.ask()
    assert len(running.server._connections) <= MOST
    assert running.server.dropped >= 2 * MOST
    for each in silent:
        each.close()


def test_a_head_that_drips_is_given_up_in_time(running):
    with running.connect() as slow:
        slow.sendall(b"GET /a HTTP/1.1\r\n")
        running.ask()  # whoever comes next has the thread look at its clock
        slow.sendall(b"x: y\r\n")
        running.now = HEAD_SECONDS + 1
        running.ask()
        with contextlib.suppress(ConnectionResetError):  # what it has not read when it closes
            assert slow.recv(100) == b""


def test_a_reader_that_stops_holds_nothing_but_a_piece(running):
    with running.connect() as slow:
        slow.sendall(GET.replace(b"/a", b"/long"))
        slow.recv(1)
        for _ in range(20):
            running.ask()
        made = running.made
        for _ in range(20):
            running.ask()
        assert running.made == made  # nothing is made that nobody takes
        running.now = 1000.0
        running.ask()  # whoever comes next has the thread look at its clock
        assert running.server.dropped == 1


def test_a_page_that_cannot_be_made_is_a_500_without_its_reason(running, caplog):
    with caplog.at_level(logging.ERROR, "meshlib.admin"):
        answer = running.ask(GET.replace(b"/a", b"/broken"))
        running.ask(GET.replace(b"/a", b"/broken"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert len(caplog.records) == 1
    assert running.server.failures == 2


def test_a_page_that_breaks_off_is_seen_to_be_cut(running, caplog):
    client = http.client.HTTPConnection(*running.listener.socket.getsockname(), timeout=20)
    client.request("GET", "/breaks")
    response = client.getresponse()
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    client.close()
    assert b"GET /a" in running.ask()


def test_a_client_of_http_1_0_gets_a_body_without_chunks(running):
    with running.connect() as client:
        client.sendall(b"GET /breaks HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.endswith(b"\r\n\r\nbegun\n")
    assert b"chunked" not in answer


def test_a_client_that_goes_away_is_forgotten(running):
    for data in (b"", b"GET", GET.replace(b"/a", b"/long")):
        client = running.connect()
        client.sendall(data)
        client.close()
    assert b"GET /a" in running.ask()
    assert b"GET /a" in running.ask()


def test_close_ends_the_thread_and_its_connections(running):
    with running.connect() as waiting:
        running.ask()
        running.close()
        assert waiting.recv(10) == b""
    assert not [each for each in threading.enumerate() if each is running.server._thread]
    running.close()


def test_a_forked_child_closes_its_copies_and_the_parent_notices_nothing(running):
    with running.connect() as waiting:
        running.ask()
        while len(running.server._connections) != 1:  # the one that was answered is let go of after its answer
            threading.Event().wait(0.001)
        child = os.fork()
        if child == 0:
            # counted here: what else is in this process may close copies of its own as it forks
            before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
            running.server.abandon()
            running.listener.abandon()
            left = len(os.listdir("/proc/self/fd")) if before else -4
            os._exit(0 if left == before - 4 else 7)  # the listener, the connection, the two ends of the waker
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        waiting.sendall(GET)
        assert waiting.recv(20).startswith(b"HTTP/1.1 200")
