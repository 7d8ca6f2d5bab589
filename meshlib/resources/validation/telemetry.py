"""What Istio refuses, or warns of, in a Telemetry whose types are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.policy.cel_syntax import log_problem
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.headers import header_name
from meshlib.resources.validation.selection import selection_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.telemetry import AccessLogging, Metric, Override, Telemetry, Tracing

_SPEC: Loc = ("spec",)
_TAGS = (("literal", "value"), ("environment", "name"), ("header", "name"), ("formatter", ""))
"""In the order in which istiod reads them, and what must not be empty: of several, which the CRD refuses, the last counts."""


def refusals(resource: Telemetry) -> Iterator[Notice]:
    """Errors of the selection, then of metrics, tracing and access logging."""
    spec = resource.spec
    yield from selection_refusals(spec.selector, spec.target_ref, spec.target_refs)
    with_providers: tuple[tuple[str, Sequence[Metric | Tracing | AccessLogging] | None], ...] = (
        ("metrics", spec.metrics),
        ("tracing", spec.tracing),
        ("accessLogging", spec.access_logging),
    )
    for field, entries in with_providers:
        for index, entry in enumerate(entries or ()):
            for position, provider in enumerate(entry.providers or ()):
                if not provider.name:
                    where: Loc = (*_SPEC, field, index, "providers", position, "name")
                    hint = "name one of the extensionProviders of the mesh's configuration"
                    yield refused("missing-name", where, "the provider has no name", hint)
    for index, log in enumerate(spec.access_logging or ()):
        if log.filter is not None and (problem := log_problem(log.filter.expression or "")):
            yield refused(
                "bad-expression",
                (*_SPEC, "accessLogging", index, "filter", "expression"),
                f"{(log.filter.expression or '')[:100]!r} {problem}",
                "for example expression: response.code >= 400",
            )
    for index, metric in enumerate(spec.metrics or ()):
        for position, override in enumerate(metric.overrides or ()):
            yield from _override(override, (*_SPEC, "metrics", index, "overrides", position))
    for index, tracing in enumerate(spec.tracing or ()):
        yield from _tracing(tracing, (*_SPEC, "tracing", index))


def warnings(resource: Telemetry) -> Iterator[Notice]:
    """A selector of nothing, and what Istio reads but does not do."""
    spec = resource.spec
    if spec.selector is not None:
        yield from selector_warnings(spec.selector.match_labels, (*_SPEC, "selector"))
    if len(spec.tracing or ()) > 1:
        yield warned(
            "several-tracings",
            (*_SPEC, "tracing", 1),
            "Istio does not support several entries of tracing",
            "write one entry",
        )
    for index, tracing in enumerate(spec.tracing or ()):
        if len(tracing.providers or ()) > 1:
            yield warned(
                "several-providers",
                (*_SPEC, "tracing", index, "providers"),
                "Istio does not support several providers of tracing",
                "name one",
            )


def _override(override: Override, loc: Loc) -> Iterator[Notice]:
    if override.match is not None and override.match.custom_metric == "":
        yield refused("missing-name", (*loc, "match", "customMetric"), "customMetric is empty", "name the metric")
    for name, tag in (override.tag_overrides or {}).items():
        here: Loc = (*loc, "tagOverrides", name)
        if tag.operation == "REMOVE":
            if tag.value:
                yield refused(
                    "value-of-removed",
                    (*here, "value"),
                    f"the tag {name} is removed, and has a value",
                    "write operation: UPSERT, or remove value",
                )
        elif not tag.value:
            yield refused(
                "missing-value",
                here,
                f"the tag {name} is set (operation UPSERT) to no value",
                "give a value, or write operation: REMOVE",
            )


def _tracing(tracing: Tracing, loc: Loc) -> Iterator[Notice]:
    share = tracing.random_sampling_percentage
    if share is not None and not 0 <= share <= 100:
        yield refused(
            "bad-percent",
            (*loc, "randomSamplingPercentage"),
            f"{share} is outside 0..100",
            "a percentage, for example 1.5",
        )
    for name, tag in (tracing.custom_tags or {}).items():
        here: Loc = (*loc, "customTags", name)
        if not name:
            yield refused("missing-name", here, "the tag has no name", "name it")
        given = [(kind, field) for kind, field in _TAGS if getattr(tag, kind) is not None]
        kind, field = given[-1] if given else ("", "")
        if field and not getattr(getattr(tag, kind), field):
            yield refused("missing-value", (*here, kind, field), f"{field} of the tag {name} is empty", "fill it in")
        elif kind == "header" and tag.header is not None:
            yield from header_name(tag.header.name or "", (*here, "header", "name"), pseudo=True)
