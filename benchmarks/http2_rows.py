"""HTTP/2 with prior knowledge: many calls on one connection, through the mesh and by httpx (on h2)."""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import httpx

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, requests_per_second
from benchmarks.processes import backend
from meshlib.clock import SystemClock
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.loop import AsyncioUpstream
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target

HEADERS = [
    (b"Host", b"reviews:9080"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"User-Agent", b"python-httpx/0.28.1"),
]
URL = "http://reviews:9080/reviews/0"
IN_FLIGHT = 32


def http2_calls(quick: bool) -> list[Row]:
    """Requests a second with 32 in flight, on asyncio, and from 8 threads."""
    if importlib.util.find_spec("ngh2") is None:
        return [Row("HTTP/2", 0.0, "", details="not measured: its backend needs ngh2")]
    total = 1600 if quick else 8000

    async def on_loop(port: int, mesh: meshlib.Mesh) -> tuple[float, float]:
        async with httpx.AsyncClient(http1=False, http2=True) as bare, mesh.async_client() as meshed:
            slow, fast = [], []
            for _ in range(3):
                slow.append(
                    await requests_per_second(lambda: bare.get(f"http://127.0.0.1:{port}/"), total // 4, IN_FLIGHT)
                )
                fast.append(await requests_per_second(lambda: meshed.get(URL), total, IN_FLIGHT))
            return statistics.median(slow), statistics.median(fast)

    async def attempts(port: int) -> float:
        """Without httpx and without policy, which cost the same over HTTP/1.1: what the upstream itself does."""
        loop = asyncio.get_running_loop()
        upstream = AsyncioUpstream(loop, Names(SystemClock()))
        target = Target("127.0.0.1", port, http2=True)

        async def attempt() -> None:
            outcome = await upstream.send(Attempt(b"GET", b"/", HEADERS, None, target, 5.0, loop.time() + 5.0))
            if outcome.failure is not None:
                raise RuntimeError(outcome.detail)
            if outcome.whole is None:
                async for _ in outcome.body:
                    pass

        measured = [await requests_per_second(attempt, total, IN_FLIGHT) for _ in range(3)]
        upstream.close()
        return statistics.median(measured)

    def from_threads(mesh: meshlib.Mesh) -> float:
        with mesh.client() as client, ThreadPoolExecutor(8) as pool:

            def work(calls: int) -> None:
                for _ in range(calls):
                    client.get(URL).raise_for_status()

            work(50)
            began = perf_counter()
            list(pool.map(work, [total // 8] * 8))
            return total / (perf_counter() - began)

    with (
        backend("benchmarks.http2_backend") as (port, _),
        meshlib.Mesh.from_resources(synthetic.reviews(port, protocol="http2")) as mesh,
    ):
        bare, meshed = asyncio.run(on_loop(port, mesh))
        alone = asyncio.run(attempts(port))
        threads = statistics.median(from_threads(mesh) for _ in range(3))
    return [
        Row(
            "HTTP/2 at 32 in flight, requests/s, mesh / httpx",
            meshed / bare,
            "x",
            lower_is_better=False,
            details=f"{meshed:.0f}/s against {bare:.0f}/s",
            extra={"mesh": meshed, "httpx": bare},
        ),
        Row(
            "HTTP/2 at 32 in flight, attempts/s of the upstream alone",
            alone,
            "/s",
            lower_is_better=False,
            extra={"mesh": alone},
        ),
        Row("HTTP/2 from 8 threads, requests/s", threads, "/s", lower_is_better=False, extra={"mesh": threads}),
    ]
