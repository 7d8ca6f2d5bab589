"""Where unix sockets have their names: a directory that nobody but this user can enter."""

from __future__ import annotations

import contextlib
import os
import tempfile

from meshlib.problems import MeshError

LONGEST = 90
"""Bytes of a directory in which sockets can have names: the kernel takes 107 for a whole path."""
PARENTS = (None, "/tmp", "/dev/shm")
"""Where it is tried: TMPDIR and its like first."""


def socket_directory() -> str:
    """A new one. Raises ``MeshError``."""
    too_long = ""
    for parent in PARENTS:
        with contextlib.suppress(OSError):
            made = tempfile.mkdtemp(prefix="meshlib-", dir=parent)
            if len(os.fsencode(made)) <= LONGEST:
                return made
            too_long = made
            os.rmdir(made)
    raise MeshError(
        "gRPC over mTLS needs a directory for unix sockets, and none can be made: set TMPDIR to one that can be written, "
        f"whose path is short{f' ({too_long} is too long)' if too_long else ''}"
    )
