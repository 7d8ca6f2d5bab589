"""Telemetries that do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.analysis.codes import NO_PROVIDERS
from meshlib.analysis.finding import Finding
from meshlib.analysis.index import Index
from meshlib.resources.typed import TELEMETRY


def providers(index: Index) -> Iterator[Finding]:
    """Access logging without providers: Istio's default mesh configuration has none to fall back to."""
    if index.mesh_config.logs:
        return
    for telemetry in index.analyzed(TELEMETRY):
        for position, logging in enumerate(telemetry.spec.access_logging or ()):
            if not logging.disabled and not logging.providers:
                yield Finding(
                    NO_PROVIDERS,
                    telemetry,
                    ("spec", "accessLogging", position),
                    "access logging without providers is ignored",
                    "providers: [{name: envoy}]",
                )
