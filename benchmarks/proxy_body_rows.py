"""Long bodies through the proxies: CPU of 300 MB both ways, and what a caller that reads slowly makes them keep."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import synthetic
from benchmarks.free_ports import free_port
from benchmarks.measure import Row
from benchmarks.proxy_body_backend import MEGABYTE, drain, length_of, read_head
from benchmarks.proxy_envoy import Scene, outbound
from benchmarks.proxy_load import AUTHORITY, Load
from benchmarks.proxy_processes import (
    ENVOY,
    MESHLIB,
    NotMeasured,
    Proxy,
    base_tree,
    cores,
    envoy_proxy,
    meshlib_proxy,
    on_the_other_core,
    running,
)
from benchmarks.proxy_rounds import Figure, not_measured, rows, take_turns

BODY, SLOW_BODY = 300, 1000
"""MB."""
GROWTH = 1.0
"""MB that a slow reader may make a proxy keep."""
DOWN = Figure(f"CPU of a response of {BODY} MB", lambda taken: taken.cpu / 1000, "ms", 1.2)
UP = Figure(f"CPU of a request of {BODY} MB", lambda taken: taken.cpu / 1000, "ms", 1.2)
# the rule without a timeout: a body may take as long as it takes
_HEAD = f"Host: {AUTHORITY}\r\nend-user: jason\r\n"
SECONDS = 60.0


def bodies(quick: bool) -> list[Row]:
    """CPU of long bodies, and memory with a slow reader."""
    try:
        with on_the_other_core(), measured() as proxies:
            rounds = 3 if quick else 7
            made = []
            for figure, once in ((DOWN, _download), (UP, _upload)):
                try:
                    made += rows([figure], take_turns(proxies, rounds, lambda proxy, _, once=once: once(proxy)))
                except (NotMeasured, OSError) as why:
                    made.append(not_measured(figure.name, why))
            return [*made, slow_reader(proxies)]
    except NotMeasured as why:
        return [not_measured("long bodies", why)]


@contextlib.contextmanager
def measured() -> Iterator[list[Proxy]]:
    """The proxies, in front of a backend of long bodies."""
    with tempfile.TemporaryDirectory(prefix="meshlib-proxy-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        backend = free_port()
        command = [sys.executable, "-m", "benchmarks.proxy_body_backend", str(backend)]
        stack.enter_context(running(command, ("127.0.0.1", backend), cores()[1], folder / "backend.log"))
        resources = synthetic.reviews(backend)
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: outbound(port, backend, Scene()))),
            stack.enter_context(meshlib_proxy(folder, resources)),
        ]
        if (tree := base_tree()) is not None:
            proxies.append(stack.enter_context(meshlib_proxy(folder, resources, tree=tree)))
        yield proxies


def _connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), SECONDS)


def _begun(connection: socket.socket, megabytes: int) -> int:
    """Bytes of the body that are still to be read. NotMeasured: it is no response of that length."""
    connection.sendall(f"GET /files/{megabytes} HTTP/1.1\r\n{_HEAD}\r\n".encode())
    head, rest = read_head(connection)
    _check(head)
    length = length_of(head)
    if length != megabytes * MEGABYTE:
        raise NotMeasured(f"a response of {length} bytes, of {megabytes} MB")
    return length - len(rest)


def _check(head: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 200 "):
        raise NotMeasured(f"not served: {head[:80]!r}")


def _download(proxy: Proxy) -> Load:
    with _connect(proxy) as connection:
        drain(connection, _begun(connection, BODY), memoryview(bytearray(MEGABYTE)))
    return Load(1, 1.0)


def _upload(proxy: Proxy) -> Load:
    length = BODY * MEGABYTE
    with _connect(proxy) as connection, tempfile.TemporaryFile() as zeros:
        zeros.truncate(length)
        connection.sendall(f"POST /reviews/0 HTTP/1.1\r\n{_HEAD}content-length: {length}\r\n\r\n".encode())
        connection.sendfile(zeros)
        _check(read_head(connection)[0])
    return Load(1, 1.0)


def slow_reader(proxies: list[Proxy]) -> Row:
    """A caller that reads a tenth, stops, reads another: the most that the proxy kept meanwhile, over what it kept before."""
    name = f"a slow reader of {SLOW_BODY} MB, growth of RSS"
    try:
        grown = {proxy.name: _growth(proxy) for proxy in proxies}
    except (NotMeasured, OSError) as why:
        return not_measured(name, why)
    details = f"MB; Envoy {grown[ENVOY]:.2f}"
    return Row(f"proxy, {name}, {MESHLIB}", grown[MESHLIB], "MB", GROWTH, details=details, extra=grown)


def _growth(proxy: Proxy) -> float:
    buffer = memoryview(bytearray(MEGABYTE))
    with _connect(proxy) as connection:  # what the first long body needs once
        drain(connection, _begun(connection, 10), buffer)
    before = most = proxy.memory()
    with _connect(proxy) as connection:
        left = _begun(connection, SLOW_BODY)
        piece = left // 10
        while left > 0:
            time.sleep(0.3)  # not read from: buffers fill
            most = max(most, proxy.memory())
            drain(connection, min(piece, left), buffer)
            left -= min(piece, left)
    return most - before
