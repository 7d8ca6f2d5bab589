"""For tests of what only shortcuts do; the others run with ``MESHLIB_PLAIN=1``, too (``make plain``)."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.shortcuts import PLAIN

NEEDS_SHORTCUTS = pytest.mark.skipif(PLAIN, reason="MESHLIB_PLAIN=1: it is about a shortcut")
