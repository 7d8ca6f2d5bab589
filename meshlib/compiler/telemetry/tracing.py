"""``tracing`` of the Telemetries that count for a workload, merged as istiod does: field by field, the nearest last;
``customTags`` are replaced as a whole, ``providers`` too, of which the first counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from meshlib.compiler.telemetry.custom_tags import custom_tags
from meshlib.compiler.telemetry.providers import NO_SPANS, SERVES, SPANS, Providers, names_of
from meshlib.policy.telemetry_settings import CustomTag, Provider, TracingSettings

if TYPE_CHECKING:
    from meshlib.compiler.telemetry.proxies import ProxyDefaults
    from meshlib.resources.base import Resource
    from meshlib.resources.telemetry import Tracing

Loc = tuple[str | int, ...]
LONGEST_PATH = 256
"""Envoy's default of max_path_tag_length."""


@dataclass(frozen=True, slots=True)
class Written:
    """An entry of ``tracing``, and where it stands."""

    tracing: Tracing
    resource: Resource
    loc: Loc


@dataclass(frozen=True, slots=True)
class _Spec:
    """Of one direction, while it is merged. ``providers``: the first one named, None where nobody names any."""

    provider: str | None = None
    disabled: bool = False
    sampling: float | None = None
    tags: tuple[CustomTag, ...] | None = None
    use_request_id: bool = True
    istio_tags: bool = True
    propagates: bool = True


def compile_tracing(
    entries: Sequence[Written], providers: Providers, proxy: ProxyDefaults
) -> tuple[TracingSettings, TracingSettings]:
    """What is said of the spans of calls made, and of calls served."""
    if not entries and not providers.tracing:
        spec = providers.spec
        enabled = spec is None or spec.enable_tracing is not False  # which nothing else than this looks at, as in Istio
        found = TracingSettings(
            disabled=not enabled,
            sampling=proxy.sampling,
            custom_tags=proxy.custom_tags,
            istio_tags=proxy.istio_tags is not False,
            max_tag_length=proxy.max_tag_length or LONGEST_PATH,
        )
        return found, found
    first = providers.tracing[0] if providers.tracing else None
    client = server = _Spec(provider=first)
    for entry in entries:
        mode = entry.tracing.match.mode if entry.tracing.match is not None else None
        if mode != "SERVER":
            client = _merged(client, entry)
        if mode != "CLIENT":
            server = _merged(server, entry)
    return _settings(client, providers, proxy), _settings(server, providers, proxy)


def _merged(spec: _Spec, entry: Written) -> _Spec:
    tracing = entry.tracing
    if names := names_of(tracing.providers):
        spec = replace(spec, provider=names[0])
    if tracing.disable_span_reporting is not None:
        spec = replace(spec, disabled=tracing.disable_span_reporting)
    if tracing.custom_tags is not None:
        spec = replace(spec, tags=custom_tags(tracing.custom_tags, entry.resource, (*entry.loc, "customTags")))
    if tracing.random_sampling_percentage is not None:
        spec = replace(spec, sampling=tracing.random_sampling_percentage)
    if tracing.use_request_id_for_trace_sampling is not None:
        spec = replace(spec, use_request_id=tracing.use_request_id_for_trace_sampling)
    if tracing.enable_istio_tags is not None:
        spec = replace(spec, istio_tags=tracing.enable_istio_tags)
    if tracing.disable_context_propagation is not None:
        spec = replace(spec, propagates=not tracing.disable_context_propagation)
    return spec


def _settings(spec: _Spec, providers: Providers, proxy: ProxyDefaults) -> TracingSettings:
    """istiod records no spans without a provider. Here the program has one, so that only one that is named and is not there
    (or makes no spans) switches them off."""
    disabled, provider, longest, sampled_by_provider = spec.disabled, None, None, False
    if spec.provider is not None:
        known = providers.find(spec.provider)
        if known is not None and SERVES.get(known.kind) == SPANS and known.kind not in NO_SPANS:
            provider = Provider(known.name, known.kind)
            if known.exporter is not None:
                longest = known.exporter.max_tag_length
                sampled_by_provider = known.exporter.samples
        elif known is not None or providers.config is not None:
            disabled = True
    return TracingSettings(
        disabled=disabled,
        sampling=None if sampled_by_provider else proxy.sampling if spec.sampling is None else spec.sampling,
        custom_tags=spec.tags or proxy.custom_tags,
        use_request_id=spec.use_request_id,
        istio_tags=spec.istio_tags,
        propagates=spec.propagates,
        max_tag_length=longest or proxy.max_tag_length or LONGEST_PATH,
        provider=provider,
    )
