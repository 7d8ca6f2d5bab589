"""A mesh's watchers have the settings of the newest snapshot."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.policy.telemetry_settings import (
    DEFAULT_SETTINGS,
    DEFAULT_TELEMETRY,
    TelemetrySettings,
    TracingSettings,
    WorkloadTelemetry,
)

CLIENT = TelemetrySettings(tracing=TracingSettings(sampling=1.0))
SERVER = TelemetrySettings(tracing=TracingSettings(sampling=2.0))


def mesh() -> meshlib.Mesh:
    return meshlib.Mesh.from_resources([], registry=CollectorRegistry())


def change(mesh: meshlib.Mesh, telemetry: WorkloadTelemetry) -> None:
    live = mesh._core.live
    assert live is not None
    mesh._core.install(replace(live.snapshot, telemetry=telemetry))


def test_without_a_word_the_defaults_hold() -> None:
    with mesh() as m:
        assert m._core.telemetry.settings is DEFAULT_SETTINGS
        assert m._telemetry_of_servers().settings is DEFAULT_SETTINGS


def test_a_reload_reaches_both_watchers() -> None:
    with mesh() as m:
        serving = m._telemetry_of_servers()
        change(m, WorkloadTelemetry(CLIENT, SERVER))
        assert m._core.telemetry.settings is CLIENT
        assert serving.settings is SERVER
        change(m, DEFAULT_TELEMETRY)
        assert m._core.telemetry.settings is serving.settings is DEFAULT_SETTINGS


def test_a_server_that_comes_later_has_what_was_said_before() -> None:
    with mesh() as m:
        change(m, WorkloadTelemetry(CLIENT, SERVER))
        assert m._telemetry_of_servers().settings is SERVER
