"""Exporters of OpenTelemetry that are installed and cannot be imported."""

from __future__ import annotations


def replaced(error: ImportError) -> str:
    """What to do when an exporter is there and cannot be imported as xds-protos (extra ``envoy``) has replaced files that it
    needs; "" for another reason."""
    if isinstance(error, ModuleNotFoundError) or not (error.name or "").startswith("opentelemetry.proto."):
        return ""
    return (
        "another package has replaced files of opentelemetry-proto by older ones, as xds-protos does: "
        f"pip install --force-reinstall --no-deps opentelemetry-proto ({error})"
    )
