"""What is said of proxies and means something to a library: ``tracing`` and the environment, of MeshConfig's defaultConfig, of
ProxyConfigs and of the annotation ``proxy.istio.io/config`` of the workload's own Pod or Deployment.

Istio's order, the last counts most: defaultConfig, the ProxyConfig of the root namespace, that of the namespace, the
annotation, the ProxyConfig that selects the workload. Of those without (with) a selector the oldest counts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from meshlib.compiler.telemetry.custom_tags import custom_tags
from meshlib.compiler.telemetry.providers import place
from meshlib.policy.telemetry_settings import CustomTag
from meshlib.problems import Problem, Severity
from meshlib.resources.mesh_config import ProxyDefaults as Defaults
from meshlib.resources.model_fields import field_names
from meshlib.resources.proxy_annotation import ANNOTATION, AnnotatedConfig, annotation_place, annotation_text
from meshlib.resources.yaml_reader import read

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.gateway_topology import GatewayTopology
    from meshlib.resources.kubernetes import Deployment, Pod
    from meshlib.resources.mesh_config import ConfigMap, MeshConfig
    from meshlib.resources.proxy_config import ProxyConfig
    from meshlib.resources.proxy_headers import ProxyHeaders
    from meshlib.resources.telemetry_providers import ProxyTracing
    from meshlib.workload import Workload

Loc = tuple[str | int, ...]
IN_MESH = "IN_MESH"
MOST = 100.0
"""A percentage above this counts as 1, as in istiod."""


@dataclass(frozen=True, slots=True)
class ProxyDefaults:
    """What counts where Telemetries say nothing. ``sampling`` is a percentage, None where nobody says one; of
    ``environment``, what is set for the workload's proxy before the program's own variables are looked at."""

    sampling: float | None = None
    custom_tags: tuple[CustomTag, ...] = ()
    max_tag_length: int = 0
    istio_tags: bool | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def known(self, tags: Iterable[CustomTag]) -> tuple[CustomTag, ...]:
        """``tags``, those of the environment by their value where that is set here."""
        return tuple(
            replace(tag, kind="literal", value=self.environment[tag.value], default="")
            if tag.kind == "environment" and tag.value in self.environment
            else tag
            for tag in tags
        )


def proxy_defaults(
    config: MeshConfig | ConfigMap | None,
    proxy_configs: Sequence[ProxyConfig],
    annotated: Iterable[Deployment | Pod],
    workload: Workload,
    root_namespace: str,
) -> tuple[ProxyDefaults, list[Problem]]:
    """For one workload. ``annotated``: its own Deployment and Pod, as far as they have the annotation."""
    found = ProxyDefaults()
    problems: list[Problem] = []
    environment: dict[str, str] = {}
    if config is not None and config.spec.default_config is not None:
        defaults = config.spec.default_config
        environment.update(defaults.proxy_metadata or {})
        loc: Loc = (*place(config), "defaultConfig", "tracing")
        found = _traced(found, defaults.tracing, config, loc)
        problems += _too_much(defaults.tracing, config, (*loc, "sampling"))
    root, wide, selecting = _environments(proxy_configs, workload, root_namespace)
    environment.update({**root, **wide})
    for resource in annotated:
        said, loc, wrong = annotation_of(resource)
        problems += wrong
        if said is not None:
            environment.update(said.proxy_metadata or {})
            found = _traced(found, said.tracing, resource, loc)
            problems += _too_much(said.tracing, resource, loc)
            break
    environment.update(selecting)
    return replace(found, environment=environment, custom_tags=found.custom_tags), problems


def exchanges_metadata(defaults: ProxyHeaders | None, annotated: Iterable[Deployment | Pod]) -> bool:
    """Whether a workload tells peers inside the mesh who it is (``proxyHeaders.metadataExchangeHeaders.mode: IN_MESH``); the
    annotation of its own Pod or Deployment counts before ``defaults``, MeshConfig's."""
    return (_mode(headers_of_annotation(annotated)) or _mode(defaults)) == IN_MESH


def headers_of_annotation(annotated: Iterable[Deployment | Pod]) -> ProxyHeaders | None:
    """``proxyHeaders`` of the first annotation that can be read. What is wrong with one ``proxy_defaults`` says."""
    said = _first(annotated)
    return None if said is None else said.proxy_headers


def topology_of_annotation(annotated: Iterable[Deployment | Pod]) -> GatewayTopology | None:
    """``gatewayTopology`` of it."""
    said = _first(annotated)
    return None if said is None else said.gateway_topology


def _first(annotated: Iterable[Deployment | Pod]) -> AnnotatedConfig | None:
    return next((said for resource in annotated if (said := annotation_of(resource)[0]) is not None), None)


def _mode(headers: ProxyHeaders | None) -> str | None:
    exchange = None if headers is None else headers.metadata_exchange_headers
    return None if exchange is None else exchange.mode


def _traced(before: ProxyDefaults, tracing: ProxyTracing | None, resource: Resource, loc: Loc) -> ProxyDefaults:
    if tracing is None:
        return before
    tags = {tag.name: tag for tag in before.custom_tags}
    inside = (*loc, "customTags") if loc[-1] == "tracing" else loc
    tags.update((tag.name, tag) for tag in custom_tags(tracing.custom_tags or {}, resource, inside))
    sampling = tracing.sampling or None  # 0 is protobuf's "not said"
    return replace(
        before,
        sampling=before.sampling if sampling is None else sampling if sampling <= MOST else 1.0,
        custom_tags=tuple(tag for _, tag in sorted(tags.items())),
        max_tag_length=tracing.max_path_tag_length or before.max_tag_length,
        istio_tags=before.istio_tags if tracing.enable_istio_tags is None else tracing.enable_istio_tags,
    )


def _too_much(tracing: ProxyTracing | None, resource: Resource, loc: Loc) -> Iterator[Problem]:
    if tracing is None or (tracing.sampling or 0) <= MOST:
        return
    line, column = resource.place_of(loc)
    yield Problem(
        "bad-sampling",
        Severity.WARNING,
        resource.origin.file,
        line,
        column,
        f"{resource.id} tracing.sampling",
        f"{tracing.sampling:g} is more than 100 %: as in istiod, 1 % of the requests are traced",
        "a percentage from 0 to 100",
    )


def _environments(
    resources: Sequence[ProxyConfig], workload: Workload, root_namespace: str
) -> tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]:
    """Of the root namespace, of the workload's, and of what selects it."""
    root: Mapping[str, str] | None = None
    wide: Mapping[str, str] | None = None
    selecting: Mapping[str, str] | None = None
    for resource in sorted(resources, key=lambda resource: resource.age_key):
        labels = (resource.spec.selector.match_labels if resource.spec.selector is not None else None) or {}
        said = resource.spec.environment_variables or {}
        if not labels and resource.namespace == root_namespace and root is None:
            root = said
        elif not labels and resource.namespace == workload.namespace and wide is None:
            wide = said
        elif (
            labels
            and resource.namespace == workload.namespace
            and selecting is None
            and all(workload.labels.get(key) == value for key, value in labels.items())
        ):
            selecting = said
    return root or {}, wide or {}, selecting or {}


def annotation_of(resource: Deployment | Pod) -> tuple[AnnotatedConfig | None, Loc, list[Problem]]:
    """What the annotation says, where it stands, and what is wrong with it. One that cannot be read says nothing; fields that
    nobody knows say nothing, as in istiod."""
    text, loc = annotation_text(resource), annotation_place(resource)
    documents, problems = read(text, "")
    if not problems and len(documents) == 1 and isinstance(documents[0].value, Mapping):
        said = documents[0].value
        try:
            found = AnnotatedConfig.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            return found, loc, [_unknown(str(name), resource, loc) for name in said if name not in _NAMES]
    else:
        why = problems[0].message if problems else "it is not an object"
    said_so = f"the annotation {ANNOTATION} cannot be read, and says nothing: {why}"
    return None, loc, [_wrong(said_so, "for example tracing: {sampling: 10}", resource, loc)]


_FIELDS = field_names(Defaults)
_NAMES = frozenset((*_FIELDS, *_FIELDS.values()))


def _unknown(name: str, resource: Resource, loc: Loc) -> Problem:
    near = difflib.get_close_matches(name, _FIELDS, n=1)
    said_so = f"the annotation {ANNOTATION} has an unknown field {name!r}"
    return _wrong(said_so, f"did you mean {near[0]}?" if near else "", resource, loc)


def _wrong(message: str, hint: str, resource: Resource, loc: Loc) -> Problem:
    line, column = resource.place_of(loc)
    field = f"{resource.id} {ANNOTATION}"
    return Problem("bad-annotation", Severity.WARNING, resource.origin.file, line, column, field, message, hint)
