"""HTTP/1.1 through ``meshlib proxy`` and through a real Envoy with the same resources, one worker each on one core."""

from __future__ import annotations

import contextlib
import json
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import synthetic
from benchmarks.measure import Row
from benchmarks.proxy_backends import BODY, Nginx, nginx
from benchmarks.proxy_envoy import Scene, outbound
from benchmarks.proxy_load import AUTHORITY, FEW, MANY, TARGETS, Load, wrk
from benchmarks.proxy_processes import NotMeasured, Proxy, base_tree, envoy_proxy, meshlib_proxy, on_the_other_core
from benchmarks.proxy_rounds import Figure, not_measured, rows, take_turns

MOST_CONNECTIONS = 4
"""New connections to the backend that a round may make, for each of its callers: one to each endpoint. A proxy that connects
for each request makes hundreds."""


def _per_core(shape: str, connections: int) -> Figure:
    name = f"HTTP/1.1, {shape}, {connections} connections, requests a second of CPU"
    return Figure(name, lambda taken: 1e6 / taken.cpu, "requests", 1.4, 1.8, lower_is_better=False)


def _by_the_clock(shape: str, connections: int) -> Figure:
    name = f"HTTP/1.1, {shape}, {connections} connections, requests/s by the clock"
    return Figure(name, lambda taken: taken.load.per_second, "requests/s", None, lower_is_better=False)


def _cpu(shape: str) -> Figure:
    return Figure(f"HTTP/1.1, {shape}, CPU a request", lambda taken: taken.cpu, "us", 0.70, 0.55)


def _p99(shape: str, connections: int, must: float, stretch: float | None) -> Figure:
    name = f"HTTP/1.1, {shape}, p99 at {connections} connections"
    return Figure(name, lambda taken: taken.load.p99, "us", must, stretch)


FIGURES: dict[tuple[str, int], tuple[Figure, ...]] = {
    (FEW, 64): (_per_core(FEW, 64), _by_the_clock(FEW, 64), _cpu(FEW), _p99(FEW, 64, 0.9, 0.6)),
    (MANY, 64): (_per_core(MANY, 64), _by_the_clock(MANY, 64), _cpu(MANY), _p99(MANY, 64, 0.9, 0.6)),
    (FEW, 1000): (
        _per_core(FEW, 1000),
        _p99(FEW, 1000, 1.2, None),
        Figure("HTTP/1.1, RSS at 1,000 connections", lambda taken: taken.memory, "MB", 0.65),
    ),
}


def http1(quick: bool) -> list[Row]:
    """wrk, nginx, and the proxies in turn."""
    try:
        with on_the_other_core(), measured() as (backend, proxies):
            return [each for scene in FIGURES for each in _scene(*scene, backend, proxies, quick)]
    except NotMeasured as why:
        return [not_measured("HTTP/1.1", why)]


@contextlib.contextmanager
def measured() -> Iterator[tuple[Nginx, list[Proxy]]]:
    """A backend and the proxies in front of it, all seen to forward."""
    with tempfile.TemporaryDirectory(prefix="meshlib-proxy-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        backend = stack.enter_context(nginx())
        resources = synthetic.reviews(backend.port)
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: outbound(port, backend.port, Scene()))),
            stack.enter_context(meshlib_proxy(folder, resources)),
        ]
        if (tree := base_tree()) is not None:
            proxies.append(stack.enter_context(meshlib_proxy(folder, resources, tree=tree)))
        for proxy in proxies:
            see_forwarding(proxy)
        yield backend, proxies


def see_forwarding(proxy: Proxy) -> None:
    """Raises NotMeasured: a request through it is not responded to by the backend."""
    for target in TARGETS.values():
        request = urllib.request.Request(f"http://127.0.0.1:{proxy.port}{target}", headers={"Host": AUTHORITY})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                status, body = response.status, response.read()
        except OSError as error:
            raise NotMeasured(f"{proxy.name} does not forward a request: {error}") from error
        if (status, body) != (200, BODY.encode()):
            raise NotMeasured(f"{proxy.name} does not forward a request: {status} {json.dumps(body[:100].decode())}")


def _scene(shape: str, connections: int, backend: Nginx, proxies: list[Proxy], quick: bool) -> list[Row]:
    rounds, seconds = (3, 1) if quick else (9, 3)
    with tempfile.TemporaryDirectory(prefix="meshlib-wrk-") as folder:

        def once(proxy: Proxy, number: int) -> Load:
            return counted(
                backend, connections, lambda: wrk(Path(folder), proxy.port, shape, connections, seconds, number)
            )

        try:
            return rows(FIGURES[shape, connections], take_turns(proxies, rounds, once))
        except NotMeasured as why:
            return [not_measured(f"HTTP/1.1, {shape}, {connections} connections", why)]


def counted(backend: Nginx, connections: int, load: Callable[[], Load]) -> Load:
    """A load of which the backend saw each request, and few new connections.

    Raises:
        NotMeasured: the proxy responded itself, or connects anew
    """
    accepted, requests = backend.counts()
    done = load()
    now_accepted, now_requests = backend.counts()
    new, seen = now_accepted - accepted - 1, now_requests - requests - 1
    if seen < done.requests:
        raise NotMeasured(f"only {seen} of {done.requests} requests came to the backend")
    if new > MOST_CONNECTIONS * connections:
        raise NotMeasured(f"connections to the backend are not reused: {new} new ones for {seen} requests")
    return done
