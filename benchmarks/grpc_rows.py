"""Figures of gRPC: the mesh's channel and grpcio's own ``xds:///`` against a bare grpcio channel."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Cost, Row, best_median_us, cost_of, cost_of_async, median_us, percentile_us
from benchmarks.processes import backend


def grpc_calls(quick: bool) -> list[Row]:
    """Unary latency and streaming throughput, sync and aio; all ways in turn, in one client process a runtime.

    The mesh and ``xds:///`` have the same policies (``xds_resources``); the server is a process of its own.
    """
    if importlib.util.find_spec("grpc") is None:
        return [Row("gRPC", 0.0, "", details="not measured: grpcio is not installed")]
    from benchmarks.grpc_calls import CHATTED, STREAMED, plan
    from tests.support.ads_server import AdsServer, bootstrap_environment

    rows: list[Row] = []
    with backend("benchmarks.grpc_backend") as (port, _), AdsServer(xds_resources(port)) as ads:
        for runtime, name in (("sync", "grpcio"), ("aio", "grpc.aio")):
            samples = client_samples(runtime, port, bootstrap_environment(ads.port), quick=quick)
            rows += _latency(
                f"{name} unary p50", samples["unary"], samples["json.loads"]["us"], plan(quick)["unary"][0]
            )
            rows += _throughput(f"{name} server streaming, messages/s", samples["server streaming"], STREAMED)
            rows += _throughput(f"{name} bidirectional, messages/s", samples["bidirectional"], CHATTED)
    return rows


def client_samples(runtime: str, port: int, environment: dict[str, str], *, quick: bool) -> dict[str, Any]:
    """Run ``benchmarks.grpc_calls``. Raises RuntimeError when it fails."""
    command = [sys.executable, "-m", "benchmarks.grpc_calls", runtime, str(port), *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} failed:\n{done.stderr[-3000:]}")
    samples: dict[str, Any] = json.loads(done.stdout)
    return samples


def grpc_cost(quick: bool) -> list[Row]:
    """All that the mesh does in a call, without grpcio: its own channel over channels that answer at once."""
    if importlib.util.find_spec("grpc") is None:
        return []  # said by ``grpc_calls``
    from benchmarks.grpc_backend import MESSAGE, UNARY
    from meshlib.transport.grpcio.client import connect

    calls = 2_000 if quick else 20_000
    with (
        mock.patch.object(connect, "make_channel", AnsweringChannel),
        meshlib.Mesh.from_resources(synthetic.grpc_reviews(1), seed=1) as mesh,
    ):
        call = mesh.grpc_channel("reviews:9080").unary_unary(UNARY)
        assert call(MESSAGE) == b"answer"
        blocking = cost_of(lambda: call(MESSAGE), calls)

        async def on_loop() -> Cost:
            call = mesh.aio_grpc_channel("reviews:9080").unary_unary(UNARY)
            assert await call(MESSAGE) == b"answer"
            return await cost_of_async(lambda: call(MESSAGE), calls)

        aio = asyncio.run(on_loop())
        name, way = "policy cost of one gRPC call", "mesh.grpc_channel, unary"
        return [
            Row(name, blocking.us, "us", 12.0, details=way, json=blocking.json),
            Row(f"{name}, aio", aio.us, "us", details="mesh.aio_grpc_channel, unary", json=aio.json),
        ]


class AnsweringChannel:
    """What the mesh needs of a grpcio channel for unary calls, blocking or awaited."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def unary_unary(self, *_: Any, **__: Any) -> AnsweringCalls:
        return AnsweringCalls()

    def close(self) -> None:
        pass


class AnsweringCalls:
    """A multicallable."""

    def with_call(self, *_: Any) -> tuple[bytes, AnsweredCall]:
        return b"answer", ANSWERED

    def __call__(self, *_: Any, **keywords: Any) -> Any:
        return ANSWERED if keywords else b"answer"  # asyncio's arguments have names


class AnsweredCall:
    """A call that is over."""

    def initial_metadata(self) -> tuple[()]:
        return ()

    def __await__(self) -> Iterator[Any]:
        return b"answer"
        yield


ANSWERED = AnsweredCall()


def _latency(name: str, samples: dict[str, list[float]], unit: list[float], rounds: int) -> list[Row]:
    p50 = {way: median_us(taken) for way, taken in samples.items()}
    p99 = {way: percentile_us(taken, 99) for way, taken in samples.items()}
    rows = []
    for way, label, target in (("mesh", "mesh channel", 1.05), ("xds", "xds:///", None)):
        details = f"p50 {p50[way]:.0f} us against {p50['bare']:.0f} us; p99 {p99[way]:.0f} / {p99['bare']:.0f}"
        extra = {"bare_us": p50["bare"], f"{way}_us": p50[way]}
        units = best_median_us(samples[way], rounds) / unit[0]
        rows.append(Row(f"{name}, {label} / bare", p50[way] / p50["bare"], "x", target, True, details, extra, units))
    return rows


def _throughput(name: str, samples: dict[str, list[float]], messages: int) -> list[Row]:
    rate = {way: messages / median_us(taken) * 1e6 for way, taken in samples.items()}
    rows = []
    for way, label, target in (("mesh", "mesh channel", 0.95), ("xds", "xds:///", None)):
        details = f"{rate[way]:.0f}/s against {rate['bare']:.0f}/s"
        extra = {"bare_per_s": rate["bare"], f"{way}_per_s": rate[way]}
        row = Row(f"{name}, {label} / bare", rate[way] / rate["bare"], "x", target, False, details, extra)
        rows.append(row)
    return rows


def xds_resources(port: int) -> list[dict[str, Any]]:
    """``synthetic.grpc_reviews`` in the words of xDS: header match, weights, timeout, retries, outlier detection, maximum
    of requests. gRPC knows outlier detection by failure percentage, not by consecutive failures; and the timeout is long,
    because grpcio's is seconds off on a machine that has been up for long (it counts the processor's cycles)."""
    from tests.support.ads_server import cluster, listener, route

    guards = {
        "circuit_breakers": {"thresholds": [{"max_requests": 1000}]},
        "outlier_detection": {"failure_percentage_threshold": 50, "enforcing_failure_percentage": 100},
    }
    return [
        *(
            resource
            for version, addresses in synthetic.ADDRESSES.items()
            for resource in cluster(version, [(address, port) for address in addresses], **guards)
        ),
        *listener(
            "reviews",
            [
                route({"v2": 1}, headers=[("end-user", "exact", "jason")]),
                route(
                    {"v1": 90, "v2": 10},
                    retry={"retry_on": "unavailable", "num_retries": 2},
                    max_stream_duration=600,
                ),
            ],
        ),
    ]
