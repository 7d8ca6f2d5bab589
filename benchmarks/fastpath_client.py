"""One client process of ``fastpath_rows``: reads what to measure from stdin, prints CPU microseconds a call by way and round.

All ways are measured in this process, in turn and in short rounds, so that what disturbs one disturbs aiohttp as well, whose
calls stand in each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import httpx

import meshlib
from benchmarks.web_backend import SIZES

IN_FLIGHT = 32
Call = Callable[[], Awaitable[object]]

SAME = "http://reviews:9080/same"
UNIQUE = "http://reviews:9080/unique"


async def cpu_us(call: Call, each: int, in_flight: int = IN_FLIGHT) -> float:
    """CPU of this process, all threads, a call; ``in_flight`` tasks make ``each`` of them."""

    async def work() -> None:
        for _ in range(each):
            await call()

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return (time.process_time() - began) / (each * in_flight) * 1e6


def aiohttp_calls(session: aiohttp.ClientSession, port: int) -> dict[str, Call]:
    """What all is told against, by what the response's head is like."""
    base, numbers = f"http://127.0.0.1:{port}", itertools.count()

    async def get(url: str) -> None:
        async with session.get(url) as response:
            await response.read()
            assert response.status == 200

    return {
        "aiohttp": lambda: get(f"{base}/same"),
        "aiohttp, unique heads": lambda: get(f"{base}/unique"),
        "aiohttp, unique URLs": lambda: get(f"{base}/unique?{next(numbers)}"),
    }


def transport_calls(transport: httpx.AsyncBaseTransport) -> dict[str, Call]:
    """The mesh's transport, driven as httpx's client drives it."""
    kept = httpx.Request("GET", SAME)

    async def send(request: httpx.Request) -> None:
        response = await transport.handle_async_request(request)
        await response.aread()
        assert response.status_code == 200

    return {
        "transport, reused Request": lambda: send(kept),
        "transport, fresh Request": lambda: send(httpx.Request("GET", SAME)),
        "transport, unique heads": lambda: send(httpx.Request("GET", UNIQUE)),
    }


def client_calls(client: httpx.AsyncClient) -> dict[str, Call]:
    """``mesh.async_client()``, as people use it."""
    numbers = itertools.count()

    async def get(url: str, headers: dict[str, str] | None = None) -> None:
        response = await client.get(url, headers=headers)
        assert response.status_code == 200

    return {
        "async_client, same URL": lambda: get(SAME),
        "async_client, headers per call": lambda: get(SAME, {"x-request-id": f"{next(numbers):032x}"}),
        "async_client, unique URLs and heads": lambda: get(f"{UNIQUE}?{next(numbers)}"),
    }


async def pyreqwest_calls(port: int, stack: contextlib.AsyncExitStack) -> dict[str, Call]:
    """A client written in Rust; nothing where it is not installed."""
    if importlib.util.find_spec("pyreqwest") is None:
        return {}
    from pyreqwest.client import ClientBuilder

    client = await stack.enter_async_context(ClientBuilder().build())

    async def get() -> None:
        response = await client.get(f"http://127.0.0.1:{port}/same").build().send()
        await response.bytes()
        assert response.status == 200

    return {"pyreqwest": get}


def body_calls(
    session: aiohttp.ClientSession, client: httpx.AsyncClient, upload: httpx.AsyncClient, ports: dict[str, int]
) -> dict[str, Call]:
    """Bodies of ``SIZES`` both ways, of aiohttp and of ``mesh.async_client()``."""
    calls: dict[str, Call] = {}

    async def aiohttp_body(method: str, url: str, data: bytes | None, size: int) -> None:
        async with session.request(method, url, data=data) as response:
            assert len(await response.read()) == size

    async def mesh_body(client: httpx.AsyncClient, method: str, url: str, data: bytes | None, size: int) -> None:
        response = await client.request(method, url, content=data)
        assert len(response.content) == size

    for size in SIZES:
        down = ("GET", f"/size/{size}", None, size)
        up = ("POST", "/", b"x" * size, 64)
        for name, port, through, (method, path, data, returned) in (
            (f"{size} bytes down", ports["web"], client, down),
            (f"{size} bytes up", ports["upload"], upload, up),
        ):
            base = f"http://127.0.0.1:{port}{path}"
            url = f"http://reviews:9080{path}"
            calls[f"aiohttp, {name}"] = lambda m=method, b=base, d=data, r=returned: aiohttp_body(m, b, d, r)  # type: ignore[misc]
            calls[f"async_client, {name}"] = lambda c=through, m=method, u=url, d=data, r=returned: mesh_body(  # type: ignore[misc]
                c, m, u, d, r
            )
    return calls


@contextlib.asynccontextmanager
async def all_calls(asked: dict[str, Any]) -> AsyncIterator[dict[str, Call]]:
    """Every way that is asked for."""
    ports: dict[str, int] = asked["ports"]
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)))
        mesh = stack.enter_context(meshlib.Mesh.from_resources(asked["web"]))
        client = await stack.enter_async_context(mesh.async_client())
        if asked["bodies"]:
            uploads = stack.enter_context(meshlib.Mesh.from_resources(asked["upload"]))
            upload = await stack.enter_async_context(uploads.async_client())
            yield body_calls(session, client, upload, ports)
        else:
            transport = await stack.enter_async_context(mesh.async_http_transport())
            yield {
                **aiohttp_calls(session, ports["web"]),
                **transport_calls(transport),
                **client_calls(client),
                **await pyreqwest_calls(ports["web"], stack),
            }


async def measure(asked: dict[str, Any]) -> dict[str, list[float]]:
    """CPU by way, one figure a round."""
    taken: dict[str, list[float]] = {}
    async with all_calls(asked) as calls:
        each = asked["each"]
        for call in calls.values():
            await cpu_us(call, each)
        for _ in range(asked["rounds"]):
            gc.collect()
            for name, call in calls.items():
                taken.setdefault(name, []).append(await cpu_us(call, each))
    return taken


def main() -> None:
    asked = json.loads(sys.stdin.read())
    if asked["loop"] == "uvloop":
        import uvloop

        found = uvloop.run(measure(asked))
    else:
        found = asyncio.run(measure(asked))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
