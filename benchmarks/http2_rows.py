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
        Row("HTTP/2 from 8 threads, requests/s", threads, "/s", lower_is_better=False, extra={"mesh": threads}),
    ]
