"""What a process holds: threads, descriptors, tasks, memory; and what a mesh counts as under way."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from meshlib.transport.grpcio.client.upstream import made_channels

if TYPE_CHECKING:
    from meshlib import Mesh

PAGE = os.sysconf("SC_PAGE_SIZE")
OURS = "soak-"
"""How the names of the soak's own threads begin."""


def memory() -> int:
    """Resident bytes, after libc has been asked to give back what it holds free: its arenas, one for each of many threads,
    otherwise fill up one after the other for many minutes, which is no leak and nobody's doing."""
    if _trim is not None:
        _trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


def in_use() -> int:
    """Bytes that are allocated from libc, 0 where it does not tell: what the process holds without the allocator's spare."""
    return _mallinfo().uordblks + _mallinfo().hblkhd if _mallinfo is not None else 0


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
_mallinfo: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo is not None:
    _mallinfo.restype = _MallInfo


def threads() -> Counter[str]:
    """Python's threads by name, numbers left out."""
    return Counter(
        "thread " + re.sub(r"[-_]?\d+( \(.*\))?$", "", thread.name)
        for thread in threading.enumerate()
        if not thread.name.startswith(OURS)
    )


def native_threads() -> int:
    """All threads of the process, also those of gRPC core."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> Counter[str]:
    """Open descriptors by what they are: ``socket``, ``pipe``, ``anon_inode:[eventpoll]`` or a file's path."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            where = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # that of the listing itself
        found["descriptor " + re.sub(r":\[\d+\]$", "", where)] += 1
    return found


def sockets() -> Counter[str]:
    """Open TCP sockets by where they lead, to say which ones have leaked."""
    mine = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            mine.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    found: Counter[str] = Counter()
    for family in ("tcp", "tcp6"):
        with open(f"/proc/self/net/{family}") as table:
            next(table)
            for line in table:
                fields = line.split()
                if f"socket:[{fields[9]}]" in mine:
                    remote = int(fields[2].rpartition(":")[2], 16)
                    state = {"01": "established", "08": "close-wait", "0A": "listen"}.get(fields[3], fields[3])
                    found[f"socket to port {remote}, {state}"] += 1
    return found


def tell_of_channels(mesh: Mesh) -> None:
    """On stderr: gRPC's channels to endpoints that no call will use again, and what refers to them."""
    live = mesh._core.live
    used = {id(target) for cluster in live.bound.values() for target in cluster.targets.values()} if live else set()
    for channel in list(made_channels):
        if id(channel) not in used:
            holders = [f"{type(one).__name__} {str(one)[:200]}" for one in gc.get_referrers(channel)]
            sys.stderr.write(f"a channel of {channel.loop or 'threads'} that is not used is held by {holders}\n")
    sys.stderr.flush()


def tasks(loops: Mapping[str, asyncio.AbstractEventLoop]) -> Counter[str]:
    """Tasks by loop."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return Counter(
        {f"task of {name}": asyncio.run_coroutine_threadsafe(count(), loop).result(60) for name, loop in loops.items()}
    )


def all_of(loops: Mapping[str, asyncio.AbstractEventLoop]) -> Counter[str]:
    return threads() + descriptors() + tasks(loops)


def under_way(status: Mapping[str, Any]) -> dict[str, int]:
    """Every figure of ``mesh.status()`` that must be 0 when nobody calls."""
    found = {"mirrors that failed": status["mirrors"]["failed"], "telemetry failures": status["telemetry_failures"]}
    for cluster in status["clusters"]:
        name = cluster["name"]
        for figure in ("active", "retries_active", "connections_in_use", "pending"):
            found[f"{figure} of {name}"] = cluster[figure] or 0
        for endpoint in cluster["endpoints"]:
            found[f"active of {endpoint['address']} in {name}"] = endpoint.get("active", 0)
    for guard in status["resilience"]:
        found[f"active of {guard['resource']}"] = guard["active"]
        found |= {f"bulkhead {figure} of {guard['resource']}": n for figure, n in guard.get("bulkhead", {}).items()}
    return found


def more(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Whether there is more of anything."""
    return any(count > before.get(name, 0) for name, count in after.items())


def types() -> Counter[str]:
    """The garbage collector's objects by type. Only while nothing runs: it shows other threads' tuples half made."""
    return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())


def stacks(loops: Mapping[str, asyncio.AbstractEventLoop]) -> None:
    """Where every thread and every task stands, on stderr."""
    faulthandler.dump_traceback(all_threads=True)

    async def of_tasks(name: str) -> None:
        for task in asyncio.all_tasks():
            sys.stderr.write(f"task of {name}:\n")
            task.print_stack(file=sys.stderr)
        sys.stderr.flush()

    for name, loop in loops.items():
        asyncio.run_coroutine_threadsafe(of_tasks(name), loop).result(60)
