"""From resources to what serves requests. ``compile_snapshot`` is the pure step; a ``Compiler`` keeps what it has made, so
that a change costs what it touches (``incremental.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.changes import Differences, ListFollower, everything
from meshlib.compiler.compilation import HTTPS_RULES as HTTPS_RULES
from meshlib.compiler.compilation import Compilation
from meshlib.compiler.compilation import HttpsRules as HttpsRules
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.incremental import Incremental
from meshlib.compiler.mesh_settings import MeshSettings
from meshlib.compiler.mesh_tls import MeshTls
from meshlib.compiler.snapshot import Snapshot
from meshlib.compiler.version import Version
from meshlib.pace import free_in_turns, is_watched, much_is_made
from meshlib.registry.build import RegistryBuilder, build_registry
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.registry.registry import Registry
    from meshlib.resources.base import Resource


def compile_snapshot(
    resources: Sequence[Resource],
    workload: Workload,
    *,
    domain: str = "cluster.local",
    version: str | None = None,
    https_rules: HttpsRules = "mesh",
    dns: bool = False,
) -> Snapshot:
    """The configuration of ``workload``'s client. Never raises for what resources say: what cannot be used is in
    ``Snapshot.problems``, and the call that needs it is answered as Envoy would (404 NR, 503 NC, 503 UH)."""
    with much_is_made():
        version = version or Version().take(everything(resources))
        registry = build_registry(resources, domain, workload.namespace, dns=dns)
        return Compilation(resources, registry, workload, domain, https_rules).snapshot(version)


def compile_gateway(
    resources: Sequence[Resource], workload: Workload, port: int, *, domain: str = "cluster.local"
) -> Snapshot:
    """The routes of one port of the Gateways whose selector fits ``workload``'s labels. A host that no VirtualService
    serves there is answered 404."""
    registry = build_registry(resources, domain, workload.namespace)
    version = Version().take(everything(resources))
    made = Compilation(resources, registry, workload, domain, "mesh", GatewayChoice()).snapshot(version)
    ports = {port: made.ports[port]} if port in made.ports else {}
    return replace(made, ports=ports, tls_ports=ports, seen={})


class Compiler:
    """Compiles for one workload, again and again. ``dns``: what has no endpoints is called at its name. ``automatic``: what
    has no addresses gets some (``registry/automatic.py``). ``gateways``: it is a gateway, for which all is compiled each time.
    Not for several threads at once."""

    def __init__(
        self,
        workload: Workload,
        domain: str = "cluster.local",
        https_rules: HttpsRules = "mesh",
        *,
        dns: bool = False,
        gateways: GatewayChoice | None = None,
        automatic: bool = False,
    ) -> None:
        self._dns = dns
        self._automatic = automatic
        self._gateways = gateways
        self._workload = workload
        self._domain = domain
        self._https_rules = https_rules
        self._registry = self._new_registry()
        self._follower: ListFollower[Resource] = ListFollower()
        self._version = Version()
        self._last: Incremental | None = None
        # of the last whole compilation: parts have no MeshConfig, no PeerAuthentications and no Secrets
        self._settings: MeshSettings | None = None
        self._mesh_tls: MeshTls | None = None
        self.whole = 0
        """How often everything was compiled, and not just what had changed."""

    def compile(
        self, resources: Sequence[Resource], version: str | None = None, *, known: Differences[Resource] | None = None
    ) -> Snapshot:
        """The snapshot of these resources. What has not changed since the last time stays the same objects: clusters, virtual
        hosts, and all of the tables when only endpoints have. ``known``: how this list, which nobody changes any more, differs
        from another one."""
        with much_is_made(beside_calls=self._last is not None):
            try:
                return self._compile(resources, version, known)
            except BaseException:
                self._follower = ListFollower()  # what is half done is begun anew the next time
                raise

    def _compile(
        self, resources: Sequence[Resource], version: str | None, known: Differences[Resource] | None
    ) -> Snapshot:
        change = self._follower.turn(resources, known)
        resources = self._follower.items
        if change.whole:
            self._version = Version()
            self._registry = self._new_registry()
        registry = self._registry.take(change)
        hashed = self._version.take(change)
        version = version or hashed
        last = self._last
        if last is not None and not change.whole and self._gateways is None:
            snapshot = last.after(change, registry, self._registry.redefined, version, len(resources))
            if snapshot is not None:
                return snapshot
        self._last = None
        self._settings = self._mesh_tls = None
        whole = self._part(resources, registry)
        self._settings, self._mesh_tls = whole.settings, whole.mesh_tls
        snapshot = whole.snapshot(version, last.snapshot.clusters if last is not None else {})
        whole.delegates.forget()
        as_bytes = whole.scope.as_bytes
        self._last = Incremental(resources, registry, whole, self._part, self._workload, self._domain, as_bytes)
        self.whole += 1
        if last is not None and is_watched():
            old = last.snapshot.not_in(snapshot)
            del last
            free_in_turns(old)
        return snapshot

    def _new_registry(self) -> RegistryBuilder:
        return RegistryBuilder(self._domain, self._workload.namespace, dns=self._dns, automatic=self._automatic)

    def _part(self, resources: Sequence[Resource], registry: Registry) -> Compilation:
        return Compilation(
            resources,
            registry,
            self._workload,
            self._domain,
            self._https_rules,
            self._gateways,
            settings=self._settings,
            mesh_tls=self._mesh_tls,
        )
