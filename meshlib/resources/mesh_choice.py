"""Which MeshConfig counts where there are several.

A MeshConfig of meshlib.dev/v1, if there is one; else the ConfigMap that istiod would read: ``istio-<revision>`` for a workload
of that revision, else ``istio``, else the only one there is. A ConfigMap is read in istio-system, or in the namespace that it
makes the root one itself: istiod is installed there then. Of several the one in istio-system, then the oldest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshlib.problems import Problem, Severity
from meshlib.resources.mesh_config import ConfigMap, MeshConfig

ISTIO_SYSTEM = "istio-system"
REVISION = "istio.io/rev"
"""The label of a workload that names its revision."""


def choose(
    configs: Sequence[MeshConfig], config_maps: Sequence[ConfigMap], revision: str = ""
) -> tuple[MeshConfig | ConfigMap | None, list[Problem]]:
    """The one that counts for a workload of this revision, and what is to be said of the others."""
    installed: list[ConfigMap] = []
    problems: list[Problem] = []
    for config_map in sorted(config_maps, key=_order):
        if config_map.namespace in (ISTIO_SYSTEM, config_map.spec.root_namespace):
            installed.append(config_map)
        else:
            where = f"it is in namespace {config_map.namespace}, which is not the root namespace"
            problems.append(_not_used(config_map, where))
    ordered: list[MeshConfig | ConfigMap] = sorted(configs, key=_order)
    ordered += _of_revision(installed, revision)
    chosen = ordered[0] if ordered else None
    why = f"{chosen.id} counts" if chosen is not None else "there are several revisions, and none is the workload's"
    others = {id(other): other for other in (*ordered, *installed) if other is not chosen}
    return chosen, [*problems, *(_not_used(other, why) for other in others.values())]


def _of_revision(config_maps: Sequence[ConfigMap], revision: str) -> Iterator[ConfigMap]:
    """In the order in which they count. The revision ``default`` is the one without a name."""
    wanted = ["istio"] if revision in ("", "default") else [f"istio-{revision}", "istio"]
    for name in wanted:
        yield from (found for found in config_maps if found.name == name)
    if len(config_maps) == 1 and config_maps[0].name not in wanted:
        yield config_maps[0]


def _order(resource: MeshConfig | ConfigMap) -> tuple[bool, tuple[str, str, str, int]]:
    return (resource.namespace != ISTIO_SYSTEM, resource.age_key)


def _not_used(resource: MeshConfig | ConfigMap, why: str) -> Problem:
    origin = resource.origin
    return Problem(
        "no-effect",
        Severity.WARNING,
        origin.file,
        origin.line,
        origin.column,
        resource.id,
        f"this MeshConfig is not used: {why}",
        f"leave one, or say which by the label {REVISION} of the workload",
    )
