"""Each way to call over gRPC, as a process that is asked for rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import grpc
import pytest

from meshlib.bench import grpc_client, http_client, plan
from meshlib.bench.grpc_backend import UNARY
from meshlib.bench.measuring import Asked
from meshlib.bench.processes import python
from meshlib.bench.scene import Scene, Settings, opened
from meshlib.bench.web_backend import ALL_ADDRESSES
from tests.support.eventually import eventually


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mtls"])
def made(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with opened(Settings(tls=request.param, protocol="grpc")) as scene:
        yield scene


@pytest.mark.parametrize("world", ["sync", "asyncio"])
@pytest.mark.parametrize("way", [http_client.BARE, grpc_client.SPREAD, http_client.MESH])
def test_a_round_tells_its_calls_and_what_they_took(made: Scene, way: str, world: str) -> None:
    port = made.tls if made.settings.tls else made.port
    spec = {
        "way": way,
        "world": world,
        "target": f"127.0.0.1:{port}",
        "resources": str(made.resources),
        "certificates": str(made.certificates) if made.settings.tls else None,
    }
    client = made.start("client", python("meshlib.bench.grpc_client", json.dumps(spec)), talks=True)
    assert client.reply(60) == {"ready": True}
    found = client.ask(asdict(Asked(4, 1024, 0.2)), 60)
    assert found["calls"] == sum(count for _, count in found["buckets"]) > 0
    assert found["cpu"] > 0
    assert found["wall"] >= 0.2
    assert found["ms"].keys() == {"p50", "p90", "p99", "p99.9"}


def test_calls_that_fail_are_said_and_the_next_round_is_another(made: Scene) -> None:
    spec = {"way": http_client.BARE, "world": "sync", "target": "127.0.0.1:1"}
    client = made.start("client", python("meshlib.bench.grpc_client", json.dumps(spec)), talks=True)
    client.reply(60)
    for _ in range(2):
        assert "UNAVAILABLE" in client.ask(asdict(Asked(1, 0, 0.1)), 60)["failed"]


def test_the_plan_knows_the_ways() -> None:
    assert {way.client for way in plan.GRPC_WAYS} == {http_client.BARE, grpc_client.SPREAD, http_client.MESH}


def test_a_bare_channel_has_one_connection_and_one_to_each_endpoint_as_many_as_the_mesh() -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    _, service, method = UNARY.split("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda _, context: context.peer().encode())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port(f"{ALL_ADDRESSES[0]}:0")
    for address in ALL_ADDRESSES[1:]:
        server.add_insecure_port(f"{address}:{port}")
    server.start()
    try:
        for way, most in ((http_client.BARE, 1), (grpc_client.SPREAD, len(ALL_ADDRESSES))):
            with grpc_client._channel(grpc, {"way": way, "target": f"127.0.0.1:{port}"}) as channel:
                send = channel.unary_unary(UNARY)
                seen: set[bytes] = set()

                def all_seen(send: Any = send, seen: set[bytes] = seen, most: int = most) -> bool:
                    seen.add(send(b"", timeout=20, wait_for_ready=True))
                    return len(seen) == most

                assert eventually(all_seen)
                for _ in range(8):
                    all_seen()
                assert len(seen) == most
    finally:
        server.stop(None)
