"""The trace headers that an upstream gets: the same callers through a real Envoy with Istio's tracers and through meshlib."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, require_envoy, running
from tests.differential.inbound_envoy import HeadEcho
from tests.support.mesh_config import mesh_config
from tests.support.resources import pod, service

pytestmark = pytest.mark.differential

TRACERS = "type.googleapis.com/envoy.config.trace.v3"
TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "05e3ac9a4f6e3b90"
SHORT = TRACE[16:]
Headers = Mapping[str, str]


def b3(trace: str = TRACE, span: str = SPAN, **more: str) -> dict[str, str]:
    return {"x-b3-traceid": trace, "x-b3-spanid": span, **{f"x-b3-{name}": value for name, value in more.items()}}


W3C: dict[str, Headers] = {
    "nothing": {},
    "sampled": {"traceparent": f"00-{TRACE}-{SPAN}-01"},
    "not sampled": {"traceparent": f"00-{TRACE}-{SPAN}-00"},
    "with state": {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1,b=2"},
    "state alone": {"tracestate": "a=1"},
    "no trace id": {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
    "no span id": {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
    "cut": {"traceparent": f"00-{TRACE}-{SPAN}"},
    "not hex": {"traceparent": f"00-{'x' * 32}-{SPAN}-01"},
    "version ff": {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
    "a later version": {"traceparent": f"01-{TRACE}-{SPAN}-01"},
    "upper case": {"traceparent": f"00-{TRACE.upper()}-{SPAN}-01"},
}
B3: dict[str, Headers] = {
    "nothing": {},
    "sampled": b3(sampled="1"),
    "not sampled": b3(sampled="0"),
    "undecided": b3(),
    "with a parent": b3(sampled="1", parentspanid=PARENT),
    "of 64 bits": b3(SHORT, sampled="1"),
    "debug": b3(flags="1"),
    "decision alone": {"x-b3-sampled": "1"},
    "no alone": {"x-b3-sampled": "0"},
    "not hex": b3("x" * 32, sampled="1"),
    "no span": {"x-b3-traceid": TRACE, "x-b3-sampled": "1"},
    "single": {"b3": f"{TRACE}-{SPAN}-1"},
    "single, not sampled": {"b3": f"{TRACE}-{SPAN}-0"},
    "single, with a parent": {"b3": f"{TRACE}-{SPAN}-1-{PARENT}"},
    "single, no alone": {"b3": "0"},
}


Context = tuple[str, str, str]
"""Trace, span and whether it is sampled; ids by what the caller has sent."""
LEFT: Context = ("left", "as", "it is")

RESTARTED = LEFT, ("new", "new", "1")
RESTARTED_UNSAMPLED = LEFT, ("new", "new", "0")
OVERRULED = ("TRACE", "new", "0"), ("TRACE", "new", "1")
KNOWN: dict[tuple[str, int, str], tuple[Context, Context]] = {
    # what is no context Envoy sends on, and its own spans are of no trace; W3C: the trace is begun anew
    **{
        ("opentelemetry", percent, case): told
        for percent, told in ((100, RESTARTED), (0, RESTARTED_UNSAMPLED))
        for case in ("no trace id", "no span id", "cut", "not hex")
    },
    **{("zipkin", percent, "not hex"): RESTARTED for percent in (100, 0)},
    # W3C: this version, and upper case, are not valid
    **{
        ("opentelemetry", percent, case): (("TRACE", "new", sampled), ("new", "new", sampled))
        for percent, sampled in ((100, "1"), (0, "0"))
        for case in ("version ff", "upper case")
    },
    # Istio: the percentage is of calls without a decision of the caller's
    **{("opentelemetry", 0, case): OVERRULED for case in ("sampled", "with state", "a later version")},
    ("zipkin", 0, "debug"): OVERRULED,
}
"""By tracer, percentage and case: what Envoy tells, and what is told here; docs/parity.md has them with their reasons."""


def contexts(sent: Headers, came: Headers) -> set[Context]:
    """What an upstream may read out of the headers, in whichever form: one context, where they do not contradict each other."""
    known = {TRACE: "TRACE", SHORT: "SHORT", "0" * 16 + SHORT: "SHORT", SPAN: "SPAN"}

    def of(trace: str, span: str, sampled: str) -> Context:
        return known.get(trace, "new"), known.get(span, "new"), sampled

    found: set[Context] = set()
    if value := came.get("traceparent"):
        if value == sent.get("traceparent"):
            found.add(LEFT)
        else:
            _, trace, span, flags = value.split("-")
            found.add(of(trace, span, str(int(flags, 16) & 1)))
    if "x-b3-spanid" in came:
        ids = came["x-b3-traceid"], came["x-b3-spanid"]
        left = ids == (sent.get("x-b3-traceid"), sent.get("x-b3-spanid"))
        found.add(LEFT if left else of(*ids, came["x-b3-sampled"]))
    if "b3" in came:
        trace, span, sampled = came["b3"].split("-")[:3]
        found.add(of(trace, span, sampled))
    return found


# -- a real Envoy


def tracer(kind: str) -> dict[str, Any]:
    if kind == "zipkin":
        return {
            "name": "envoy.tracers.zipkin",
            "typed_config": {
                "@type": f"{TRACERS}.ZipkinConfig",
                "collector_cluster": "nobody",
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": True,
                "shared_span_context": False,
            },
        }
    service = {"envoy_grpc": {"cluster_name": "nobody"}, "timeout": "1s"}
    return {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {"@type": f"{TRACERS}.OpenTelemetryConfig", "grpc_service": service, "service_name": "web"},
    }


@contextlib.contextmanager
def envoy(kind: str, percent: float, upstream: int) -> Iterator[httpx.Client]:
    listen, admin = free_port(), free_port()
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "tracing": {
            "provider": tracer(kind),
            "client_sampling": {"value": 100},
            "overall_sampling": {"value": 100},
            "random_sampling": {"value": percent},
            "spawn_upstream_span": True,
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}
            ]
        },
    }
    listener = {
        "traffic_direction": "OUTBOUND",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [cluster("c", [upstream]), cluster("nobody", [free_port()])],
        },
    }
    with running(config, admin), httpx.Client(base_url=f"http://127.0.0.1:{listen}", timeout=20) as client:
        yield client


# -- ours


@contextlib.contextmanager
def ours(kind: str, percent: float, upstream: int) -> Iterator[httpx.Client]:
    settings = {"service": "collector.example", "port": 9411}
    telemetry = {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "spans", "namespace": "istio-system"},
        "spec": {"tracing": [{"providers": [{"name": "p"}], "randomSamplingPercentage": percent}]},
    }
    resources = [
        mesh_config(extensionProviders=[{"name": "p", kind: settings}]),
        telemetry,
        service("reviews"),
        pod("reviews", "v1", upstream),
    ]
    mesh = meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), tracer_provider=TracerProvider())
    with mesh, mesh.client(base_url="http://reviews:9080", timeout=20) as client:
        yield client


def through(client: httpx.Client, headers: Headers) -> dict[str, str]:
    head = client.get("/", headers=dict(headers)).text
    lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
    return {name.lower(): value for name, _, value in lines}


@pytest.mark.parametrize("percent", [100, 0])
@pytest.mark.parametrize(("kind", "cases"), [("opentelemetry", W3C), ("zipkin", B3)], ids=["W3C", "B3"])
def test_what_an_upstream_is_told_of_the_trace(kind: str, cases: Mapping[str, Headers], percent: int) -> None:
    require_envoy()
    with HeadEcho() as echo, envoy(kind, percent, echo.port) as theirs, ours(kind, percent, echo.port) as mine:
        came = {name: (through(theirs, sent), through(mine, sent)) for name, sent in cases.items()}
    expected, found = {}, {}
    for name, sent in cases.items():
        their_head, our_head = came[name]
        (expected[name],), (found[name],) = contexts(sent, their_head), contexts(sent, our_head)
        assert (our_head.get("tracestate") or "") == (their_head.get("tracestate") or ""), name
        assert ("x-request-id" in our_head, "x-request-id" in their_head) == (True, True)
    differing = {name: (expected[name], found[name]) for name in cases if expected[name] != found[name]}
    assert differing == {
        name: told for (tracer, share, name), told in KNOWN.items() if (tracer, share) == (kind, percent)
    }


def test_no_difference_is_known_of_a_case_that_is_not_there() -> None:
    assert {name for kind, _, name in KNOWN if kind == "zipkin"} <= set(B3)
    assert {name for kind, _, name in KNOWN if kind == "opentelemetry"} <= set(W3C)
