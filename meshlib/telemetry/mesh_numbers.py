"""What a mesh tells about itself when somebody scrapes it: its state as numbers, whatever they are rendered as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshlib.engine.numbers import ClusterNumbers, GuardNumbers
from meshlib.workload import Workload


@dataclass(frozen=True, slots=True)
class ConfigNumbers:
    """``version`` is in force since ``age`` seconds. ``succeeded`` (seconds since the epoch): when resources were last read and
    all of them taken. ``reloads`` by result: "ok", "partly" (some resources were refused, the rest has taken effect), "failed".
    ``problems`` by severity."""

    version: str
    age: float
    succeeded: float
    resources: int
    reloads: Mapping[str, int]
    problems: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CertificateNumbers:
    """Our certificate and the roots that we trust; times are seconds since the epoch. ``trust`` has, by trust domain, when the
    last of its roots expires."""

    identity: str
    not_after: float
    rotations: int
    ready: bool
    trust: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Pool:
    """Connections of a cluster: with a call on them, and kept without one."""

    busy: int
    idle: int


@dataclass(frozen=True, slots=True)
class MeshNumbers:
    """One mesh. ``pools`` by cluster key. ``failures`` counts what telemetry could not do, ``dropped`` what it had to drop, by
    kind. ``codes`` has calls by cluster key and status, where Envoy's statistics are wanted. ``config`` is None once the mesh
    is closed."""

    config: ConfigNumbers | None = None
    clusters: Sequence[ClusterNumbers] = ()
    guards: Sequence[GuardNumbers] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    certificate: CertificateNumbers | None = None
    failures: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    codes: Mapping[tuple[str, int], int] = field(default_factory=dict)


class Observed(Protocol):
    """A mesh, as those know it who show its state. ``unread`` counts how often it could not be read, for ``failures``."""

    unread: int

    @property
    def workload(self) -> Workload: ...

    def numbers(self) -> MeshNumbers:
        """As of now."""
        ...
