"""A client's process: one way to call over HTTP, in rounds that the parent asks for.

``python -m meshlib.bench.http_client '{"way": "mesh", "world": "asyncio", "url": ..., ...}'``
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import selectors
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from meshlib.bench.measuring import Asked, AsyncCall, Call, serve_rounds, serve_rounds_on_a_loop

AUTHORITY = "reviews:9080"
TIMEOUT = 5.0
ATTEMPTS = 3
MOST = 200
"""Connections of each client; more than are ever in flight."""
KEPT_SECONDS = 3600.0
"""Idle connections: they have to outlast the turns of the others; httpx would close them after 5 s, aiohttp after 15."""

BARE, HTTPX2, AIOHTTP, BY_HAND, MESH = "httpx", "httpx2", "aiohttp", "by hand", "mesh"
GET = Callable[[str, dict[str, str], int], Awaitable[None]]
"""Of a URL, with these headers besides; how many bytes the response has to have."""


class Wrong(Exception):
    """A response that is not the one asked for: what is refused is fast, and not what is to be measured."""


def sized(status: int, length: int, asked: int, url: str) -> None:
    """Raises Wrong."""
    if status != 200 or length != asked:
        raise Wrong(f"{url} was responded to with {status} and {length} bytes, not with 200 and {asked} bytes")


_numbers = itertools.count()


def unlike_any(base: str, size: int) -> tuple[str, dict[str, str], int]:
    """What is asked next. No two requests are alike, nor are the responses' heads: whoever remembers what was seen before would
    shine with calls that repeat themselves, and with no user."""
    number = next(_numbers)
    return f"{base}/size/{size}?n={number}", {"x-request-id": f"{number:032x}"}, size


def tls_context(folder: str) -> ssl.SSLContext:
    """Of a client that has no mesh: its own certificate, and the root that the server's has to come from. No host name, as
    servers of a mesh have SPIFFE IDs."""
    context = ssl.create_default_context(cafile=str(Path(folder) / "bundle.pem"))
    context.check_hostname = False
    context.load_cert_chain(Path(folder) / "c-cert.pem", Path(folder) / "c-key.pem")
    return context


def metrics() -> Any:
    """``(counter, histogram)`` of calls by host and status: what people count by hand."""
    from prometheus_client import Counter, Histogram

    return (
        Counter("calls_total", "Calls", ["host", "status"]),
        Histogram("call_seconds", "Seconds of calls", ["host"]),
    )


def mesh_of(spec: dict[str, Any]) -> Any:
    """A mesh of the scene's resources, with an identity under mTLS, and spans where it is
    traced."""
    import meshlib

    options: dict[str, Any] = {}
    if spec.get("certificates"):
        folder = Path(spec["certificates"])
        options["identity"] = meshlib.Identity.from_files(
            folder / "c-cert.pem", folder / "c-key.pem", folder / "bundle.pem"
        )
    if spec.get("collector"):
        from meshlib import otel

        options["tracer_provider"] = otel.tracer_provider(spec["collector"], service="client")
    resources = json.loads(Path(spec["resources"]).read_text())
    return meshlib.Mesh.from_resources(resources, **options)


def limits_of(module: Any) -> Any:
    """Of every client, bare or not; ``module``: httpx or httpx2."""
    return module.Limits(max_connections=MOST, max_keepalive_connections=MOST, keepalive_expiry=KEPT_SECONDS)


def mesh_limits() -> Any:
    """The same."""
    import httpx

    return limits_of(httpx)


# -- asyncio -------------------------------------------------------------------------------------------------------------


async def opened(spec: dict[str, Any], stack: contextlib.AsyncExitStack) -> GET:
    """``await get(url)`` of the way."""
    way, certificates = spec["way"], spec.get("certificates")
    if way == AIOHTTP:
        return await _aiohttp(certificates, stack)
    if way == MESH:
        mesh = stack.enter_context(mesh_of(spec))
        client = await stack.enter_async_context(mesh.async_client(limits=mesh_limits()))
    else:
        module: Any = __import__("httpx2" if way == HTTPX2 else "httpx")
        client = module.AsyncClient(
            verify=tls_context(certificates) if certificates else False,
            headers={"host": AUTHORITY},
            limits=limits_of(module),
            timeout=TIMEOUT,
            trust_env=False,
        )
        await stack.enter_async_context(client)
    if way == BY_HAND:
        return _by_hand(client)

    async def get(url: str, headers: dict[str, str], size: int) -> None:
        response = await client.get(url, headers=headers)
        sized(response.status_code, len(response.content), size, url)

    return get


async def _aiohttp(certificates: str | None, stack: contextlib.AsyncExitStack) -> GET:
    import aiohttp

    connector = aiohttp.TCPConnector(
        limit=MOST, keepalive_timeout=KEPT_SECONDS, ssl=tls_context(certificates) if certificates else True
    )
    timeout = aiohttp.ClientTimeout(TIMEOUT)
    session = aiohttp.ClientSession(connector=connector, headers={"host": AUTHORITY}, timeout=timeout)
    await stack.enter_async_context(session)

    async def get(url: str, headers: dict[str, str], size: int) -> None:
        async with session.get(url, headers=headers) as response:
            sized(response.status, len(await response.read()), size, url)

    return get


def _by_hand(client: Any) -> GET:
    """Retries, a circuit breaker and metrics as their documentation shows them."""
    import time

    import httpx
    import pybreaker
    import tenacity

    calls, seconds = metrics()
    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)

    async def once(url: str, headers: dict[str, str]) -> httpx.Response:
        with breaker.calling():
            response: httpx.Response = await client.get(url, headers=headers)
            if response.status_code >= 500:
                response.raise_for_status()
            return response

    retried = tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.025, max=0.25),
        retry=tenacity.retry_if_exception_type((httpx.TransportError, httpx.HTTPStatusError)),
        reraise=True,
    )(once)

    async def get(url: str, headers: dict[str, str], size: int) -> None:
        began = time.perf_counter()
        response = await retried(url, headers)
        seconds.labels(AUTHORITY).observe(time.perf_counter() - began)
        calls.labels(AUTHORITY, str(response.status_code)).inc()
        sized(response.status_code, len(response.content), size, url)

    return get


async def _on_a_loop(spec: dict[str, Any]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        get = await opened(spec, stack)

        def calls_of(asked: Asked) -> AsyncCall:
            return lambda: get(*unlike_any(spec["url"], asked.body))

        await serve_rounds_on_a_loop(calls_of)


def run_on_a_loop(main: Callable[[], Any], *, exact: bool) -> None:
    """``exact``: on a loop whose timers are not whole milliseconds, as epoll's are, for open loops."""

    def loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.SelectSelector() if exact else None)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


# -- threads -------------------------------------------------------------------------------------------------------------


def opened_in_threads(spec: dict[str, Any], stack: contextlib.ExitStack) -> Callable[[str, dict[str, str], int], None]:
    """``get(url)`` of the way."""
    way, certificates = spec["way"], spec.get("certificates")
    if way == MESH:
        client = stack.enter_context(stack.enter_context(mesh_of(spec)).client(limits=mesh_limits()))
    else:
        module: Any = __import__("httpx2" if way == HTTPX2 else "httpx")
        client = module.Client(
            verify=tls_context(certificates) if certificates else False,
            headers={"host": AUTHORITY},
            limits=limits_of(module),
            timeout=TIMEOUT,
            trust_env=False,
        )
        stack.enter_context(client)
    if way == BY_HAND:
        return _by_hand_in_threads(client)

    def get(url: str, headers: dict[str, str], size: int) -> None:
        response = client.get(url, headers=headers)
        sized(response.status_code, len(response.content), size, url)

    return get


def _by_hand_in_threads(client: Any) -> Callable[[str, dict[str, str], int], None]:
    import time

    import httpx
    import pybreaker
    import tenacity

    calls, seconds = metrics()
    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.025, max=0.25),
        retry=tenacity.retry_if_exception_type((httpx.TransportError, httpx.HTTPStatusError)),
        reraise=True,
    )
    def once(url: str, headers: dict[str, str]) -> httpx.Response:
        with breaker.calling():
            response: httpx.Response = client.get(url, headers=headers)
            if response.status_code >= 500:
                response.raise_for_status()
            return response

    def get(url: str, headers: dict[str, str], size: int) -> None:
        began = time.perf_counter()
        response = once(url, headers)
        seconds.labels(AUTHORITY).observe(time.perf_counter() - began)
        calls.labels(AUTHORITY, str(response.status_code)).inc()
        sized(response.status_code, len(response.content), size, url)

    return get


def _in_threads(spec: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        get = opened_in_threads(spec, stack)

        def calls_of(asked: Asked) -> Call:
            return lambda: get(*unlike_any(spec["url"], asked.body))

        serve_rounds(calls_of)


def main(spec: dict[str, Any]) -> None:
    """Until standard input ends."""
    if spec["world"] == "asyncio":
        run_on_a_loop(lambda: _on_a_loop(spec), exact=bool(spec.get("exact")))
    else:
        _in_threads(spec)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
