"""``Registered``: what a mesh has in its registry of metrics, from when it is configured until it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.mesh.metric_export import metric_export_of
from meshlib.mesh.numbers import ObservedMesh, Shown
from meshlib.mesh.state_files import StateFiles
from meshlib.telemetry.mesh_metrics import state_collector

if TYPE_CHECKING:
    from meshlib.mesh.options import MeshOptions
    from meshlib.telemetry.envoy_metrics import EnvoyCollector


class Registered:
    """``shown`` is the mesh as its metrics see it, ``files`` has its state written for other processes, ``export`` sends the
    registry's metrics (None: nobody wants them). It does not keep the mesh alive. Raises ``MeshError`` when the registry
    refuses what is to be there; nothing is at work then."""

    __slots__ = ("_collector", "_envoys", "export", "files", "shown")

    def __init__(self, mesh: Shown, options: MeshOptions) -> None:
        core, registry = mesh._core, mesh._registry
        self._collector = state_collector(registry)
        self._envoys: EnvoyCollector | None = None
        if options.get("envoy_metrics"):
            from meshlib.telemetry.envoy_metrics import envoy_collector

            self._envoys = envoy_collector(registry)
        self.shown = ObservedMesh(mesh)
        self.files = StateFiles(self._collector, core.alarms)
        # last, as a thread begins with it
        self.export = metric_export_of(options.get("metric_exporter"), registry, mesh.workload)

    def begin(self) -> None:
        """Show the mesh from now on."""
        self._collector.add(self.shown)
        self.files.start()
        if self._envoys is not None:
            self._envoys.add(self.shown)
            self.files.envoys(self._envoys)

    def end(self) -> None:
        """The mesh has been closed, and what it counted is recorded: its series end, and the last export begins."""
        self._collector.remove(self.shown)
        if self._envoys is not None:
            self._envoys.remove(self.shown)
        self.files.write()
        if self.export is not None:
            self.export.close()
