"""A socket that threads share: it never blocks, and one of them may wait for it in the kernel."""

from __future__ import annotations

import socket
import threading

import pytest

from meshlib.transport.upstream.http2_threads_socket import SharedSocket


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    shared = SharedSocket(ours)
    yield shared, theirs
    shared.close()
    theirs.close()


def test_it_never_blocks(ends):
    shared, theirs = ends
    assert shared.receive() is None
    theirs.sendall(b"hello")
    assert shared.receive() == b"hello"
    theirs.close()
    assert shared.receive() == b""


def test_what_the_socket_does_not_take_stays_and_goes_out_in_order(ends):
    shared, theirs = ends
    data = bytes(i % 251 for i in range(3_000_000))
    shared.write(data[:1_000_000])
    assert shared.unwritten
    shared.write(data[1_000_000:])
    got = bytearray()
    theirs.settimeout(60)
    while len(got) < len(data):
        got += theirs.recv(1 << 20)
        shared.write(b"")
    assert got == data
    assert not shared.unwritten


def test_a_full_socket_takes_nothing(ends):
    shared, theirs = ends
    shared.write(bytes(10_000_000))
    before = len(shared.unwritten)
    shared.unwritten.clear()  # as if it had fitted exactly
    shared.write(b"more")
    assert shared.unwritten == b"more"
    assert before


def test_a_socket_that_is_gone_is_an_oserror(ends):
    shared, theirs = ends
    theirs.close()
    with pytest.raises(BrokenPipeError):
        shared.write(b"x")


def test_waiting_ends_with_data_with_room_and_with_time(ends):
    shared, theirs = ends
    shared.watch()
    assert shared.wait(0.01) == []
    theirs.sendall(b"x")
    assert shared.is_ready(shared.wait(5.0))
    shared.receive()
    shared.write(bytes(10_000_000))
    shared.watch()
    assert shared.wait(0.01) == []  # no room
    theirs.settimeout(60)
    theirs.recv(1 << 20)
    while not shared.wait(0.0):
        theirs.recv(1 << 20)
    assert shared.is_ready(shared.wait(5.0))


def test_a_kick_rouses_the_one_that_waits_and_is_not_data(ends):
    shared, _ = ends
    shared.watch()
    ready: list[list[tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: ready.append(shared.wait(10.0)))
    thread.start()
    shared.kick()
    thread.join(60)
    assert ready
    assert not shared.is_ready(ready[0])
    assert shared.wait(0.01) == []  # the kick is used up


def test_any_number_of_kicks_is_one(ends):
    shared, theirs = ends
    for _ in range(5000):
        shared.kick()
    theirs.sendall(b"x")
    shared.watch()
    assert shared.is_ready(shared.wait(5.0))
