"""Figures of gRPC over mTLS: calls per second on kept connections, against plain text, with and without what is in between.

In flight, it is the best of many short rounds that counts, taken in turns: between two processes of three threads each, a busy
machine decides the median. That, and what both processes spend a call, is beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import meshlib
from benchmarks.certificates import DNS, SERVER, write_certificates
from benchmarks.measure import Row, interleaved, requests_per_second
from meshlib.bench.process_tree import cpu_of_process

TARGET, UNARY = "server.test:9080", "/bench.Echo/Unary"
IN_FLIGHT = 16
BOTH = "both splices"
SIZES = {"64 B": 64, "16 KiB": 16384}


def grpc_mtls(quick: bool) -> list[Row]:
    """The mesh's channel in plain text to grpcio's own port is 1; more is better."""
    if importlib.util.find_spec("grpc") is None:
        return []  # said by ``grpc_calls``
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, _backend(Path(folder)) as ports:
        with contextlib.ExitStack() as stack:
            ways = _ways(Path(folder), ports, stack, aio=False)
            for size, count in SIZES.items():
                rows += _rows(f"{size}, one at a time", _one_at_a_time(ways, b"x" * count, quick), None)
        with contextlib.ExitStack() as stack:
            rows += asyncio.run(_in_flight(Path(folder), ports, stack, quick))
    return rows


def _rows(what: str, seconds: dict[str, float], target: float | None) -> list[Row]:
    """``seconds``: a call, by way."""
    plain = seconds.pop("plain")
    return [
        Row(
            f"gRPC unary/s over mTLS / plain text, {what}, {way}",
            plain / taken,
            "x",
            target if way == BOTH else None,
            False,
            extra={"plain_us": plain * 1e6, "mtls_us": taken * 1e6},
        )
        for way, taken in seconds.items()
    ]


def _one_at_a_time(ways: dict[str, Any], message: bytes, quick: bool) -> dict[str, float]:
    rounds, calls = (2, 20) if quick else (40, 50)
    called = [_call(channel.unary_unary(UNARY), message) for channel in ways.values()]
    samples = interleaved(called, rounds, calls, 20)
    return {way: statistics.median(taken) for way, taken in zip(ways, samples, strict=True)}


async def _in_flight(folder: Path, ports: dict[str, int], stack: contextlib.ExitStack, quick: bool) -> list[Row]:
    rounds, calls = (2, 2 * IN_FLIGHT) if quick else (100, 4 * IN_FLIGHT)
    ways, server = _ways(folder, ports, stack, aio=True), ports["pid"]
    called = {way: _call(channel.unary_unary(UNARY), b"x" * 64) for way, channel in ways.items()}
    clock: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for call in called.values():
        await requests_per_second(call, calls, IN_FLIGHT)  # type: ignore[arg-type]
    for _ in range(rounds):
        for way, call in called.items():
            before = time.process_time() + cpu_of_process(server)
            clock[way].append(1 / await requests_per_second(call, calls, IN_FLIGHT))  # type: ignore[arg-type]
            cpu[way].append((time.process_time() + cpu_of_process(server) - before) / calls)
    for channel in ways.values():
        await channel.close()
    rows = _rows(f"64 B, {IN_FLIGHT} in flight", {way: min(each) for way, each in clock.items()}, 0.8)
    medians = {way: statistics.median(each) for way, each in clock.items()}
    spent = {way: statistics.median(each) * 1e6 for way, each in cpu.items()}
    for row, way in zip(rows, list(ways)[1:], strict=True):
        row.details = (
            f"by medians {medians['plain'] / medians[way]:.2f}; CPU of both processes {spent[way]:.0f} against "
            f"{spent['plain']:.0f} us a call"
        )
    return rows


def _call(method: Callable[..., object], message: bytes) -> Callable[[], object]:
    return lambda: method(message)


def _ways(folder: Path, ports: dict[str, int], stack: contextlib.ExitStack, *, aio: bool) -> dict[str, Any]:
    def channel(port: int, mode: str) -> Any:
        identity = meshlib.Identity.from_files(folder / "c-cert.pem", folder / "c-key.pem", folder / "bundle.pem")
        mesh = stack.enter_context(meshlib.Mesh.from_resources(_resources(port, mode), identity=identity))
        return mesh.aio_grpc_channel(TARGET) if aio else stack.enter_context(mesh.grpc_channel(TARGET))

    def bare(port: int) -> Any:
        made = _bare(folder, port, aio)
        return made if aio else stack.enter_context(made)

    return {
        "plain": channel(ports["plain"], "DISABLE"),
        BOTH: channel(ports["port"], "ISTIO_MUTUAL"),
        "the client's splice": channel(ports["direct"], "ISTIO_MUTUAL"),
        "the server's splice, bare client": bare(ports["port"]),
        "no splice, bare client": bare(ports["direct"]),
    }


def _bare(folder: Path, port: int, aio: bool) -> Any:
    import grpc

    read = [(folder / name).read_bytes() for name in ("bundle.pem", "c-key.pem", "c-cert.pem")]
    options = [("grpc.ssl_target_name_override", DNS)]
    module = grpc.aio if aio else grpc
    return module.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(*read), options)


def _resources(port: int, mode: str) -> list[dict[str, object]]:
    spec = {
        "hosts": ["server.test"],
        "ports": [{"number": 9080, "name": "grpc", "protocol": "GRPC"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"grpc": port}}],
        "subjectAltNames": [SERVER],
    }
    rule = {"host": "server.test", "trafficPolicy": {"tls": {"mode": mode}}}
    common = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "server", "namespace": "default"}}
    return [{**common, "kind": "ServiceEntry", "spec": spec}, {**common, "kind": "DestinationRule", "spec": rule}]


@contextlib.contextmanager
def _backend(folder: Path) -> Iterator[dict[str, int]]:
    """A server process with a certificate of an authority made for the run; the client's is beside it."""
    write_certificates(folder)
    command = [sys.executable, "-m", "benchmarks.grpc_mtls_backend", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
