"""``Outage``: something that goes wrong for a while. ``chaos.play`` makes it happen, ``strategies.outages`` makes them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal[
    "down",
    "reset",
    "lost_response",
    "latency",
    "partial_body",
    "dns_failure",
    "expired_certificate",
    "partial_request",
]
"""What can be injected; the methods of ``chaos.on(...)`` and ``chaos.served(...)`` have these names."""
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "partial_request")
"""Those of attempts."""


@dataclass(frozen=True, slots=True)
class Outage:
    """From ``start``, for ``seconds`` (both by the clock of ``chaos``, from when it is played), ``kind`` happens to attempts
    that go to ``host``, ``subset`` and ``endpoint`` (None: any). ``rate``: to which part of them. ``latency``: seconds, of that
    kind alone."""

    host: str = "*"
    subset: str | None = None
    endpoint: str | None = None
    kind: Kind = "down"
    start: float = 0.0
    seconds: float = float("inf")
    rate: float = 1.0
    latency: float = 1.0

    @property
    def end(self) -> float:
        """When it is over."""
        return self.start + self.seconds
