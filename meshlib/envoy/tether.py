"""Runs another program in place of itself, which ends when its parent does, however the parent ends (Linux).

A program of its own, begun as ``python -I tether.py PARENT PROGRAM ARGUMENT...``: the parent has threads, after whose fork
nothing but a program may be begun.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, program: str, *arguments: str) -> None:
    """Become the program. Ends with 1 where the parent is gone already."""
    with contextlib.suppress(OSError, AttributeError):  # another system: it may outlive us there
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
