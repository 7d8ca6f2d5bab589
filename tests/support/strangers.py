"""Header values that strangers may send, and a mesh that reads every header which meshlib reads."""

from __future__ import annotations

from typing import Any

from tests.support.inbound import envoy_filter, fault_patch
from tests.support.resources import to, virtual_service

HOST = "reviews.test"

READ = (
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-fault-delay-request",
    "x-envoy-fault-delay-request-percentage",
    "x-envoy-fault-abort-request",
    "x-envoy-fault-abort-grpc-request",
    "x-envoy-fault-abort-request-percentage",
    "x-envoy-attempt-count",
    "x-envoy-ratelimited",
    "x-request-deadline",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "forwarded",
    "grpc-timeout",
    "grpc-status",
    "grpc-message",
    "grpc-trace-bin",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
    "cookie",
    "x-user",
    "x-copied",
    "retry-after",
    "content-type",
    "te",
)
"""Of requests and answers: what policies, telemetry and transports of meshlib look at, and what they only pass on."""

NUMBERS = (
    "",
    " ",
    "0",
    "-1",
    "+5",
    " 7 ",
    "1.5",
    "1e9",
    "0x10",
    "1_000",
    "5,503,,x,99999999999999999999",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "9" * 5000,
    "0" * 5000 + "3",
    "\u00b2",
    "\u00b9\u00b2\u00b3",
    "\u00b2,5xx,503",
    "\u00bd",
    "NaN",
    "inf",
    "100m",
    "99999999H",
    "5S\n",
)
"""Wire strings (bytes read as latin-1)."""

BEYOND_LATIN = ("\u0663", "\u096b\u096b", "\uff15", "\U0001d7d9", "\u2460", "\ud800", "\u20ac")
"""Digits of other scripts, and what is no text: str values, as gRPC metadata and ``explain`` give them."""


def reading_everything() -> list[dict[str, Any]]:
    """Two hosts: one that forwards and looks at all it can, one (its /answers) that answers itself with what was asked."""
    any_of = {"regex": "(a|\u00e9|[0-9])*"}
    operations = {
        "request": {
            "set": {"x-set": "%REQ(x-copied)%", "x-other": "%REQ(x-none?x-copied)%"},
            "remove": ["x-forwarded-for"],
        },
        "response": {"set": {"x-told": "%REQ(x-user?x-copied)%"}},
    }
    rules = [
        {
            "match": [{"uri": {"prefix": "/redirected"}}],
            "redirect": {"uri": "/\u00fc", "derivePort": "FROM_REQUEST_PORT"},
        },
        {"match": [{"uri": {"prefix": "/answered"}}], "directResponse": {"status": 201, "body": {"string": "x"}}},
        {
            "match": [
                {"headers": {"x-user": any_of, "x-copied": {"exact": "\u00e9"}}},
                {"method": any_of, "headers": {"origin": {"prefix": "\u00b2"}}},
                {"uri": {"regex": "/rewritten/.*"}},
            ],
            "rewrite": {
                "uriRegexRewrite": {"match": "/rewritten/(.*)", "rewrite": "/\u00e9/\\1"},
                "authority": "x.test",
            },
            "route": [to(HOST)],
        },
        {
            "corsPolicy": {
                "allowOrigins": [{"regex": "https?://.*"}, {"prefix": "\u00b2"}],
                "allowMethods": ["*"],
                "allowHeaders": ["*"],
                "exposeHeaders": ["x-told"],
                "unmatchedPreflights": "IGNORE",
            },
            "retries": {"attempts": 1, "retryOn": "5xx,unavailable", "perTryTimeout": "1s"},
            "timeout": "2s",
            "headers": operations,
            "route": [to(HOST)],
        },
    ]
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "reviews", "namespace": "default"},
            "spec": {
                "hosts": [HOST],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}} for port in (7001, 7002)],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "reviews", "namespace": "default"},
            "spec": {
                "host": HOST,
                "trafficPolicy": {
                    "loadBalancer": {"consistentHash": {"httpCookie": {"name": "user", "ttl": "60s"}}},
                    "outlierDetection": {"consecutive5xxErrors": 1000},
                },
            },
        },
        virtual_service("reviews", *rules, hosts=[HOST]),
        {
            "apiVersion": "meshlib.dev/v1",
            "kind": "ResiliencePolicy",
            "metadata": {"name": "reviews", "namespace": "default"},
            "spec": {"host": HOST, "deadline": {"propagate": True}},
        },
        envoy_filter("faults", fault_patch(delay={"header_delay": {}, **ALL}, abort={"header_abort": {}, **ALL})),
    ]


ALL = {"percentage": {"numerator": 100}}
