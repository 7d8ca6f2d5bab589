"""The mutable side of an endpoint: what balancers, limits and outlier detection know about one address.

Rules of ``policy/``: no I/O, no clock, no randomness of its own (``now`` and ``rng`` come in), no import from the rest of
meshlib. Each file holds one mechanism in the same order: settings (frozen, compiled from resources), state (mutable,
kept across reloads by key), decision functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol


class Address(Protocol):
    """What is registered of an endpoint; the rest of it is nothing to policy."""

    @property
    def key(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def weight(self) -> float: ...
    @property
    def locality(self) -> str: ...
    @property
    def workload(self) -> str: ...
    @property
    def pod(self) -> str: ...


class _Unregistered:
    """Of an endpoint that nothing is known of but its key."""

    __slots__ = ()
    key = address = locality = workload = pod = ""
    port = 0
    labels: Mapping[str, str] = MappingProxyType({})
    weight = 1


UNREGISTERED: Address = _Unregistered()


class OutlierAccount:
    """What outlier detection remembers of an endpoint: failures in a row by their kind, ejections and when the last one was
    (in the caller's clock), responses since the last interval."""

    __slots__ = (
        "consecutive_5xx",
        "consecutive_gateway",
        "consecutive_local",
        "ejected_at",
        "ejections",
        "successes",
        "total",
    )

    def __init__(self) -> None:
        self.consecutive_5xx = 0
        self.consecutive_gateway = 0
        self.consecutive_local = 0
        self.ejected_at = 0.0
        self.ejections = 0
        self.total = 0
        self.successes = 0

    def reset_counters(self) -> None:
        self.consecutive_5xx = self.consecutive_gateway = self.consecutive_local = 0


class EndpointState:
    """One endpoint of one cluster, alive as long as its address stays in the cluster, whatever is reloaded.

    ``key`` is ``address:port``; ``endpoint`` the immutable registry endpoint of the newest snapshot; ``active`` the
    requests in flight (what LEAST_REQUEST compares); ``healthy`` is readiness from discovery; ``ejected`` is outlier
    detection's verdict, whose own bookkeeping hangs on ``outlier``; ``spotless``: one more success changes nothing of that.
    ``serving`` is what its grpc.health.v1 service says, ``reachable`` whether the last connection attempt found it;
    ``avoided``: it is not, and others are. ``since`` is when it joined, by the caller's clock; ``latency`` what a balancer
    that looks at it remembers; ``principals``, once there was a connection over mTLS of the mesh, are ours and its own on
    the last one. Where locality puts it is not here, as calls under way may see that as an older snapshot does.
    """

    __slots__ = (
        "active",
        "avoided",
        "ejected",
        "endpoint",
        "healthy",
        "key",
        "latency",
        "outlier",
        "principals",
        "reachable",
        "serving",
        "since",
        "spotless",
        "weight",
    )

    def __init__(self, key: str, endpoint: Address = UNREGISTERED, weight: float = 1, healthy: bool = True) -> None:
        self.key = key
        self.since = 0.0
        self.latency: tuple[float, float] | None = None  # seconds, and when that was
        self.endpoint = endpoint
        self.weight = weight
        self.healthy = healthy
        self.active = 0
        self.ejected = False
        self.serving = True
        self.reachable = True
        self.avoided = False
        self.outlier: OutlierAccount | None = None
        self.spotless = True
        self.principals: tuple[str, str] | None = None

    @property
    def usable(self) -> bool:
        """Whether it may be picked."""
        return self.healthy and not self.ejected and self.serving and not self.avoided

    def forget_results(self) -> None:
        """Outlier detection is off, or begins anew."""
        self.outlier = None
        self.spotless = True

    def __repr__(self) -> str:
        marks = "" if self.usable else " ejected" if self.ejected else " unreachable" if self.avoided else " unhealthy"
        return f"<EndpointState {self.key}{marks} active={self.active}>"


def those_usable(endpoints: Iterable[EndpointState]) -> list[EndpointState]:
    """Those that are ``usable``. (Its words once more, because a property of 100,000 endpoints takes three times as long.)"""
    return [e for e in endpoints if e.healthy and not e.ejected and e.serving and not e.avoided]
