"""Keys and certificates as files for libraries that read nothing else: in memory, on no disk, and no child inherits them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(*contents: bytes) -> Iterator[str]:
    """The path of a file with these contents, one after the other, for as long as the block lasts. Raises OSError."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        left = memoryview(b"\n".join(contents))
        while left:
            left = left[os.write(descriptor, left) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
