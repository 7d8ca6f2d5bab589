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
from meshlib.envoy.ads_state import Rejection
from meshlib.envoy.messages import CLUSTER, LISTENER, discovery, packed
from tests.support.eventually import eventually

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
