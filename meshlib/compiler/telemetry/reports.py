"""What is to be said of Telemetries, and of the defaults and formats of MeshConfig: names that nothing has, expressions that
cannot be evaluated, and what counts for nobody."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.telemetry.expressions import expression_problem, name_problem
from meshlib.compiler.telemetry.logs import json_format
from meshlib.compiler.telemetry.providers import (
    LOGS,
    METRICS,
    NO_SPANS,
    NOT_WRITTEN,
    SERVES,
    SPANS,
    Providers,
    place,
)
from meshlib.policy.telemetry_settings import METRICS as METRIC_NAMES
from meshlib.policy.telemetry_settings import TAGS
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.telemetry import AccessLogging, Metric, Override, Telemetry, Tracing

Loc = tuple[str | int, ...]
_EFFECT = {
    METRICS: "no metrics are recorded by it",
    SPANS: "no spans are recorded",
    LOGS: "nothing is logged by it",
}
_FOR = {METRICS: "metrics", SPANS: "spans", LOGS: "access logs"}


def problems_of(telemetries: Sequence[Telemetry], providers: Providers) -> Iterator[Problem]:
    """All of it."""
    yield from _defaults(providers)
    yield from _not_the_oldest(telemetries)
    added = _added(telemetries)
    for resource in telemetries:
        yield from _names(resource, providers)
        for index, entry in enumerate(resource.spec.metrics or ()):
            for position, override in enumerate(entry.overrides or ()):
                yield from _override(resource, override, ("spec", "metrics", index, "overrides", position), added)
        for index, logging in enumerate(resource.spec.access_logging or ()):
            if logging.filter is not None and logging.filter.expression:
                if not logging.providers and not logging.disabled:
                    yield _problem(
                        resource,
                        "filter-without-providers",
                        ("spec", "accessLogging", index, "filter"),
                        "the filter counts for no log: as in istiod it is for the providers that its own entry names",
                        f"name them beside it, for example providers: [{{name: {next(iter(providers.logs), 'envoy')}}}]",
                    )
                yield from _expression(
                    resource, logging.filter.expression, ("spec", "accessLogging", index, "filter", "expression")
                )


# -- providers --------------------------------------------------------------------------------------------------------


def _defaults(providers: Providers) -> Iterator[Problem]:
    config, spec = providers.config, providers.spec
    if config is None or spec is None:
        return
    if spec.default_providers is not None:
        for what, names in ((METRICS, providers.metrics), (SPANS, providers.tracing), (LOGS, providers.logs)):
            for index, name in enumerate(names):
                yield from _provider(config, name, what, (*place(config), "defaultProviders", what, index), providers)
    if spec.access_log_encoding == "JSON" and json_format(spec.access_log_format or "") is None:
        yield _problem(
            config,
            "bad-format",
            (*place(config), "accessLogFormat"),
            "accessLogEncoding is JSON, and accessLogFormat is not an object of JSON: Istio's default counts, as in istiod",
            'for example {"status": "%RESPONSE_CODE%"}, or accessLogEncoding: TEXT',
        )


def _names(resource: Telemetry, providers: Providers) -> Iterator[Problem]:
    spec = resource.spec
    named_in: tuple[tuple[str, Sequence[Metric | Tracing | AccessLogging] | None], ...] = (
        (METRICS, spec.metrics),
        (SPANS, spec.tracing),
        (LOGS, spec.access_logging),
    )
    for what, entries in named_in:
        for index, entry in enumerate(entries or ()):
            for position, named in enumerate(entry.providers or ()):
                loc = ("spec", what, index, "providers", position, "name")
                yield from _provider(resource, named.name, what, loc, providers)


def _provider(resource: Resource, name: str, what: str, loc: Loc, providers: Providers) -> Iterator[Problem]:
    if not name:
        return  # refused elsewhere
    known, there = providers.find(name), providers.names(what)
    listed = ", ".join(there) or "none"
    if known is None:
        near = difflib.get_close_matches(name, there, 1)
        if providers.config is None:
            why = f"no MeshConfig is loaded, which would say what {name} is"
            effect = "nothing is logged by it" if what == LOGS else f"{_FOR[what]} are recorded all the same"
        else:
            why, effect = f"MeshConfig has no provider {name}", _EFFECT[what]
        meant = f"; did you mean {near[0]}?" if near else ""
        hint = f"known for {_FOR[what]}: {listed}{meant}"
        if not near:
            hint += "; others are extensionProviders of MeshConfig"
        yield _problem(resource, "unknown-provider", loc, f"{why}: {effect}", hint)
    elif SERVES.get(known.kind) != what or known.kind in NO_SPANS:
        kind = known.kind or "no kind"
        message = f"the provider {known.name} ({kind}) is not for {_FOR[what]}: {_EFFECT[what]}"
        yield _problem(resource, "unusable-provider", loc, message, f"known for {_FOR[what]}: {listed}")
    elif known.kind in NOT_WRITTEN:
        message = f"the provider {known.name} ({known.kind}) is a log that only Envoy writes: {_EFFECT[what]}"
        yield _problem(resource, "unusable-provider", loc, message, "envoyFileAccessLog and envoyOtelAls are written")


# -- overrides --------------------------------------------------------------------------------------------------------


def _added(telemetries: Sequence[Telemetry]) -> frozenset[str]:
    """Tags that one of them adds, and a nearer one may take away again."""
    return frozenset(
        name
        for resource in telemetries
        for entry in resource.spec.metrics or ()
        for override in entry.overrides or ()
        for name, tag in (override.tag_overrides or {}).items()
        if tag.operation != "REMOVE"
    )


def _override(resource: Telemetry, override: Override, loc: Loc, added: frozenset[str]) -> Iterator[Problem]:
    metric = override.match.custom_metric if override.match is not None else None
    if metric and metric not in METRIC_NAMES.values():
        yield _problem(
            resource,
            "unknown-metric",
            (*loc, "match", "customMetric"),
            f"there is no metric {metric}: the override does nothing",
            f"customMetric takes {', '.join(METRIC_NAMES.values())}; metric takes {', '.join(METRIC_NAMES)}",
        )
    for name, tag in (override.tag_overrides or {}).items():
        here = (*loc, "tagOverrides", name)
        if tag.operation == "REMOVE":
            if name not in TAGS and name not in added:
                yield _problem(
                    resource,
                    "unknown-tag",
                    here,
                    f"no metric of Istio has the tag {name}, and no Telemetry adds it: there is nothing to remove",
                    _near(name),
                )
            continue
        if problem := name_problem(name):
            yield _problem(
                resource, "unusable-tag", here, f"the tag {name} is not added: {problem}", "call it otherwise"
            )
        elif tag.value:
            yield from _expression(resource, tag.value, (*here, "value"))


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, TAGS, 1)
    return f"{f'did you mean {near[0]}? ' if near else ''}known tags: {', '.join(TAGS)}"


def _expression(resource: Telemetry, expression: str, loc: Loc) -> Iterator[Problem]:
    code, message, hint = expression_problem(expression)
    if code:
        yield _problem(resource, code, loc, message, hint)


# -- what counts for nobody -------------------------------------------------------------------------------------------


def _not_the_oldest(telemetries: Iterable[Telemetry]) -> Iterator[Problem]:
    oldest: dict[str, Telemetry] = {}
    for resource in sorted(telemetries, key=lambda resource: resource.age_key):
        spec = resource.spec
        selects = spec.selector is not None and spec.selector.match_labels
        if selects or spec.target_refs or spec.target_ref is not None:
            continue
        first = oldest.setdefault(resource.namespace, resource)
        if first is not resource:
            message = f"has no effect: {first.id} is older, and one Telemetry without a selector counts in a namespace"
            yield _problem(resource, "not-the-oldest", (), message, "keep one of them")


def _problem(resource: Resource, code: str, loc: Loc, message: str, hint: str) -> Problem:
    line, column = resource.place_of(loc)
    fields = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    path = f"{resource.id} {fields}".rstrip()
    return Problem(code, Severity.WARNING, resource.origin.file, line, column, path, message, hint)
