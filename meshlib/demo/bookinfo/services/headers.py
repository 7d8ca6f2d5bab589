"""The headers every service hands on, so that a request keeps its user and its trace from the first hop to the last."""

from __future__ import annotations

from collections.abc import Mapping

FORWARDED = (
    "end-user",
    "user-agent",
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "grpc-trace-bin",
)


def forwarded(incoming: Mapping[str, str], user: str = "") -> dict[str, str]:
    """The headers of ``incoming`` to send downstream. ``user`` (the signed-in one) replaces ``end-user``."""
    found = {name: value for name in FORWARDED if (value := incoming.get(name)) is not None}
    if user:
        found["end-user"] = user
    return found
