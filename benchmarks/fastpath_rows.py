"""What a call through the mesh costs at 32 in flight, over bare aiohttp: CPU of the client's process, with every policy armed.

Client processes take turns (asyncio, uvloop, asyncio ...). In each, all ways are measured in short rounds, and a round's
figure is told over aiohttp's in that round; a row is the median of all rounds, with the quartiles. Memos must not flatter: the
rows "unique" meet a response head, or a URL and a head, that was never there before; they are told over aiohttp whose
responses are as unique and whose URL is the same.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import synthetic
from benchmarks.measure import Row
from benchmarks.processes import backend
from benchmarks.web_backend import SIZES, web_backend

LOOPS = ("asyncio", "uvloop")
UNIQUE = "aiohttp, unique heads"

TARGETS: dict[str, tuple[str, float | None]] = {
    "transport, reused Request": ("aiohttp", 0.65),
    "transport, fresh Request": ("aiohttp", 1.15),
    "transport, unique heads": (UNIQUE, 1.25),
    "async_client, same URL": ("aiohttp", 1.0),
    "async_client, headers per call": ("aiohttp", 1.1),
    "async_client, unique URLs and heads": (UNIQUE, 1.6),
    "pyreqwest": ("aiohttp", None),
}
"""What each way is told over, and the most it may cost; on asyncio."""


def fastpath(quick: bool) -> list[Row]:
    """See above."""
    missing = _missing()
    if missing:
        return [Row("CPU of a call over aiohttp", 0.0, "", details=f"not measured: {missing} is not installed")]
    turns, rounds, each = (1, 5, 5) if quick else (3, 25, 10)
    with web_backend() as (port, kind):
        found = _measured(turns, {"each": each, "rounds": rounds, "bodies": False}, port, 0)
    rows = []
    for loop, ways in found.items():
        for way, (base, target) in TARGETS.items():
            if way in ways:
                row = _row(way, loop, ways, base, target if loop == "asyncio" else None)
                row.details += f"; {kind}"
                rows.append(row)
    return rows


def fastpath_bodies(quick: bool) -> list[Row]:
    """Bodies of 1 kB, 64 kB and 1 MB both ways through ``mesh.async_client()``, likewise; 1 MB is 32 at a time, too."""
    missing = _missing()
    if missing:
        return [Row("CPU of a body over aiohttp", 0.0, "", details=f"not measured: {missing} is not installed")]
    turns, rounds, each = (1, 3, 1) if quick else (2, 15, 2)
    with web_backend() as (port, _), backend() as (upload, _):
        found = _measured(turns, {"each": each, "rounds": rounds, "bodies": True}, port, upload)
    return [
        _row(f"async_client, {size} bytes {way}", loop, ways, f"aiohttp, {size} bytes {way}", None)
        for loop, ways in found.items()
        for size in SIZES
        for way in ("down", "up")
    ]


def _missing() -> str:
    return next((name for name in ("aiohttp",) if importlib.util.find_spec(name) is None), "")


def _measured(turns: int, asked: dict[str, object], web: int, upload: int) -> dict[str, dict[str, list[float]]]:
    """By loop and way, the figures of all rounds; client processes alternated."""
    found: dict[str, dict[str, list[float]]] = {}
    loops = [loop for loop in LOOPS if loop == "asyncio" or importlib.util.find_spec(loop) is not None]
    asked |= {
        "ports": {"web": web, "upload": upload},
        "web": synthetic.reviews(web),
        "upload": synthetic.reviews(upload) if upload else None,
    }
    for _ in range(turns):
        for loop in loops:
            ways = found.setdefault(loop, {})
            for way, taken in _client({**asked, "loop": loop}).items():
                ways.setdefault(way, []).extend(taken)
    return found


def _client(asked: dict[str, object]) -> dict[str, list[float]]:
    """What one client process has measured. Raises RuntimeError with what it said when it failed."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.fastpath_client"], input=json.dumps(asked), capture_output=True, text=True
    )
    if ended.returncode:
        raise RuntimeError(f"the client process failed:\n{ended.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(ended.stdout)
    return found


def _row(way: str, loop: str, ways: dict[str, list[float]], base: str, target: float | None) -> Row:
    ratios = over(ways[way], ways[base])
    low, value, high = statistics.quantiles(ratios, n=4)
    us, base_us = statistics.median(ways[way]), statistics.median(ways[base])
    return Row(
        f"CPU over aiohttp, {way}{' (uvloop)' if loop == 'uvloop' else ''}",
        value,
        "x",
        target,
        details=f"{low:.2f} to {high:.2f}; {us:.0f} us against {base_us:.0f} us",
        extra={"low": low, "high": high, "us": us, "base_us": base_us},
    )


def over(taken: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round."""
    return [mine / theirs for mine, theirs in zip(taken, base, strict=True)]
