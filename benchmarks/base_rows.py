"""This tree against another one that is checked out beside it: ``MESHLIB_BENCH_BASE=../base python -m benchmarks --only base``.

``git worktree add ../base 905a658`` makes the tree that the figures of HTTP/2 and of policy are told against. Both are measured
in processes that take turns, HTTP/2 from outside by the same program, policy by each tree's own row; the best of each counts,
as the machine is never faster than it is.
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


_POLICY = """
import asyncio, json, sys, time
import benchmarks.{module} as rows
taken = []

def best(call, calls=400, rounds=60):
    for _ in range(calls):
        call()
    found = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        found = min(found, (time.process_time() - began) / calls)
    taken.append(found)
    sys.exit(print(json.dumps(taken)))

for name in ("best_us", "cost_of"):
    if hasattr(rows, name):
        setattr(rows, name, lambda call, calls: best(call))
rows.{row}(True)
"""

_GRPC = """
import json, sys, time
import grpc, meshlib
port, calls, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def measure(call):
    for _ in range(calls):
        call(b"x" * 1024, timeout=5)
    began = time.thread_time()
    for _ in range(calls):
        call(b"x" * 1024, timeout=5)
    return (time.thread_time() - began) / calls

mesh, bare = meshlib.Mesh.from_resources(json.loads(sys.stdin.read()), seed=1), grpc.insecure_channel(f"127.0.0.1:{port}")
with mesh, bare:
    ways = [channel.unary_unary(METHOD) for channel in (bare, mesh.grpc_channel("reviews:9080"))]
    turns = [[measure(way) for way in ways] for _ in range(rounds)]
    print(json.dumps([min(turn[which] for turn in turns) for which in (0, 1)]))
"""


def against_base(quick: bool) -> list[Row]:
    """This tree against the one that ``MESHLIB_BENCH_BASE`` names: a call over HTTP/2, and the policies of calls."""
    base = os.environ.get("MESHLIB_BENCH_BASE", "")
    if not base:
        return [Row("this tree against another", 0.0, "", details="not measured: MESHLIB_BENCH_BASE names none")]
    trees = Path(base).resolve(), Path(__file__).resolve().parent.parent
    return [
        _over_http2(*trees, quick),
        _policy("HTTP", "rows", "policy_cost", *trees, quick),
        _policy("gRPC", "grpc_rows", "grpc_cost", *trees, quick),
        _grpc_call(*trees, quick),
    ]


def _policy(kind: str, module: str, row: str, base: Path, this: Path, quick: bool) -> Row:
    """CPU of what the rows "policy cost" measure: this tree's over the base's."""
    program = _POLICY.format(module=module, row=row)
    turns = [[_printed(tree, program)[0] for tree in (base, this)] for _ in range(3 if quick else 8)]
    before, now = (min(turn[which] for turn in turns) for which in (0, 1))
    each = ", ".join(f"{turn[1] / turn[0]:.2f}" for turn in turns)
    details = f"{now * 1e6:.1f} us against {before * 1e6:.1f} us; turn by turn {each}"
    return Row(f"policy cost of one {kind} call, this tree / base", now / before, "x", 0.85, details=details)


def _grpc_call(base: Path, this: Path, quick: bool) -> Row:
    """CPU of the calling thread that a unary call over the network takes beyond one of bare grpcio, in the same process: this
    tree's over the base's. ``_policy`` has channels that respond in Python, so that no tree takes its way through gRPC core."""
    from benchmarks.grpc_backend import UNARY

    program = _GRPC.replace("METHOD", repr(UNARY))
    turns = []
    with backend("benchmarks.grpc_backend") as (port, _):
        resources = json.dumps(synthetic.grpc_reviews(port))
        for _ in range(3 if quick else 8):
            arguments = str(port), "300", "5" if quick else "15"
            turns.append([_printed(tree, program, *arguments, given=resources) for tree in (base, this)])
    (before, bare_before), (now, bare_now) = (
        (min(turn[which][1] for turn in turns), min(turn[which][0] for turn in turns)) for which in (0, 1)
    )
    each = ", ".join(f"{(new[1] - new[0]) / (old[1] - old[0]):.2f}" for old, new in turns)
    details = (
        f"{(now - bare_now) * 1e6:.0f} us beyond bare grpcio's {bare_now * 1e6:.0f} us against "
        f"{(before - bare_before) * 1e6:.0f} us beyond {bare_before * 1e6:.0f} us; turn by turn {each}"
    )
    ratio = (now - bare_now) / (before - bare_before)
    return Row("one gRPC call in threads beyond bare grpcio, this tree / base", ratio, "x", 0.85, details=details)


def _over_http2(base: Path, this: Path, quick: bool) -> Row:
    """CPU of a call of ``mesh.async_client()`` over HTTP/2 at 32 in flight, end to end: the base's over this tree's."""
    best = [float("inf"), float("inf")]
    ratios = []
    with backend("benchmarks.http2_backend") as (port, _):
        resources = json.dumps(synthetic.reviews(port, protocol="http2"))
        for _ in range(3 if quick else 6):
            arguments = "640", "8" if quick else "12"
            turn = [min(_printed(tree, _CALLS, *arguments, given=resources)) for tree in (base, this)]
            best = [min(before, now) for before, now in zip(best, turn, strict=True)]
            ratios.append(turn[0] / turn[1])
    each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    return Row(
        "HTTP/2 at 32 in flight, CPU of a call, base / this tree",
        best[0] / best[1],
        "x",
        5.0,
        lower_is_better=False,
        details=f"{best[0] * 1e6:.0f} us against {best[1] * 1e6:.0f} us; turn by turn {each}",
    )


def _printed(tree: Path, program: str, *arguments: str, given: str = "") -> list[float]:
    """What a program prints that runs in a process on its own, with the modules of ``tree``."""
    out = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
    ).stdout
    found: list[float] = json.loads(out)
    return found
