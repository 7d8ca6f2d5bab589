"""``StateFiles``: with PROMETHEUS_MULTIPROC_DIR, a mesh has the state of its registry's meshes written every ten seconds."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from meshlib.telemetry.tables import written_elsewhere

if TYPE_CHECKING:
    from meshlib.alarms import Alarm, Alarms
    from meshlib.telemetry.envoy_metrics import EnvoyCollector
    from meshlib.telemetry.mesh_metrics import StateCollector
    from meshlib.telemetry.written_state import WrittenState

EVERY = 10.0
"""Seconds, of the mesh's clock."""


class StateFiles:
    """Of one mesh. Does nothing where prometheus_client keeps its values in this process."""

    __slots__ = ("__weakref__", "_alarm", "_alarms", "_envoys", "_state")

    def __init__(self, collector: StateCollector, alarms: Alarms) -> None:
        self._alarms = alarms
        self._alarm: Alarm | None = None
        self._state: WrittenState | None = None
        self._envoys: WrittenState | None = None
        if written_elsewhere():
            from meshlib.telemetry.written_state import writer_of

            self._state = writer_of(collector)

    def envoys(self, collector: EnvoyCollector) -> None:
        """Envoy's statistics are wanted, too: written from now on."""
        if self._state is not None:
            from meshlib.telemetry.envoy_metrics import mode_of
            from meshlib.telemetry.written_state import writer_of

            self._envoys = writer_of(collector, (), mode_of)
            self._envoys.write()

    def start(self) -> None:
        """Write now, and from now on."""
        state = self._state
        if state is not None and not self._alarms.closed:
            me = weakref.ref(self)
            self._alarm = self._alarms.after(EVERY, lambda: _ring(me))
            self.write()

    def close(self) -> None:
        """Write once more; no longer by itself."""
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()
        self.write()

    def write(self) -> None:
        """As of now."""
        if self._state is not None:
            self._state.write()
        if self._envoys is not None:
            self._envoys.write()

    def after_fork(self) -> None:
        """In a forked child."""
        if self._state is not None and self._alarm is not None:
            self._state.after_fork()
            if self._envoys is not None:
                self._envoys.after_fork()
            self.start()


def _ring(files: weakref.ref[StateFiles]) -> None:
    """Alarms do not keep a mesh that is dropped."""
    found = files()
    if found is not None:
        found.start()
