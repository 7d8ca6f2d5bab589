"""The ADS server, over a unix socket, with a client of gRPC's."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshlib.clock import SystemClock
from meshlib.envoy.ads import SERVICE, AdsServer
from meshlib.envoy.ads_state import Packed, Rejection
from meshlib.envoy.binary import find_envoy
from meshlib.envoy.bootstrap import Sockets, bootstrap
from meshlib.envoy.child import Child
from meshlib.envoy.configuration import configuration
from meshlib.envoy.messages import CLUSTER, LISTENER, discovery, packed
from meshlib.envoy.supervise import packed_configuration
from meshlib.workload import Workload
from tests.support.envoy_engine import require_envoy, snapshot_of
from tests.support.eventually import eventually
from tests.support.proxy import Client as HttpClient
from tests.support.proxy_command import free_port
from tests.support.resources import service_entry, virtual_service

TARGET = {CLUSTER: {"a": packed(CLUSTER, {"name": "a"})}}


class Scene:
    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "ads.sock")
        self.rejections: list[Rejection] = []
        self.taken = 0
        self.server = AdsServer(self.path, SystemClock.monotonic, self.rejections.append, self._took)

    def _took(self) -> None:
        self.taken += 1


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    made.server.start()
    yield made
    made.server.close()


class Client:
    def __init__(self, stub: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.responses = stub(iter(self._requests.get, None), timeout=30)

    def say(self, kind: str, nonce: str = "", error: str = "") -> None:
        request = discovery().DiscoveryRequest(type_url=kind, response_nonce=nonce)
        if error:
            request.error_detail.message = error
        self._requests.put(request)

    def end(self) -> None:
        self._requests.put(None)
        self.responses.cancel()


@contextmanager
def client(scene: Scene) -> Iterator[Client]:
    messages = discovery()
    with grpc.insecure_channel(f"unix:{scene.path}") as channel:
        made = Client(
            channel.stream_stream(
                f"/{SERVICE}/StreamAggregatedResources",
                request_serializer=messages.DiscoveryRequest.SerializeToString,
                response_deserializer=messages.DiscoveryResponse.FromString,
            )
        )
        try:
            yield made
        finally:
            made.end()


def test_resources_are_sent_and_taken(scene: Scene) -> None:
    scene.server.offer(TARGET)
    with client(scene) as there:
        there.say(CLUSTER)
        response = next(there.responses)
        assert [each.value for each in response.resources] == [TARGET[CLUSTER]["a"]]
        there.say(CLUSTER, response.nonce)
        assert eventually(lambda: scene.taken == 1)
        scene.server.offer({CLUSTER: {}})
        assert next(there.responses).resources == []
    assert eventually(lambda: not scene.server.connected)


def test_a_refusal_is_told_with_envoys_words(scene: Scene) -> None:
    scene.server.offer(TARGET)
    with client(scene) as there:
        there.say(CLUSTER)
        there.say(CLUSTER, next(there.responses).nonce, "no good")
        assert eventually(lambda: [each.message for each in scene.rejections] == ["no good"])


def test_a_stream_that_is_cut_is_over_for_both_and_the_next_gets_all(scene: Scene) -> None:
    scene.server.offer(TARGET)
    with client(scene) as there:
        there.say(CLUSTER)
        next(there.responses)
        scene.server.cut()
        with pytest.raises(grpc.RpcError):
            next(there.responses)
    with client(scene) as there:
        there.say(LISTENER)
        assert next(there.responses).type_url == LISTENER
        there.say(CLUSTER)
        assert len(next(there.responses).resources) == 1


def test_an_envoy_whose_stream_is_cut_goes_on_and_gets_the_current_state(tmp_path: Path) -> None:
    """A real one: it serves meanwhile, and what has changed while it was away reaches it."""
    require_envoy()
    sockets = Sockets(str(tmp_path / "admin.sock"), str(tmp_path / "ads.sock"))
    port = free_port()

    def serving(status: int) -> Packed:
        direct = virtual_service("v", {"directResponse": {"status": status}}, hosts=["a.test"])
        snapshot = snapshot_of(service_entry("a", "a.test", endpoints=[{"address": "127.0.0.1"}]), direct)
        return packed_configuration(configuration(snapshot, [("127.0.0.1", port)]))

    def status() -> int:
        try:
            with HttpClient(port) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                found: int = client.response().status
                return found
        except OSError:
            return 0

    scene = Scene(tmp_path)
    scene.server.offer(serving(418))
    scene.server.start()
    child = Child(find_envoy(), tmp_path, bootstrap(Workload(), sockets), workers=1, drain=1, log_level="error")
    child.begin()
    try:
        assert eventually(lambda: status() == 418)
        scene.server.cut()
        assert status() == 418
        scene.server.offer(serving(419))
        assert eventually(lambda: status() == 419)
        assert scene.rejections == []
    finally:
        child.end(5)
        scene.server.close()
