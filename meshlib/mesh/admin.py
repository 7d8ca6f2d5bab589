"""``admin=`` of a mesh: what its pages see of it. Nothing of it is imported while it is off."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.problems import MeshError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.admin.endpoint import AdminEndpoint
    from meshlib.admin.page import Page
    from meshlib.admin.request import AdminRequest
    from meshlib.admin.seen import Seen
    from meshlib.admin.server import Respond
    from meshlib.mesh.configuration import Configuration
    from meshlib.resources.base import Resource
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.telemetry.recent import Recent
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.workload import Workload

    Pages = Callable[[Seen, AdminRequest], Page]


class Shown(Protocol):
    """A mesh, as it is known here."""

    workload: Workload
    _core: MeshCore
    _configuration: Configuration
    _registry: CollectorRegistry | None

    def status(self) -> dict[str, Any]: ...


def admin_from_env(environ: Mapping[str, str]) -> str | None:
    """MESHLIB_ADMIN; None when it is not set. Raises ``ConfigError`` for an address that is not valid."""
    given = environ.get("MESHLIB_ADMIN")
    if not given:
        return None
    from meshlib.admin.address import parse_address

    parse_address(given, "MESHLIB_ADMIN")
    return given


def check_admin(given: str | None) -> None:
    """Raises ``ConfigError`` for an address that is not valid."""
    if given is not None:
        from meshlib.admin.address import parse_address

        parse_address(given)


def admin_of(mesh: Shown, given: str | None, began: float) -> MeshAdmin | None:
    """The endpoint at the address ``given``, which does not listen yet; None: the mesh has none. It does not keep the mesh
    alive. Raises ``ConfigError`` for an address that is not valid."""
    return None if given is None else MeshAdmin(mesh, given, began)


class MeshAdmin:
    """The endpoint, and the last calls that it shows. ``pages``, where they are not the mesh's own, and ``changing``: the
    paths at which they take POST."""

    def __init__(
        self,
        mesh: Shown,
        given: str,
        began: float,
        pages: Pages | None = None,
        changing: Container[str] = frozenset(),
    ) -> None:
        from meshlib.telemetry.recent import Recent

        self.recent = recent = Recent(mesh._core.clock.time)
        self._endpoint = endpoint_of(mesh, given, began, recent, pages, changing)
        mesh._core.telemetry.remember = recent.made
        self.start, self.close, self.status = self._endpoint.start, self._endpoint.close, self._endpoint.status

    def serve(self, telemetry: InboundTelemetry) -> None:
        """The mesh serves calls, too, and ``telemetry`` watches them."""
        telemetry.remember = self.recent.served

    def after_fork(self) -> None:
        """In a forked child."""
        self.recent.after_fork()
        self._endpoint.after_fork()


def endpoint_of(
    mesh: Shown,
    given: str,
    began: float,
    recent: Recent,
    pages: Pages | None = None,
    changing: Container[str] = frozenset(),
) -> AdminEndpoint:
    """The endpoint, which does not listen yet."""
    from meshlib.admin.address import parse_address
    from meshlib.admin.endpoint import AdminEndpoint

    return AdminEndpoint(parse_address(given), responding(mesh, began, pages, recent), changing)


def responding(mesh: Shown, began: float, pages: Pages | None = None, recent: Recent | None = None) -> Respond:
    """What responds to requests with the pages of a mesh, without keeping it alive. ``recent`` None: calls are not
    remembered."""
    from meshlib.admin.pages import respond
    from meshlib.telemetry.recent import Recent

    me = weakref.ref(mesh)
    shown = pages or respond
    remembered = recent or Recent(mesh._core.clock.time)

    def made(request: AdminRequest) -> Page:
        found = me()
        if found is None:
            raise MeshError("the mesh is gone")
        return shown(_Seen(found, began, remembered), request)

    return made


class _Seen:
    """As ``meshlib.admin.seen.Seen`` has it."""

    def __init__(self, mesh: Shown, began: float, recent: Recent) -> None:
        self._mesh = mesh
        self.workload = mesh.workload
        self.began = began
        self.recent = recent

    @property
    def core(self) -> MeshCore:
        return self._mesh._core

    @property
    def resources(self) -> Sequence[Resource]:
        return self._mesh._configuration.resources

    @property
    def registry(self) -> CollectorRegistry:
        if self._mesh._registry is not None:
            return self._mesh._registry
        import prometheus_client

        return prometheus_client.REGISTRY

    def status(self) -> dict[str, Any]:
        return self._mesh.status()
