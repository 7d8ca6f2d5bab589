"""``metrics`` of the Telemetries that count for a workload, merged as istiod does: the nearest providers replace those of wider
ones; overrides add up, later ones before earlier ones, metric by metric and tag by tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from meshlib.compiler.telemetry.expressions import usable_tag
from meshlib.compiler.telemetry.providers import METRICS, SERVES, Providers, names_of, where
from meshlib.policy.telemetry_settings import METRICS as METRIC_NAMES
from meshlib.policy.telemetry_settings import MetricOverride, MetricSettings, TagOverride

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.telemetry import Metric, Override, OverridesMatch
    from meshlib.resources.telemetry import TagOverride as WrittenTag

Loc = tuple[str | int, ...]
Mode = Literal["CLIENT", "SERVER"]
MODES: tuple[Mode, Mode] = ("CLIENT", "SERVER")
OFF = MetricSettings(disabled=True)


@dataclass(frozen=True, slots=True)
class Written:
    """An entry of ``metrics``, and where it stands."""

    metric: Metric
    resource: Resource
    loc: Loc


@dataclass(slots=True)
class _Override:
    disabled: bool | None = None
    tags: dict[str, TagOverride | None] = field(default_factory=dict)  # None: as if nothing were said of it


class _Merge:
    """One run, for both directions."""

    def __init__(self, entries: Sequence[Written], providers: Providers) -> None:
        self.off: set[tuple[str, Mode]] = set()
        """Providers that record nothing."""
        self.overrides: dict[str, dict[Mode, dict[str, _Override]]] = {}
        nearest: Sequence[str] = providers.metrics
        for entry in entries:
            nearest = names_of(entry.metric.providers) or nearest
        self.counting = set(nearest)
        inherited: Sequence[str] = providers.metrics
        for entry in entries:
            inherited = names_of(entry.metric.providers) or inherited
            for provider in inherited:
                if provider in self.counting:
                    self._entry(provider, entry)

    def _entry(self, provider: str, entry: Written) -> None:
        found = self.overrides.setdefault(provider, {mode: {} for mode in MODES})
        for position, override in enumerate(entry.metric.overrides or ()):
            match = override.match
            modes = MODES if match is None or match.mode in (None, "CLIENT_AND_SERVER") else (_mode(match),)
            if override.disabled and _is_all(match):
                self.off.update((provider, mode) for mode in modes)
                continue
            tags = _tags(override, entry.resource, (*entry.loc, "overrides", position, "tagOverrides"))
            for mode in modes:
                self.off.discard((provider, mode))  # switched off for the mesh, and on again nearer by
                for metric in _metrics(match):
                    there = found[mode].setdefault(metric, _Override())
                    if override.disabled is not None:
                        there.disabled = override.disabled
                    there.tags.update(tags)


def compile_metrics(entries: Sequence[Written], providers: Providers) -> tuple[MetricSettings, MetricSettings]:
    """What is said of the metrics of calls made, and of calls served. Of several providers of the kind prometheus the first by
    name counts: they would all count into the same series."""
    merge = _Merge(entries, providers)
    chosen = next((name for name in sorted(merge.counting) if _counts(name, providers)), None)
    if chosen is None:
        return OFF, OFF
    there = merge.overrides.get(chosen, {})
    client, server = (
        OFF if (chosen, mode) in merge.off else MetricSettings(overrides=_settled(there.get(mode, {})))
        for mode in MODES
    )
    return client, server


def _counts(name: str, providers: Providers) -> bool:
    known = providers.find(name)
    if known is None:
        return providers.config is None  # nobody knows what its providers are
    return SERVES.get(known.kind) == METRICS


def _settled(overrides: Mapping[str, _Override]) -> dict[str, MetricOverride]:
    found = {}
    for metric, override in sorted(overrides.items()):
        tags = tuple(tag for _, tag in sorted(override.tags.items()) if tag is not None)
        if override.disabled or tags:
            found[metric] = MetricOverride(bool(override.disabled), tags)
    return found


def _mode(match: OverridesMatch) -> Mode:
    return "CLIENT" if match.mode == "CLIENT" else "SERVER"


def _is_all(match: OverridesMatch | None) -> bool:
    return match is None or (match.custom_metric is None and match.metric in (None, "ALL_METRICS"))


def _metrics(match: OverridesMatch | None) -> Sequence[str]:
    if match is None or _is_all(match):
        return tuple(METRIC_NAMES.values())
    if match.custom_metric is not None:
        return (match.custom_metric,) if match.custom_metric in METRIC_NAMES.values() else ()
    return (METRIC_NAMES[match.metric or ""],)


def _tags(override: Override, resource: Resource, loc: Loc) -> dict[str, TagOverride | None]:
    return {
        name: _tag(name, tag, where(resource, (*loc, name))) for name, tag in (override.tag_overrides or {}).items()
    }


def _tag(name: str, tag: WrittenTag, place: str) -> TagOverride | None:
    if tag.operation == "REMOVE":
        return TagOverride(name, "", place)
    return usable_tag(name, tag.value or "", place)
