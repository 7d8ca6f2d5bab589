"""For all tests: hypothesis keeps no time, because how long an example takes says how busy the machine is, and nothing of
meshlib; and what was there before the first test is no business of the garbage collector."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """The modules, and 16,000 tests as pytest holds them, are millions of objects: ``gc.collect()`` of a test would look at
    each of them, for two seconds."""
    gc.collect()
    gc.freeze()
