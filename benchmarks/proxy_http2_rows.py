"""HTTP/2 and gRPC in plain text through the proxies, HTTP/2 on both sides: h2load, and nghttpd behind them.

The path is another one for each of a thousand requests; h2load can vary nothing else.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import synthetic
from benchmarks.measure import Row
from benchmarks.proxy_backends import BODY, connections_to, nghttpd
from benchmarks.proxy_envoy import Scene, outbound
from benchmarks.proxy_load import Load, h2load
from benchmarks.proxy_processes import NotMeasured, Proxy, base_tree, envoy_proxy, meshlib_proxy, on_the_other_core
from benchmarks.proxy_rounds import Figure, Taken, not_measured, rows, take_turns

CONNECTIONS, STREAMS, PATHS = 8, 8, 1000
MOST_CONNECTIONS = 64
"""New connections to the backends that a round may make; 8 callers need no more than one each to each of four."""
GRPC_FIELDS = ("content-type: application/grpc", "te: trailers", "user-agent: grpc-python/1.85.3")


def _calls(taken: Taken) -> float:
    return 1e6 / taken.cpu


@dataclass(frozen=True)
class Kind:
    """What is called. ``resources``: by the port of the backends."""

    figure: Figure
    path: str
    fields: tuple[str, ...]
    message: bytes | None
    resources: Callable[[int], list[dict[str, Any]]]
    scene: Scene


_NAME = f"{CONNECTIONS} connections of {STREAMS} streams, calls a second of CPU"
KINDS = (
    Kind(
        Figure(f"HTTP/2, {_NAME}", _calls, "calls", 1.0, 1.25, lower_is_better=False),
        "/index",
        (),
        None,
        lambda port: synthetic.reviews(port, "http2"),
        Scene(http2=True),
    ),
    Kind(
        Figure(f"gRPC, {_NAME}", _calls, "calls", 1.0, 1.25, lower_is_better=False),
        "/shop.Catalog/GetItem",
        GRPC_FIELDS,
        b"\0\0\0\0\x40" + BODY.encode(),
        synthetic.grpc_reviews,
        Scene(http2=True, retry_on="unavailable"),
    ),
)


def http2(quick: bool) -> list[Row]:
    """Both kinds."""
    made = []
    for kind in KINDS:
        try:
            with on_the_other_core(), measured(kind) as (port, proxies):
                made += _measure(kind, port, proxies, quick)
        except NotMeasured as why:
            made.append(not_measured(kind.figure.name, why))
    return made


@contextlib.contextmanager
def measured(kind: Kind) -> Iterator[tuple[int, list[Proxy]]]:
    """The port of the backends, and the proxies in front of them."""
    with tempfile.TemporaryDirectory(prefix="meshlib-proxy-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        backend = stack.enter_context(nghttpd())
        resources = kind.resources(backend)
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: outbound(port, backend, kind.scene))),
            stack.enter_context(meshlib_proxy(folder, resources)),
        ]
        if (tree := base_tree()) is not None:
            proxies.append(stack.enter_context(meshlib_proxy(folder, resources, tree=tree)))
        yield backend, proxies


def _measure(kind: Kind, backend: int, proxies: list[Proxy], quick: bool) -> list[Row]:
    # many short ones: the machine is another one from second to second
    rounds, calls = (3, 2_000) if quick else (25, 6_000)
    with tempfile.TemporaryDirectory(prefix="meshlib-h2load-") as name:
        paths, message = Path(name) / "paths", Path(name) / "message"
        body = None
        if kind.message is not None:
            message.write_bytes(kind.message)
            body = message

        def once(proxy: Proxy, number: int) -> Load:
            paths.write_text("".join(f"{kind.path}?call={number}-{each}\n" for each in range(PATHS)))
            before = connections_to(backend)
            try:
                load = h2load(proxy.port, calls, CONNECTIONS, STREAMS, paths, kind.fields, body)
            except NotMeasured as why:
                raise NotMeasured(f"{proxy.name}: {why}") from why
            new = len(connections_to(backend) - before)
            if new > MOST_CONNECTIONS:
                raise NotMeasured(f"{proxy.name}: connections to the backend are not reused: {new} for {calls} calls")
            return load

        return rows([kind.figure], take_turns(proxies, rounds, once))
