"""Envoy's local rate limit: a real Envoy and ours refuse the same requests, and tell their callers the same."""

from __future__ import annotations

import os
import random
from typing import Any

import httpx

from benchmarks.free_ports import free_port
from meshlib.compiler.envoy_rate_limits import rate_limits_of
from meshlib.compiler.envoy_values import Message
from meshlib.compiler.inbound_local_ratelimit import local_rate_limit
from meshlib.engine.inbound_admission import Tally
from meshlib.engine.inbound_local_ratelimit import local_ratelimit_check
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.local_rate_limit import LocalLimiter
from tests.differential.envoy_process import TYPES, cluster, running
from tests.support.fake_clock import FakeClock

CONFIGS = int(os.environ.get("MESHLIB_RATE_LIMIT_CONFIGS", "40"))
REQUESTS = 25
TOLD = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-limited")
"""Ours also tells retry-after and x-envoy-ratelimited (docs/parity.md)."""
PATHS = ["/api/x", "/API/x", "/other", "/api/x?u=1", "/api/x?u=2&v=%61", "/?v=a"]
HEADERS: list[dict[str, str]] = [{}, {"x-k": "a"}, {"x-k": "b"}, {"x-k": "a", "x-n": "7"}, {"x-n": "-3"}, {"x-k": ""}]


def bucket(rng: random.Random) -> dict[str, Any]:
    # no token comes while the test runs
    return {
        "max_tokens": rng.randint(1, 6),
        "tokens_per_fill": rng.randint(1, 3),
        "fill_interval": f"{rng.choice([40_000, 86_400])}s",
    }


TEXTS: list[dict[str, Any]] = [
    {"exact": "a"},
    {"prefix": "/api"},
    {"prefix": "/api", "ignore_case": True},
    {"suffix": "x"},
    {"contains": "pi/", "ignore_case": True},
    {"safe_regex": {"regex": "/[a-z]+/x"}},
]


def header_matcher(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"name": rng.choice([":path", ":method", "x-k", "x-n"])}
    kind = rng.randrange(4)
    if kind == 0:
        made["string_match"] = rng.choice(TEXTS)
    elif kind == 1:
        made["present_match"] = rng.random() < 0.5
    elif kind == 2:
        made["range_match"] = {"start": -5, "end": 7}
    else:
        made["string_match"] = {"exact": rng.choice(["a", "GET", "7"])}
    if rng.random() < 0.3:
        made["invert_match"] = True
    if rng.random() < 0.2:
        made["treat_missing_header_as_empty"] = True
    return made


def action(rng: random.Random) -> dict[str, Any]:
    kind = rng.randrange(7)
    if kind == 0:
        return {"remote_address": {}}
    if kind == 1:
        skip = rng.random() < 0.4
        name = rng.choice(["x-k", ":path", ":method"])
        return {"request_headers": {"header_name": name, "descriptor_key": "h", "skip_if_absent": skip}}
    if kind == 2:
        return {"generic_key": {"descriptor_value": rng.choice(["g", "h"])}}
    if kind == 3:
        return {"masked_remote_address": {"v4_prefix_mask_len": rng.choice([8, 24, 31])}}
    if kind == 4:
        parameters = [{"name": "u", "string_match": {"exact": "1"}}]
        return {"query_parameter_value_match": {"descriptor_value": "q", "query_parameters": parameters}}
    if kind == 5:
        return {"query_parameters": {"query_parameter_name": "v", "descriptor_key": "h"}}
    return {
        "header_value_match": {
            "descriptor_value": "m",
            "expect_match": rng.random() < 0.7,
            "headers": [header_matcher(rng) for _ in range(rng.randint(1, 2))],
        }
    }


VALUES: dict[str, list[str]] = {
    "remote_address": ["10.0.0.1", ""],
    "h": ["a", "b", "GET", ""],
    "generic_key": ["g"],
    "masked_remote_address": ["10.0.0.0/8", ""],
    "query_match": ["q"],
    "header_match": ["m", ""],
}
KEYS = {
    "remote_address": "remote_address",
    "request_headers": "h",
    "query_parameters": "h",
    "generic_key": "generic_key",
    "masked_remote_address": "masked_remote_address",
    "query_parameter_value_match": "query_match",
    "header_value_match": "header_match",
}


def config(rng: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """LocalRateLimit, and the rate limits of its route."""
    limits = [{"actions": [action(rng) for _ in range(rng.choice([1, 1, 2]))]} for _ in range(rng.randint(0, 3))]
    made: dict[str, Any] = {
        "stat_prefix": "t",
        "token_bucket": bucket(rng) | {"max_tokens": rng.randint(1, 15)},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": rng.choice([100, 100, 100, 0])}},
        "response_headers_to_add": [{"append": False, "header": {"key": "x-limited", "value": "yes"}}],
        "always_consume_default_token_bucket": rng.random() < 0.6,
        "descriptors": [],
    }
    if rng.random() < 0.7:
        made["enable_x_ratelimit_headers"] = "DRAFT_VERSION_03"
    if rng.random() < 0.2:
        made["status"] = {"code": rng.choice([503, 403])}
    taken: set[tuple[tuple[str, str], ...]] = set()
    for limit in limits:
        keys = [KEYS[next(iter(one))] for one in limit["actions"]]
        for _ in range(rng.randint(0, 2)):
            entries = tuple((key, rng.choice(VALUES[key])) for key in keys)
            if entries not in taken and not (
                any(not v for _, v in entries) and any(not v for e in taken for _, v in e)
            ):
                taken.add(entries)
                written = [{"key": key, "value": value} for key, value in entries]
                made["descriptors"].append({"entries": written, "token_bucket": bucket(rng)})
    if rng.random() < 0.3:
        made["rate_limits"], limits = limits, []
    return made, limits


def ours(made: dict[str, Any], limits: list[dict[str, Any]]) -> Any:
    said: list[str] = []
    of_route = rate_limits_of(Message({"rate_limits": limits}, ""), said.append)
    settings = local_rate_limit(Message(made, ""), False, of_route, (), said.append)
    assert said == []
    assert settings is not None
    limiter = LocalLimiter(settings.limits)
    return local_ratelimit_check(settings, limiter, FakeClock(), random.Random(1), Tally("", None))


def test_the_same_requests_are_refused_and_told_the_same() -> None:
    rng = random.Random(2026)
    configs = [config(rng) for _ in range(CONFIGS)]
    wrong, refused = [], 0
    listen, upstream, admin = free_port(), free_port(), free_port()
    with running(envoys(configs, listen, upstream, admin), admin):
        with httpx.Client(base_url=f"http://127.0.0.1:{listen}", timeout=30) as client:
            for number, (made, limits) in enumerate(configs):
                check = ours(made, limits)
                for _ in range(REQUESTS):
                    path, headers = rng.choice(PATHS), dict(rng.choice(HEADERS))
                    headers["x-forwarded-for"] = rng.choice(["10.0.0.1", "6.6.6.6, 10.9.0.2", "fd00::1"])
                    theirs = client.get(path, headers={"host": f"c{number}.test", **headers})
                    request = InboundRequest(
                        "GET",
                        path.partition("?")[0],
                        list(headers.items()),
                        query=path.partition("?")[2],
                        peer="127.0.0.1:1",
                    )
                    refusal = check(request)
                    refused += refusal is not None
                    found = told(theirs.status_code, theirs.text, theirs.headers.items())
                    mine = (
                        told(200, "", decoded(request.for_caller))
                        if refusal is None
                        else told(refusal.status, refusal.text, decoded(refusal.headers))
                    )
                    if found != mine:
                        wrong.append((number, path, headers, found, mine))
    assert not wrong, "\n".join([f"{len(wrong)} differ", *map(str, wrong[:12])])
    assert refused > CONFIGS * 3, "hardly anything was refused"


def decoded(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]


def told(status: int, body: str, headers: Any) -> tuple[int, str, dict[str, str]]:
    found = {name: value for name, value in headers if name in TOLD}
    reset = found.get("x-ratelimit-reset")
    if reset is not None:  # thousands of seconds: those that the test takes do not count
        found["x-ratelimit-reset"] = str(round(int(reset), -2))
    return status, body, found


def envoys(configs: list[Any], listen: int, upstream: int, admin: int) -> dict[str, Any]:
    hosts = [
        {
            "name": f"c{number}",
            "domains": [f"c{number}.test"],
            "routes": [
                {
                    "match": {"prefix": "/"},
                    "route": {"cluster": "up", "rate_limits": limits},
                    "typed_per_filter_config": {
                        "envoy.filters.http.local_ratelimit": {
                            "@type": f"{TYPES}.http.local_ratelimit.v3.LocalRateLimit",
                            **made,
                        }
                    },
                }
            ],
        }
        for number, (made, limits) in enumerate(configs)
    ]
    answering = [
        {"name": "up", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}
    ]
    local = {"@type": f"{TYPES}.http.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "t"}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                _listener(listen, hosts, [{"name": "envoy.filters.http.local_ratelimit", "typed_config": local}]),
                _listener(upstream, answering, []),
            ],
            "clusters": [cluster("up", [upstream])],
        },
    }


def _listener(port: int, hosts: list[Any], filters: list[Any]) -> dict[str, Any]:
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "t",
        "http_filters": [*filters, router],
        "route_config": {"virtual_hosts": hosts},
    }
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
