"""The providers that Telemetries and ``defaultProviders`` may name: MeshConfig's, and the three that Istio brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.resources.telemetry_providers import EnvoyFileAccessLog

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.mesh_config import ConfigMap, ExtensionProvider, MeshConfig, MeshConfigSpec
    from meshlib.resources.telemetry import Provider
    from meshlib.resources.telemetry_providers import EnvoyOtelAls, SpanExporter

METRICS, SPANS, LOGS = "metrics", "tracing", "accessLogging"
"""What a provider may be named for, as Telemetry writes it."""
_OF_SPANS = ("zipkin", "opentelemetry", "datadog", "skywalking", "lightstep", "stackdriver", "opencensus")
SERVES: Mapping[str, str] = {
    "prometheus": METRICS,
    **dict.fromkeys(_OF_SPANS, SPANS),
    "envoyFileAccessLog": LOGS,
    "envoyOtelAls": LOGS,
    "envoyHttpAls": LOGS,
    "envoyTcpAls": LOGS,
}
"""By the kind of a provider, what it is for: of all others nothing."""
NOT_WRITTEN = frozenset(("envoyHttpAls", "envoyTcpAls"))
"""Kinds of logs that nothing here writes."""
NO_SPANS = frozenset(("lightstep", "stackdriver", "opencensus"))
"""Kinds of which istiod makes nothing any more."""
BUILT_IN = "envoy"
"""The log that has MeshConfig's accessLogFormat and accessLogEncoding, unless it has a format of its own."""


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider: its ``kind`` is MeshConfig's field. ``loc`` is where it stands in MeshConfig, () of one that Istio brings."""

    name: str
    kind: str
    file_log: EnvoyFileAccessLog | None = None
    otel_log: EnvoyOtelAls | None = None
    exporter: SpanExporter | None = None
    loc: tuple[str | int, ...] = ()


BROUGHT = (
    KnownProvider("prometheus", "prometheus"),
    KnownProvider("stackdriver", "stackdriver"),
    KnownProvider(BUILT_IN, "envoyFileAccessLog", EnvoyFileAccessLog(path="/dev/stdout")),
)


@dataclass(frozen=True, slots=True)
class Providers:
    """``metrics``, ``tracing`` and ``logs`` are the defaults: where no Telemetry names any. ``config`` is the MeshConfig that
    says it, None when there is none."""

    known: Sequence[KnownProvider] = BROUGHT
    metrics: tuple[str, ...] = ("prometheus",)
    tracing: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    config: MeshConfig | ConfigMap | None = None
    _by_name: dict[str, KnownProvider] = field(default_factory=dict, init=False, compare=False, repr=False)

    def find(self, name: str) -> KnownProvider | None:
        """By its name, in any case; the first counts."""
        if not self._by_name:
            for provider in self.known:
                self._by_name.setdefault(provider.name.lower(), provider)
        return self._by_name.get(name.lower())

    @property
    def spec(self) -> MeshConfigSpec | None:
        """What MeshConfig says, None where there is none."""
        return None if self.config is None else self.config.spec

    def names(self, what: str) -> list[str]:
        """Those that can be used for metrics, tracing or accessLogging."""
        there = [provider for provider in self.known if SERVES.get(provider.kind) == what]
        return sorted(provider.name for provider in there if provider.kind not in NO_SPANS | NOT_WRITTEN)


def where(resource: Resource, loc: tuple[str | int, ...]) -> str:
    """``file:line:column`` of a field, as settings carry it."""
    line, column = resource.place_of(loc)
    return f"{resource.origin.file}:{line}:{column}"


def place(config: MeshConfig | ConfigMap) -> tuple[str, ...]:
    """Where a MeshConfig says it."""
    return ("spec",) if config.kind == "MeshConfig" else ("data", "mesh")


def providers_of(config: MeshConfig | ConfigMap | None) -> Providers:
    """Those of a mesh."""
    if config is None:
        return Providers()
    spec = config.spec
    known = {provider.name: provider for provider in BROUGHT}
    for index, written in enumerate(spec.extension_providers or ()):
        if written.name:
            # of several with one name the last counts, where the first stands
            known[written.name] = _known(written, written.name, (*place(config), "extensionProviders", index))
    defaults = spec.default_providers
    metrics = None if defaults is None else defaults.metrics
    return Providers(
        tuple(known.values()),
        ("prometheus",) if metrics is None else tuple(metrics),
        tuple((defaults.tracing if defaults is not None else None) or ()),
        tuple((defaults.access_logging if defaults is not None else None) or ()),
        config,
    )


def _known(written: ExtensionProvider, name: str, loc: tuple[str | int, ...]) -> KnownProvider:
    kinds = written.kinds
    attribute = kinds[0] if kinds else ""
    kind = (type(written).model_fields[attribute].alias or attribute) if attribute else ""
    exporter = written.zipkin or written.opentelemetry or written.datadog
    return KnownProvider(name, kind, written.envoy_file_access_log, written.envoy_otel_als, exporter, loc)


def names_of(providers: Sequence[Provider] | None) -> list[str]:
    """What a Telemetry names."""
    return [provider.name for provider in providers or ()]
