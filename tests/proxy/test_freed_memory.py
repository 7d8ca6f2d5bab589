"""Pieces of long bodies are read into memory that was theirs before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from meshlib.proxy import process
from meshlib.proxy.freed_memory import CONFIGURED, TUNABLES, keep_freed_memory

# three pieces at a time, as where one is read while two wait to be written: one reads 256,000 bytes
PROGRAM = """
import resource, sys
from meshlib.proxy.freed_memory import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory()

def rounds(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        pieces = [b"x" * (256_000 + n) for n in range(3)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

rounds(10)
print(kept, rounds(100))
"""
PAGES = 3 * 256_000 // 4096


def faults(way: str) -> int:
    said = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
    kept, found = said.stdout.split()
    if way == "kept" and kept == "False":
        pytest.skip("no glibc, or somebody has configured it")
    return int(found)


def test_a_piece_is_no_new_pages_of_the_system() -> None:
    kept = faults("kept")
    assert kept < PAGES  # all hundred rounds together have fewer than one of them would have
    if faults("as it is") < 10 * PAGES:
        pytest.skip("this system's allocator gives nothing back, whatever is asked of it")


def test_a_proxy_keeps_what_is_freed_from_before_its_first_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    class Process:
        async def run(self, ready: object) -> None:
            steps.append("runs")

    monkeypatch.setattr(process, "keep_freed_memory", lambda: steps.append("keeps"))
    process.run(Process)  # type: ignore[arg-type]
    assert steps == ["keeps", "runs"]


@pytest.mark.parametrize("name", CONFIGURED)
def test_what_an_environment_configures_stays(name: str) -> None:
    assert not keep_freed_memory({name: "131072"})


def test_so_does_what_it_configures_by_tunables() -> None:
    assert not keep_freed_memory({TUNABLES: "glibc.malloc.trim_threshold=131072"})
