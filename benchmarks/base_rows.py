"""This tree against another one that is checked out beside it: ``MESHLIB_BENCH_BASE=../base python -m benchmarks --only base``.

``git worktree add ../base 905a658`` makes the tree that the figures of HTTP/2 are told against. Both are measured from outside,
by the same program in processes that take turns; the best of each counts, as the machine is never faster than it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import synthetic
from benchmarks.measure import Row
from benchmarks.processes import backend

_CALLS = """
import asyncio, json, sys, time
import meshlib
URL, IN_FLIGHT = "http://reviews:9080/reviews/0", 32
calls, rounds = int(sys.argv[1]), int(sys.argv[2])

async def measure(mesh):
    taken = []
    async with mesh.async_client() as client:
        async def work(count):
            for _ in range(count):
                (await client.get(URL)).raise_for_status()
        await asyncio.gather(*(work(20) for _ in range(IN_FLIGHT)))
        for _ in range(rounds):
            began = time.process_time()
            await asyncio.gather(*(work(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
            taken.append((time.process_time() - began) / (calls // IN_FLIGHT * IN_FLIGHT))
    return taken

with meshlib.Mesh.from_resources(json.loads(sys.stdin.read())) as mesh:
    print(json.dumps(asyncio.run(measure(mesh))))
"""


def against_base(quick: bool) -> list[Row]:
    """CPU of a call of ``mesh.async_client()`` over HTTP/2 at 32 in flight, end to end: the base's over this tree's."""
    base = os.environ.get("MESHLIB_BENCH_BASE", "")
    if not base:
        return [Row("HTTP/2 against another tree", 0.0, "", details="not measured: MESHLIB_BENCH_BASE names none")]
    trees = [Path(base).resolve(), Path(__file__).resolve().parent.parent]
    best = [float("inf"), float("inf")]
    ratios = []
    with backend("benchmarks.http2_backend") as (port, _):
        resources = json.dumps(synthetic.reviews(port, protocol="http2"))
        for _ in range(3 if quick else 6):
            turn = [_measured(tree, resources, quick) for tree in trees]
            best = [min(before, now) for before, now in zip(best, turn, strict=True)]
            ratios.append(turn[0] / turn[1])
    each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    return [
        Row(
            "HTTP/2 at 32 in flight, CPU of a call, base / this tree",
            best[0] / best[1],
            "x",
            5.0,
            lower_is_better=False,
            details=f"{best[0] * 1e6:.0f} us against {best[1] * 1e6:.0f} us; turn by turn {each}",
        )
    ]


def _measured(tree: Path, resources: str, quick: bool) -> float:
    out = subprocess.run(
        [sys.executable, "-c", _CALLS, "640", "8" if quick else "12"],
        input=resources,
        capture_output=True,
        text=True,
        check=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
    ).stdout
    return float(min(json.loads(out)))
