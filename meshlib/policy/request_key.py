"""Whose bucket a request takes from: what a limit counts by (ResiliencePolicy ``key``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshlib.policy.request_match import RoutedView

KINDS = ("", "principal", "remoteIp", "header", "claim", "route")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """``kind`` "": one bucket for all; ``principal``: the peer's SPIFFE ID, else its token's "issuer/subject"; ``remoteIp``;
    ``header`` and ``claim``, of that ``name`` (of a claim in a claim: ``a.b``); ``route``: gRPC's method; over HTTP the
    template of the route, which this does not know: whoever has matched it says it. Requests that have none share a bucket: who
    leaves a header out gains nothing."""

    kind: str = ""
    name: str = ""

    def compile(self) -> Callable[[RoutedView], str]:
        """The function that gives the key of a request."""
        name = self.name
        if self.kind == "principal":
            return lambda request: request.principal or request.request_principal
        if self.kind == "remoteIp":
            return lambda request: request.remote_ip
        if self.kind == "header":
            name = name.lower()
            return lambda request: request.header(name) or ""
        if self.kind == "claim":
            return lambda request: _claim(request.claims, name)
        if self.kind == "route":
            return _route
        return lambda request: ""

    @property
    def text(self) -> str:
        """For people: ``header x-api-key``."""
        return f"{self.kind} {self.name}".strip() or "all callers together"


def _route(request: RoutedView) -> str:
    return request.path if request.protocol == "grpc" else ""


def _claim(claims: Mapping[str, object] | None, name: str) -> str:
    if not claims:
        return ""
    if name in claims:
        return _text(claims[name])
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return ""
        found = found.get(part)
    return _text(found)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return repr(value)
    return ",".join(map(_text, value)) if isinstance(value, (list, tuple)) else ""
