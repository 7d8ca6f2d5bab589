"""What a call leaves for the garbage collector: with it switched off, the objects that are in cycles nobody can reach any
more, and the memory that a call needs at its peak. A client without cycles never waits for a collection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import Callable, Iterator

import httpx

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row
from benchmarks.web_backend import web_backend

MESH_URL = "http://reviews:9080/same"


def unreachable(call: Callable[[], object], calls: int = 50, warm_up: int = 60) -> float:
    """Objects in unreachable cycles that a call leaves."""
    for _ in range(warm_up):
        call()
    with _collector_off():
        for _ in range(calls):
            call()
        return gc.collect() / calls


def peak_bytes(call: Callable[[], object], calls: int = 20) -> float:
    """Bytes that Python has allocated at the peak of a call over those before it, the least of some."""
    with _collector_off():
        tracemalloc.start()
        try:
            call()
            found = []
            for _ in range(calls):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                call()
                found.append(tracemalloc.get_traced_memory()[1] - before)
            return min(found)
        finally:
            tracemalloc.stop()


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def ways(port: int) -> Iterator[dict[str, Callable[[], object]]]:
    """A call of each client, to the backend at ``port``."""
    url = f"http://127.0.0.1:{port}/same"
    with contextlib.ExitStack() as stack, asyncio.Runner() as runner:
        mesh = stack.enter_context(meshlib.Mesh.from_resources(synthetic.reviews(port)))
        bare, meshed = stack.enter_context(httpx.Client()), stack.enter_context(mesh.client())
        own = stack.enter_context(httpx.Client(transport=mesh.http_transport()))

        async def clients() -> tuple[httpx.AsyncClient, httpx.AsyncClient, httpx.AsyncClient]:
            return (
                httpx.AsyncClient(),
                mesh.async_client(),
                httpx.AsyncClient(transport=mesh.async_http_transport()),
            )

        awaited_bare, awaited, awaited_own = runner.run(clients())
        transport, kept = mesh.http_transport(), httpx.Request("GET", MESH_URL)
        try:
            yield {
                "bare httpx.Client": lambda: bare.get(url),
                "mesh.client()": lambda: meshed.get(MESH_URL),
                "own httpx.Client": lambda: own.get(MESH_URL),
                "transport": lambda: transport.handle_request(kept).read(),
                "bare httpx.AsyncClient": lambda: runner.run(awaited_bare.get(url)),
                "mesh.async_client()": lambda: runner.run(awaited.get(MESH_URL)),
                "own httpx.AsyncClient": lambda: runner.run(awaited_own.get(MESH_URL)),
            }
        finally:
            for client in (awaited_bare, awaited, awaited_own):
                runner.run(client.aclose())


def garbage(quick: bool) -> list[Row]:
    """See above."""
    calls = 20 if quick else 200
    rows = []
    with web_backend() as (port, _), ways(port) as made:
        for name, call in made.items():
            target = None if "bare" in name else 0.0
            left, most = unreachable(call, calls), peak_bytes(call)
            rows.append(
                Row(
                    f"objects a call leaves in cycles, {name}",
                    left,
                    "",
                    target,
                    details=f"{most / 1024:.1f} KiB at the peak of a call",
                    extra={"peak_bytes": most},
                )
            )
    return rows
