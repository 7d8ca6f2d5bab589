"""Telemetries that do nothing."""

from __future__ import annotations

from tests.support.analysis import expect


def telemetry(logging: str) -> str:
    return f"""
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: logs}}
spec:
  accessLogging:
{logging}
"""


def test_access_logging_without_providers_is_ignored():
    expect(telemetry("  - filter: {expression: response.code >= 400}  # IST0157"), "IST0157")


def test_access_logging_with_providers_or_switched_off_is_not():
    expect(telemetry("  - providers: [{name: envoy}]\n  - disabled: true"), "IST0157")
