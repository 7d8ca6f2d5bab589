"""One request on its way: its ends, by whatever comes first, and what is left of it then."""

from __future__ import annotations

import asyncio
import gc
import threading
from types import SimpleNamespace

import pytest

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.engine.effects import Deliver, Sleep
from meshlib.engine.outcome import Outcome
from meshlib.proxy import forwarding, in_task
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.responder import Streaming
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        yield made


def mesh_of(server):
    return [service("reviews"), pod("reviews", "v1", server.port)]


def test_a_policy_that_breaks_at_the_end_of_a_response_cuts_it(server, monkeypatch):
    """The client would wait for ever."""
    come = threading.Event()

    def breaks(_exchange, _end=None):
        raise ZeroDivisionError

    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.get()  # a connection to the upstream is there
        server.behave = lambda handler: in_two(handler, come)
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert client.head().status == 200
        assert client.exactly(3) == b"one"
        for way in (forwarding, in_task):
            monkeypatch.setattr(way, "finish", breaks)
        come.set()
        with pytest.raises(ConnectionResetError):
            client.exactly(1000)
        assert eventually(lambda: proxy.process.listener.connections == 0)


class Told:
    """Telemetry and client in one."""

    def __init__(self, exchange=None):
        self.said = []
        self.writable = True
        self.outcome = None
        self.record = SimpleNamespace(add_flag=self.said.append, upstream_ms=1.0)
        inbound = SimpleNamespace(default=SimpleNamespace(mesh=DEFAULTS))
        self.live = SimpleNamespace(snapshot=SimpleNamespace(inbound=inbound))
        self.forwarder = SimpleNamespace(
            core=SimpleNamespace(exchange_of=lambda call, brief: exchange),
            telemetry=self,
            runtime=SimpleNamespace(sleep=asyncio.sleep),
            upstream=SimpleNamespace(deadlines=None),
            loop=asyncio.get_running_loop(),
        )

    def began(self, call):
        self.said.append("began")

    def broken(self, call, span):
        self.said.append("broken")

    def begin(self, status, reason, headers):
        self.said.append(status)

    def write(self, data):
        self.said.append(data)

    def pause(self):
        self.said.append("pause")


@pytest.mark.parametrize("turns", [0, 3])
async def test_a_client_that_goes_ends_its_request_once_whether_its_task_has_begun_or_not(turns):
    """A stream may be reset in the turn of the loop in which its response has come, and a task was made for that."""

    def exchange():
        try:
            yield Sleep(20)
        finally:
            told.said.append("closed")

    told = Told(exchange())
    forwarding = Forwarding(told.forwarder, told, told)
    forwarding.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    forwarding.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert told.said == ["began", "DC", "closed", "broken"]


async def test_an_upstream_is_not_read_on_for_a_client_that_was_behind_before():
    told = Told()
    told.writable = False
    forwarding = Forwarding(told.forwarder, told, told)
    forwarding._connection = SimpleNamespace(reader=SimpleNamespace(take=lambda: b"first"), pause=told.pause)
    forwarding._perform(
        iter(()),
        Deliver(Outcome(status=200, reason=b"OK", headers=[], body=Streaming(forwarding._leave_connection)), None),
    )
    assert told.said == [200, b"first", "pause"]


def test_a_response_that_comes_in_pieces_leaves_nothing_to_the_garbage_collector(server):
    def forwardings():
        return sum(type(each) is Forwarding for each in gc.get_objects())

    come = threading.Event()
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.get()  # a connection to the upstream is there
        server.behave = lambda handler: in_two(handler, come)
        assert eventually(lambda: gc.collect() >= 0 and forwardings() == 0)
        gc.disable()
        try:
            client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert client.head().status == 200
            assert forwardings() == 1
            come.set()
            assert client.exactly(6) == b"onetwo"
            assert eventually(lambda: forwardings() == 0)
        finally:
            gc.enable()


def in_two(handler, come):
    handler.send_response(200)
    handler.send_header("content-length", "6")
    handler.end_headers()
    handler.wfile.write(b"one")
    handler.wfile.flush()
    come.wait(20)
    handler.wfile.write(b"two")
    return True
