"""The mutable side of an endpoint: what balancers, limits and outlier detection know about one address.

Rules of ``policy/``: no I/O, no clock, no randomness of its own (``now`` and ``rng`` come in), no import from the rest of
meshlib. Each file holds one mechanism in the same order: settings (frozen, compiled from resources), state (mutable,
kept across reloads by key), decision functions.
"""

from __future__ import annotations

from typing import Any


class EndpointState:
    """One endpoint of one cluster, alive as long as its address stays in the cluster, whatever is reloaded.

    ``key`` is ``address:port``; ``endpoint`` the immutable registry endpoint of the newest snapshot; ``active`` the
    requests in flight (what LEAST_REQUEST compares); ``healthy`` is readiness from discovery; ``ejected`` is outlier
    detection's verdict, whose own bookkeeping hangs on ``outlier``. ``serving`` is what its grpc.health.v1 service says,
    ``reachable`` whether the last connection attempt found it; ``avoided``: it is not, and others are. ``priority`` and
    ``group`` say where locality puts it; ``since`` is when it joined, by the caller's clock; ``latency`` what a balancer
    that looks at it remembers.
    """

    __slots__ = (
        "active",
        "avoided",
        "ejected",
        "endpoint",
        "group",
        "healthy",
        "key",
        "latency",
        "outlier",
        "priority",
        "reachable",
        "serving",
        "since",
        "weight",
    )

    def __init__(self, key: str, endpoint: Any = None, weight: float = 1, healthy: bool = True) -> None:
        self.key = key
        self.priority = 0
        self.group = 0
        self.since = 0.0
        self.latency: Any = None
        self.endpoint = endpoint
        self.weight = weight
        self.healthy = healthy
        self.active = 0
        self.ejected = False
        self.serving = True
        self.reachable = True
        self.avoided = False
        self.outlier: Any = None

    @property
    def usable(self) -> bool:
        return self.healthy and not self.ejected and self.serving and not self.avoided

    def __repr__(self) -> str:
        marks = "" if self.usable else " ejected" if self.ejected else " unreachable" if self.avoided else " unhealthy"
        return f"<EndpointState {self.key}{marks} active={self.active}>"
