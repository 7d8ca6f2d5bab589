"""A program that ends with its parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from meshlib.envoy import tether
from tests.support.eventually import eventually

PROGRAM = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", sys.argv[1], str(os.getpid()), "/bin/sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux'")
def test_it_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tether.__file__], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert eventually(lambda: os.readlink(f"/proc/{child}/exe").endswith(("sleep", "coreutils", "busybox")))
        assert alive(child)
        parent.kill()
        parent.wait(60)
        assert eventually(lambda: not alive(child))


def test_it_does_not_begin_once_its_parent_is_gone() -> None:
    done = subprocess.run([sys.executable, "-I", tether.__file__, "1", "/bin/echo", "begun"], capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
