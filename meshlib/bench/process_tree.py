"""What a process and those it has started have used, as the kernel tells it in ``/proc``: CPU, the time they waited for a core,
memory. 0 for what has ended and where the kernel does not tell."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Seconds of CPU."""
    return sum(cpu_of_process(each) for each in pids(pid))


def waited(pid: int) -> float:
    """Seconds in which their threads were ready to run and others had the core."""
    return sum(waited for each in pids(pid) for _, waited in _schedule(each)) / 1e9


def memory(pid: int) -> float:
    """MB (10^6 bytes) of their proportional set size: a page that several share counts in parts."""
    return sum(_pss(each) for each in pids(pid)) / 1e6


def pids(pid: int) -> list[int]:
    """The process and all below it."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                with contextlib.suppress(OSError):
                    left += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_of_process(pid: int) -> float:
    """Seconds of one process alone: in nanoseconds' steps where the kernel counts them, of threads that are alive; else in its
    ticks."""
    found = sum(ran for ran, _ in _schedule(pid))
    if found:
        return found / 1e9
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    return 0.0


def _schedule(pid: int) -> list[tuple[int, int]]:
    """Nanoseconds on a core, and ready for one, of each thread."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                ran, waited, *_ = (task / "schedstat").read_text().split()
                found.append((int(ran), int(waited)))
    return found


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
