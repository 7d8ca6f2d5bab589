"""For all tests: hypothesis keeps no time (how long an example takes says how busy the machine is, and nothing of meshlib), and
no test leaves an OpenTelemetry provider behind for those that come after it in its process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import trace

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The garbage collector would look thirty times at what only grows: modules, and thousands of tests that pytest keeps."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def no_global_tracer_provider_is_left():
    yield
    left = trace._TRACER_PROVIDER
    if left is not None:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = trace.Once()
        pytest.fail(
            f"left as OpenTelemetry's global tracer provider: {left!r}; give it to the mesh, or use monkeypatch"
        )
