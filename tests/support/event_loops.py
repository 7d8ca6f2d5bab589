"""The event loops that the proxy runs on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


def event_loops() -> list[Any]:
    """What makes asyncio's, and uvloop's where that is installed: parameters of a test."""
    found = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return found
    return [*found, pytest.param(uvloop.new_event_loop, id="uvloop")]
