"""Each way to call over HTTP: it calls, in threads and on asyncio, and what is not a good response is no figure."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import urllib.request
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from meshlib.bench import http_client
from meshlib.bench.http_client import AUTHORITY, Wrong, opened, opened_in_threads, sized, unlike_any
from meshlib.bench.scene import Scene, Settings
from meshlib.bench.scene import opened as opened_scene
from tests.support.eventually import eventually

WAYS = (http_client.BARE, http_client.HTTPX2, http_client.AIOHTTP, http_client.BY_HAND, http_client.MESH)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mtls"])
def made(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with opened_scene(Settings(tls=request.param)) as scene:
        yield scene


@pytest.fixture(params=WAYS)
def spec(request: pytest.FixtureRequest, made: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    way, secure = request.param, made.settings.tls
    if way in (http_client.HTTPX2, http_client.AIOHTTP) and importlib.util.find_spec(way) is None:
        pytest.skip(f"{way} is not installed: there is no such way here")
    monkeypatch.setattr(http_client, "metrics", _metrics)
    port = made.tls if secure else made.port
    return {
        "way": way,
        "url": f"http://{AUTHORITY}" if way == http_client.MESH else f"http{'s' if secure else ''}://127.0.0.1:{port}",
        "resources": str(made.resources),
        "certificates": str(made.certificates) if secure else None,
    }


def _metrics() -> Any:
    """In a registry of the test's own: prometheus_client has one a process."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    return (
        Counter("calls_total", "Calls", ["host", "status"], registry=registry),
        Histogram("call_seconds", "Seconds of calls", ["host"], registry=registry),
    )


def test_every_way_calls_on_asyncio(spec: dict[str, Any]) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            get = await opened(spec, stack)
            for size in (0, 1024):
                await get(*unlike_any(spec["url"], size))

    asyncio.run(main())


def test_every_way_calls_in_threads(spec: dict[str, Any]) -> None:
    if spec["way"] == http_client.AIOHTTP:
        pytest.skip("aiohttp has no blocking client")
    with contextlib.ExitStack() as stack:
        get = opened_in_threads(spec, stack)
        for size in (0, 1024):
            get(*unlike_any(spec["url"], size))


def test_idle_connections_outlast_the_turns_of_the_others() -> None:
    import httpx

    assert http_client.limits_of(httpx).keepalive_expiry == http_client.mesh_limits().keepalive_expiry == 3600


@pytest.mark.parametrize(("status", "length"), [(503, 1024), (200, 1023)])
def test_a_response_that_was_not_asked_for_is_no_figure(status: int, length: int) -> None:
    with pytest.raises(Wrong, match=f"was responded to with {status} and {length} bytes, not with 200 and 1024 bytes"):
        sized(status, length, 1024, "http://x/size/1024")


def test_a_mesh_that_is_traced_sends_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # ms, where 5 s are usual

    def came() -> int:
        """Requests that the collector has had, this one among them."""
        with urllib.request.urlopen(f"{made.collector_url}/", timeout=30) as asked:
            return int(asked.headers["X-Id"], 16)

    with opened_scene(Settings(tracing=True)) as made, contextlib.ExitStack() as stack:
        spec = {"way": http_client.MESH, "resources": str(made.resources), "collector": made.collector_url}
        before = came()
        opened_in_threads(spec, stack)(*unlike_any(f"http://{AUTHORITY}", 0))
        assert eventually(lambda looked=count(before + 1): came() > next(looked), seconds=60)


def test_no_request_is_like_another() -> None:
    (url, headers, size), (other, others, _) = unlike_any("http://x", 0), unlike_any("http://x", 0)
    assert url != other
    assert headers.keys() == others.keys()
    assert headers != others
    assert size == 0
