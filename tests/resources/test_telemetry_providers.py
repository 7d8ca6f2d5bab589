"""What MeshConfig says of traces, logs and metrics, as types."""

import pytest
from pydantic import ValidationError

from meshlib.resources.telemetry_providers import EnvoyFileAccessLog, EnvoyOtelAls, ProxyTracing, SpanExporter


def test_logs_have_every_field_of_istio_and_no_other():
    found = EnvoyFileAccessLog.model_validate(
        {"path": "/l", "logFormat": {"labels": {"a": {"b": "%DURATION%"}}}, "omitEmptyValues": True}
    )
    assert found.log_format is not None
    assert found.log_format.labels == {"a": {"b": "%DURATION%"}}
    with pytest.raises(ValidationError, match="pth"):
        EnvoyFileAccessLog.model_validate({"pth": "/l"})


def test_numbers_in_quotes_are_numbers():
    assert EnvoyOtelAls.model_validate({"port": "4317"}).port == 4317
    assert ProxyTracing.model_validate({"sampling": "0.5"}).sampling == 0.5
    with pytest.raises(ValidationError):
        ProxyTracing.model_validate({"sampling": "half"})


def test_of_an_exporter_only_what_acts_is_looked_at():
    found = SpanExporter.model_validate({"service": "z", "headers": [{"value": "s3cret"}], "maxTagLength": 5})
    assert (found.max_tag_length, found.samples) == (5, False)
    assert "s3cret" not in repr(found)
    assert SpanExporter.model_validate({"dynatraceSampler": {}}).samples
