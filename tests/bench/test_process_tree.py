"""What a process and its children have used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.bench import process_tree

FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "x = bytearray(30_000_000); print(sum(range(300_000)), flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """The pids of a parent and of its child, which holds 30 MB and has worked."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        yield parent.pid, int(parent.stdout.readline())
        parent.kill()  # the child's input ends with it


def test_it_has_the_process_and_all_below_it(family: tuple[int, int]) -> None:
    assert process_tree.pids(family[0]) == list(family)


def test_cpu_and_memory_are_those_of_all_of_them(family: tuple[int, int]) -> None:
    parent, child = family
    assert process_tree.cpu(parent) >= process_tree.cpu_of_process(child) > 0
    assert process_tree.memory(parent) > process_tree.memory(child) > 30
    assert process_tree.waited(parent) >= process_tree.waited(child) >= 0


def test_one_that_has_ended_has_used_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    assert process_tree.cpu(ended.pid) == process_tree.memory(ended.pid) == process_tree.waited(ended.pid) == 0
    assert process_tree.pids(ended.pid) == [ended.pid]


def test_a_kernel_that_does_not_count_threads_tells_in_its_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "_schedule", lambda pid: [])
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    least = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert process_tree.cpu_of_process(os.getpid()) >= least > 0
