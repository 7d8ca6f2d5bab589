"""What the pages of the admin endpoint see of a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.resources.base import Resource
    from meshlib.telemetry.recent import Recent
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.workload import Workload


class Seen(Protocol):
    """A mesh."""

    workload: Workload
    began: float
    """When it was made, by its clock."""

    @property
    def core(self) -> MeshCore: ...

    @property
    def resources(self) -> Sequence[Resource]:
        """Those in force."""
        ...

    @property
    def registry(self) -> CollectorRegistry:
        """Of its metrics."""
        ...

    @property
    def recent(self) -> Recent:
        """Its last calls."""
        ...

    def status(self) -> dict[str, Any]: ...
