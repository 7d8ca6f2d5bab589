"""Exporters that are installed and cannot be imported."""

from __future__ import annotations

from meshlib.telemetry.replaced_files import replaced


def test_files_of_opentelemetry_proto_that_are_older_than_the_exporter_are_put_back():
    error = ImportError("cannot import name 'InstrumentationScope'", name="opentelemetry.proto.common.v1.common_pb2")
    assert "pip install --force-reinstall --no-deps opentelemetry-proto (cannot import name" in replaced(error)


def test_an_exporter_that_is_not_there_was_replaced_by_nobody():
    error = ModuleNotFoundError("no module", name="opentelemetry.proto.common.v1.common_pb2")
    assert replaced(error) == ""
    assert replaced(ImportError("no module", name="opentelemetry.exporter")) == ""
