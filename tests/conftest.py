"""For all tests: hypothesis keeps no time (how long an example takes says how busy the machine is, and nothing of meshlib), and
no test leaves an OpenTelemetry provider behind for those that come after it in its process."""

from __future__ import annotations

import gc
from collections import Counter
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


SLOW = ("slow", "fault", "differential")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among the processes of xdist, files with slow tests go first, then those with many: the last ones that run beside nothing
    are short. (xdist itself counts tests alone; ``--no-loadscope-reorder`` keeps to this order.)"""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if any(item.get_closest_marker(name) for name in SLOW)}
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


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
