"""Helpers for users' own tests."""

from __future__ import annotations

from meshlib.distribution import require_ours

require_ours()
