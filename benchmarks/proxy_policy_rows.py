"""A sidecar's inbound side with what is decided and written down about a request: access log, authorization by 20 rules and
traces, for both. The application is nginx, the callers are wrk, the collector of spans is a process of this run.

Every request is sampled, for both: its traceparent says so. Both send their spans by OTLP over HTTP, Envoy five at a time and
meshlib 1,024, as they do where nobody says otherwise; where one sends spans of fewer than 98 % of its requests, nothing is
measured.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.free_ports import free_port
from benchmarks.measure import Row
from benchmarks.proxy_backends import Nginx, nginx
from benchmarks.proxy_collector import spans_at
from benchmarks.proxy_envoy import Scene, inbound, typed
from benchmarks.proxy_http1_rows import counted, see_forwarding
from benchmarks.proxy_load import MANY, Load, wrk
from benchmarks.proxy_processes import (
    NotMeasured,
    Proxy,
    cores,
    envoy_proxy,
    meshlib_proxy,
    on_the_other_core,
    running,
)
from benchmarks.proxy_rounds import Figure, not_measured, rows, take_turns

RULES, CONNECTIONS = 20, 64
WITH_TRACES = f"inbound with access log, {RULES} rules and all traces"
TRACES = "--otlp"
SENT_WITHIN = 15.0
"""Seconds after the last request in which its span is sent: both do so every 5 s."""
FEWEST = 0.98
"""Of its requests, a proxy's spans: with fewer it has done less than was asked."""


def _figures(name: str, asked: bool) -> tuple[Figure, ...]:
    """``asked``: whether these are the figures that were asked for."""
    rate, cpu, late = ((1.4, 1.8), (0.70, 0.55), (0.9, 0.6)) if asked else ((None, None),) * 3
    return (
        Figure(f"{name}, requests a second of CPU", lambda taken: 1e6 / taken.cpu, "requests", *rate, False),
        Figure(f"{name}, CPU a request", lambda taken: taken.cpu, "us", *cpu),
        Figure(f"{name}, p99 at {CONNECTIONS} connections", lambda taken: taken.load.p99, "us", *late),
    )


LOG_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% '
    '%DURATION% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)


def everything_on(quick: bool) -> list[Row]:
    """Both with the same on."""
    return _rows(WITH_TRACES, True, quick)


def _rows(name: str, traces: bool, quick: bool) -> list[Row]:
    rounds, seconds = (3, 1) if quick else (9, 3)
    try:
        with (
            on_the_other_core(),
            measured(traces) as (backend, proxies, logs, collector),
            tempfile.TemporaryDirectory(prefix="meshlib-wrk-") as folder,
            written(logs),
        ):
            asked = dict.fromkeys([proxy.name for proxy in proxies], 0)

            def once(proxy: Proxy, number: int) -> Load:
                load = lambda: wrk(Path(folder), proxy.port, MANY, CONNECTIONS, seconds, number)  # noqa: E731
                done = counted(backend, CONNECTIONS, load)
                asked[proxy.name] += done.requests
                return done

            taken = take_turns(proxies, rounds, once)
            if traces:
                see_spans(collector, asked)
            return rows(_figures(name, traces), taken)
    except NotMeasured as why:
        return [not_measured(name, why)]


@contextlib.contextmanager
def measured(traces: bool) -> Iterator[tuple[Nginx, list[Proxy], list[Path], int]]:
    """The application, and the proxies in front of it, all seen to forward, their access logs, and the collector's port."""
    with tempfile.TemporaryDirectory(prefix="meshlib-proxy-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        backend = stack.enter_context(nginx())
        collector = free_port()
        command = [sys.executable, "-m", "benchmarks.proxy_collector", str(collector)]
        stack.enter_context(running(command, ("127.0.0.1", collector), cores()[1], folder / "collector.log"))
        logs = {"Envoy": folder / "envoy-access.log", "meshlib": folder / "meshlib-access.log"}
        scene = _scene(logs["Envoy"], collector if traces else None)
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: inbound(port, backend.port, scene))),
            stack.enter_context(
                meshlib_proxy(
                    folder,
                    resources(logs["meshlib"]),
                    f"--app=127.0.0.1:{backend.port}",
                    *([f"{TRACES}=http://127.0.0.1:{collector}"] if traces else []),
                    way="--inbound",
                )
            ),
        ]
        for proxy in proxies:
            see_forwarding(proxy)
        yield backend, proxies, list(logs.values()), collector


def see_spans(collector: int, asked: Mapping[str, int]) -> None:
    """Raises NotMeasured: fewer spans have come than of nearly all requests that were ``asked``, by proxy."""
    until = time.monotonic() + SENT_WITHIN
    while True:
        came = spans_at(collector)
        few = [
            f"{came.get(who, 0)} of {count} from {who}"
            for who, count in asked.items()
            if came.get(who, 0) < FEWEST * count
        ]
        if not few:
            return
        if time.monotonic() > until:
            raise NotMeasured(f"spans that have come: {', '.join(few)}")
        time.sleep(0.5)


@contextlib.contextmanager
def written(logs: list[Path]) -> Iterator[None]:
    """Raises NotMeasured at the end of the block: a log is empty."""
    yield
    for log in logs:
        if not log.exists() or not log.stat().st_size:
            raise NotMeasured(f"{log.name} is empty")


def _paths(number: int) -> list[str]:
    """Those of a rule; the last rule is the one that matches."""
    return ["/api/*", "/reviews/*"] if number == RULES - 1 else [f"/service-{number}/*", f"/internal-{number}"]


def resources(log: Path) -> list[dict[str, Any]]:
    """Those of meshlib, with its access log in ``log``."""
    rules = [{"to": [{"operation": {"methods": ["GET"], "paths": _paths(number)}}]} for number in range(RULES)]
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "rules", "namespace": "default"},
        "spec": {"action": "ALLOW", "rules": rules},
    }
    config = f"accessLogFile: {log}\naccessLogFormat: '{LOG_FORMAT.strip()}'\n"
    mesh = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": config},
    }
    return [policy, mesh]


def _scene(log: Path, collector: int | None) -> Scene:
    policies = {}
    for number in range(RULES):
        paths = [
            {"url_path": {"path": {"prefix": path[:-1]} if path.endswith("*") else {"exact": path}}}
            for path in _paths(number)
        ]
        method = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
        policies[f"rule-{number}"] = {
            "permissions": [{"and_rules": {"rules": [method, {"or_rules": {"rules": paths}}]}}],
            "principals": [{"any": True}],
        }
    rbac = typed("filters.http.rbac.v3", "RBAC", rules={"action": "ALLOW", "policies": policies})
    line = {"text_format_source": {"inline_string": LOG_FORMAT}}
    file = typed("access_loggers.file.v3", "FileAccessLog", path=str(log), log_format=line)
    logged = {"access_log": [{"name": "envoy.access_loggers.file", "typed_config": file}]}
    filters = ({"name": "envoy.filters.http.rbac", "typed_config": rbac},)
    if collector is None:
        return Scene(filters=filters, manager=logged)
    uri = {"uri": f"http://127.0.0.1:{collector}/v1/traces", "cluster": "collector", "timeout": "5s"}
    service = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "service_name": "reviews",
        "http_service": {"http_uri": uri},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": collector}}
    endpoints = {
        "cluster_name": "collector",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }
    return Scene(
        filters=filters,
        manager={**logged, "tracing": {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": service}}},
        clusters=({"name": "collector", "type": "STATIC", "load_assignment": endpoints},),
    )
