"""``ObservedMesh``: a mesh as its metrics see it, from all the places that know something."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from meshlib.engine.numbers import cluster_numbers, guard_numbers
from meshlib.problems import Severity
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.mesh_numbers import CertificateNumbers, ConfigNumbers, MeshNumbers, Pool

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.identity.identity import Identity
    from meshlib.mesh.configuration import Configuration
    from meshlib.problems import Problem
    from meshlib.telemetry.observe import InboundTelemetry, Telemetry
    from meshlib.telemetry.otlp_metrics import MetricExport
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.workload import Workload


class Exporting(Protocol):
    """What is there of it in its registry."""

    export: MetricExport | None


class Shown(Protocol):
    """A mesh, as it is known here."""

    workload: Workload
    _core: MeshCore
    _configuration: Configuration
    _serving: InboundTelemetry | None
    _registry: CollectorRegistry | None

    @property
    def _metrics(self) -> Exporting: ...
    @property
    def problems(self) -> Sequence[Problem]: ...


class ObservedMesh:
    """What ``telemetry``, which knows neither meshes nor connections, is given of a mesh. It does not keep the mesh alive."""

    def __init__(self, mesh: Shown) -> None:
        self._mesh = weakref.ref(mesh)
        self.workload = mesh.workload
        self.unread = 0

    def numbers(self) -> MeshNumbers:
        """See ``MeshNumbers``. Calls that were only noted are recorded first."""
        mesh = self._mesh()
        if mesh is None:
            return MeshNumbers()
        core, reloads = mesh._core, mesh._configuration.reloads
        watchers: list[Telemetry | InboundTelemetry] = [core.telemetry]
        if mesh._serving is not None:
            watchers.append(mesh._serving)
        for watcher in watchers:
            watcher.catch_up()
        failures = self.unread + sum(watcher.failures for watcher in watchers)
        export = mesh._metrics.export
        if export is not None:
            failures += export.failures
        sinks: set[str] = set()
        lines = [watcher.unwritten_lines(sinks) for watcher in watchers if watcher.access_logs()]
        lost = {**dropped.counts(), **({"access_log": sum(lines)} if lines else {})}
        live = core.live
        if live is None:
            return MeshNumbers(failures=failures, dropped=lost)
        now = core.clock.monotonic()
        return MeshNumbers(
            config=ConfigNumbers(
                version=live.snapshot.version,
                age=reloads.age,
                succeeded=reloads.succeeded,
                resources=live.snapshot.resource_count,
                reloads=dict(reloads.results),
                problems=_by_severity(mesh.problems),
            ),
            clusters=cluster_numbers(live, now),
            guards=guard_numbers(live, now),
            pools={key: Pool(count.busy, count.idle) for key, count in core.pools().items()},
            certificate=None if core.identity is None else _certificate(core.identity),
            failures=failures,
            dropped=lost,
            codes={} if core.telemetry.codes is None else core.telemetry.codes.read(),
        )


def _by_severity(problems: Sequence[Problem]) -> dict[str, int]:
    counted = Counter(problem.severity for problem in problems)
    return {str(severity): counted[severity] for severity in Severity}


def _certificate(identity: Identity) -> CertificateNumbers:
    current = identity.latest
    if current is None:
        return CertificateNumbers("", 0.0, 0, False, {})
    return CertificateNumbers(
        identity=current.svid.identity.text,
        not_after=current.svid.not_after,
        rotations=current.version - 1,
        ready=identity.ready,
        trust={domain: current.bundles.until(domain) for domain in sorted(current.bundles.trust_domains)},
    )
