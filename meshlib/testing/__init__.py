"""Helpers for users' own tests: ``as_caller``, ``through_mocks``, and the fixtures of ``plugin.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.distribution import require_ours

if TYPE_CHECKING:
    from meshlib.testing.callers import AsCaller, as_caller
    from meshlib.testing.mocks import through_mocks

__all__ = ["AsCaller", "as_caller", "through_mocks"]


if not TYPE_CHECKING:  # what is not there is an error for type checkers, too

    def __getattr__(name: str) -> object:
        """Names are loaded on first use: pytest imports this package in every run, for its plugin."""
        if name in ("AsCaller", "as_caller"):
            from meshlib.testing import callers

            return getattr(callers, name)
        if name == "through_mocks":
            from meshlib.testing import mocks

            return mocks.through_mocks
        raise AttributeError(f"module 'meshlib.testing' has no attribute {name!r}")


require_ours()
