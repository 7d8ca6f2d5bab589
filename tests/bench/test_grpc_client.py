"""Each way to call over gRPC, as a process that is asked for rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from meshlib.bench import http_client
from meshlib.bench.measuring import Asked
from meshlib.bench.processes import python
from meshlib.bench.scene import Scene, Settings, opened


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mtls"])
def made(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with opened(Settings(tls=request.param, protocol="grpc")) as scene:
        yield scene


@pytest.mark.parametrize("world", ["sync", "asyncio"])
@pytest.mark.parametrize("way", [http_client.BARE, http_client.MESH])
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
