"""Memory that pieces of long bodies are read into is used again, and not given back to the system in between.

glibc gives back what is free at the end of its heap once that is more than twice the largest block that was mapped so far,
and maps what is larger than that. A piece of a body is 256,000 bytes, which is about as much: as the heap happens to lie, each
one is new pages of the system's, 63 faults, or none at all (row "proxy-bodies": 300 MB are 40,000 faults, and half as much CPU
again)."""

from __future__ import annotations

import os
from collections.abc import Mapping

MOST_KEPT = 2 << 20
"""Bytes at the end of the heap that are kept for what comes next."""
LARGEST = 1 << 20
"""Bytes of a block that comes out of the heap; larger ones are mapped, and given back as they go."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_...`` of glibc's malloc.h."""
CONFIGURED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
TUNABLES = "GLIBC_TUNABLES"


def keep_freed_memory(environ: Mapping[str, str] = os.environ) -> bool:
    """For the rest of this process, and of those that it forks. False: somebody has configured that already, or this is no
    glibc."""
    if any(name in environ for name in CONFIGURED) or "glibc.malloc." in environ.get(TUNABLES, ""):
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, a system without glibc
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST) and mallopt(_TRIM_THRESHOLD, MOST_KEPT))
