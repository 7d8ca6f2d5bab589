"""For users' own tests: the fixtures of ``plugin.py``, and what they are made of. docs/testing.md has recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.distribution import require_ours

if TYPE_CHECKING:
    from meshlib.testing import scenarios
    from meshlib.testing.asserts import assert_attempts, assert_routed_to
    from meshlib.testing.callers import AsCaller, as_caller
    from meshlib.testing.chaos import Chaos, ChaosUnused
    from meshlib.testing.clock import FakeClock
    from meshlib.testing.factory import MeshFactory
    from meshlib.testing.mocks import through_mocks
    from meshlib.testing.outage import Outage
    from meshlib.testing.split import assert_split
    from meshlib.testing.upstreams import Upstreams

__all__ = [
    "AsCaller",
    "Chaos",
    "ChaosUnused",
    "FakeClock",
    "MeshFactory",
    "Outage",
    "Upstreams",
    "as_caller",
    "assert_attempts",
    "assert_routed_to",
    "assert_split",
    "scenarios",
    "through_mocks",
]

_HOMES = {
    "AsCaller": "callers",
    "Chaos": "chaos",
    "ChaosUnused": "chaos",
    "FakeClock": "clock",
    "MeshFactory": "factory",
    "Outage": "outage",
    "Upstreams": "upstreams",
    "as_caller": "callers",
    "assert_attempts": "asserts",
    "assert_routed_to": "asserts",
    "assert_split": "split",
    "scenarios": "scenarios",
    "through_mocks": "mocks",
}


if not TYPE_CHECKING:  # what is not there is an error for type checkers, too

    def __getattr__(name: str) -> object:
        """Names are loaded on first use: pytest imports this package in every run, for its plugin."""
        if name in _HOMES:
            import importlib

            if name == _HOMES[name]:
                return importlib.import_module(f"{__name__}.{name}")
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'meshlib.testing' has no attribute {name!r}")


require_ours()
