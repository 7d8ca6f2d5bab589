"""Servers of tests end, or say that they do not."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from tests.support.listening import stop_accepting


def test_whoever_accepts_ends_and_the_port_is_free():
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]

    def accept() -> None:
        with contextlib.suppress(OSError):
            sock.accept()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    stop_accepting(sock, thread)
    assert not thread.is_alive()
    socket.create_server(("127.0.0.1", port)).close()


def test_who_does_not_end_is_named_and_its_socket_stays_its_own():
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="deaf", daemon=True)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with pytest.raises(AssertionError, match="deaf has not ended within 0 s: it still accepts"):
            stop_accepting(sock, thread, 0.0)
        assert sock.fileno() >= 0
    over.set()
    thread.join(60)
