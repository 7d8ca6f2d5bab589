"""Clients that let the proxy wait, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from meshlib.proxy.slow_clients import ClientLimits, SlowClients, Wait
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

LIMITS = ClientLimits(head=10, body=20, idle=30)


class Client:
    def __init__(self, waits: tuple[Wait, int] | None) -> None:
        self.now = waits
        self.given_up: list[Wait] = []

    def waits(self) -> tuple[Wait, int] | None:
        return self.now

    def give_up(self, wait: Wait) -> None:
        self.given_up.append(wait)


@pytest.mark.parametrize("wait", Wait)
def test_a_client_is_given_up_when_it_has_been_waited_for_longer_than_the_limit(wait: Wait) -> None:
    client, slow = Client((wait, 0)), SlowClients(LIMITS)
    slow.look([client], 100)
    slow.look([client], 100 + LIMITS.of(wait))
    assert client.given_up == []
    slow.look([client], 100.5 + LIMITS.of(wait))
    assert client.given_up == [wait]


def test_progress_begins_the_time_anew_and_so_does_another_kind_of_waiting() -> None:
    client, slow = Client((Wait.BODY, 0)), SlowClients(LIMITS)
    for at in range(0, 100, 15):
        client.now = (Wait.BODY, at)
        slow.look([client], at)
    client.now = (Wait.HEAD, 90)
    slow.look([client], 100)
    slow.look([client], 110)
    assert client.given_up == []
    slow.look([client], 111)
    assert client.given_up == [Wait.HEAD]


def test_who_is_not_waited_for_has_time() -> None:
    client, slow = Client(None), SlowClients(LIMITS)
    slow.look([client], 0)
    slow.look([client], 1e6)
    client.now = (Wait.NEXT, 1)
    slow.look([client], 2e6)
    assert client.given_up == []


def test_who_has_gone_is_forgotten() -> None:
    client, slow = Client((Wait.NEXT, 0)), SlowClients(LIMITS)
    slow.look([client], 0)
    slow.look([], 1)
    slow.look([client], 40)
    assert client.given_up == []


class Slow:
    """A proxy whose looks are made by hand."""

    def __init__(self, server: EchoServer) -> None:
        self.clock = FakeClock()
        self.proxy = Proxy([service("reviews"), pod("reviews", "v1", server.port)], clock=self.clock)

    def look_after(self, seconds: float) -> None:
        """At the clients, and once more so many seconds later."""
        listener = self.proxy.process.listener
        assert listener is not None
        looked = []

        def look() -> None:
            listener.look()
            self.clock.advance(seconds)
            listener.look()
            looked.append(True)

        self.proxy.loop.call_soon_threadsafe(look)
        assert eventually(lambda: bool(looked))

    def waits_for(self, wait: Wait) -> bool:
        """Whether its only client is waited for so."""
        listener = self.proxy.process.listener
        assert listener is not None
        return eventually(lambda: [each.waits() and each.waits()[0] for each in listener._connections] == [wait])


@pytest.fixture(scope="module")
def server():
    with EchoServer("v1") as made:
        yield made


HEAD = b"POST / HTTP/1.1\r\nHost: reviews:9080\r\n"


@pytest.mark.parametrize(
    ("sent", "wait", "seconds"),
    [
        (b"P", Wait.HEAD, 60),
        (HEAD, Wait.HEAD, 60),
        (HEAD + b"Content-Length: 3\r\n\r\nab", Wait.BODY, 300),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", Wait.BODY, 300),
    ],
)
def test_a_request_that_is_not_finished_in_time_gets_408(server, sent, wait, seconds):
    slow = Slow(server)
    with slow.proxy as proxy, proxy.client() as client:
        client.send(sent)
        assert slow.waits_for(wait)
        slow.look_after(seconds - 1)
        assert proxy.process.listener.connections == 1
        slow.look_after(2)
        response = client.response()
        assert (response.status, response.header("connection")) == (408, "close")
        assert client.closed()
        assert proxy.process.listener.refusals == {408: 1}


def test_an_idle_connection_closes_after_an_hour_without_a_word(server):
    slow = Slow(server)
    with slow.proxy as proxy, proxy.client() as client:
        assert client.get().status == 200
        assert slow.waits_for(Wait.NEXT)
        slow.look_after(3599)
        assert client.get().status == 200
        assert slow.waits_for(Wait.NEXT)
        slow.look_after(3601)
        assert client.closed()


def test_a_client_that_waits_for_its_response_is_not_slow(server):
    import threading

    begun, go_on = threading.Event(), threading.Event()

    def behave(_handler):
        begun.set()
        go_on.wait(20)
        return False

    server.behave = behave
    slow = Slow(server)
    try:
        with slow.proxy as proxy, proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert begun.wait(20)
            slow.look_after(4000)
            go_on.set()
            assert client.response().status == 200
    finally:
        go_on.set()
        server.behave = None
