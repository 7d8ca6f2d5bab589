"""For all tests: hypothesis keeps no time. How long an example takes says how busy the machine is, and nothing of meshlib."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
