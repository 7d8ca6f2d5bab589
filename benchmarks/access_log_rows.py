"""What an access log to a file adds to a call, in ``json.loads`` of a small document: to a call that a client makes (all that
is done for its line), and to a request that an ASGI application serves (with the log and without it, in turn). Rounds are
short, so the thread that writes is not part of them: what it does for each line is measured by itself. What the whole process
pays, of calls as they come, is told by ``access_log_whole_rows.py``.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.access_log_whole_rows import LINES, mesh_with, own, serving
from benchmarks.measure import Row, Unit
from meshlib.engine.call import Call
from meshlib.telemetry.access_log.file_output import FileOutput

TARGET = 2.0


def access_log(quick: bool) -> list[Row]:
    """See above. ``unique``: each call has a target, a request id and a user agent of its own."""
    rounds = 400 if quick else 3000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "access.log"
        calls = {"alike": _calls(path), "unique": _calls(path, unique=True)}
        forms = {
            "a call (text)": ("text", "alike"),
            "a call (Envoy's format)": ("envoy", "alike"),
            "a call (text, unique)": ("text", "unique"),
            "a call (JSON)": ("json", "alike"),
            "a call (JSON, unique)": ("json", "unique"),
        }
        ways = {name: _lines(path, form, calls[kind]) for name, (form, kind) in forms.items()}
        more = {
            "loop": _loop(),
            "no log": _application(None, None),
            "a request served (text)": _application(path, "text"),
            "writing": _writing(path),
        }
        best, unit = _best({**ways, **more}, rounds)
    writing = best.pop("writing") / LINES
    nothing, loop = best.pop("no log"), best.pop("loop")
    rows = []
    for name in (*forms, "a request served (text)"):
        added = (best[name] - (nothing if "served" in name else loop)) / 25 + writing
        details = f"{added:.2f} us, of which writing {writing:.2f} us; json.loads {unit:.2f} us"
        target = None if "served" in name else TARGET
        rows.append(Row(f"access log to a file adds to {name}", added / unit, "x", target, details=details))
    return rows


def _best(ways: dict[str, Callable[[], None]], rounds: int) -> tuple[dict[str, float], float]:
    """Microseconds of each, the best of rounds taken in turn, and the unit."""
    unit, best, clock = Unit(), dict.fromkeys(ways, float("inf")), time.perf_counter
    for way in ways.values():
        for _ in range(20):
            way()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                began = clock()
                way()
                best[name] = min(best[name], (clock() - began) * 1e6)
            unit.take(25)
    finally:
        gc.enable()
    return best, unit.us


def _calls(path: Path, unique: bool = False) -> list[Call]:
    """25 calls that were made while there was a log."""
    mesh = mesh_with(path, "text", 9080)
    calls: list[Call] = []
    watcher = mesh._core.telemetry
    ended = watcher.ended

    def keep(call: Any, span: Any) -> None:
        calls.append(call)
        ended(call, span)

    watcher.ended = keep  # type: ignore[method-assign]
    transport = mesh.http_transport(httpx.MockTransport(lambda _: httpx.Response(200, content=b"{}")))
    with httpx.Client(transport=transport, base_url="http://reviews:9080") as client:
        for n in range(40):
            target, request_id, agent = own(n, unique)
            client.get(target, headers={"x-request-id": request_id, "user-agent": agent})
    return calls[-25:]


def _lines(path: Path, form: str, calls: list[Call]) -> Callable[[], None]:
    """25 lines of calls that were made."""
    mesh = mesh_with(path, form, 9080)
    logs = mesh._core.telemetry._logs
    assert logs is not None
    turn = itertools.cycle(calls)
    now, write = mesh._core.clock.monotonic, logs.write

    def run() -> None:
        for _ in range(25):
            write(next(turn), now(), None)

    return run


def _loop() -> Callable[[], None]:
    """What 25 rounds of ``_lines`` do without a line: the time that a call ended is taken for its metrics as well."""
    turn, now = itertools.cycle(range(25)), time.monotonic

    def run() -> None:
        for _ in range(25):
            next(turn), now()

    return run


def _application(path: Path | None, form: str | None) -> Callable[[], None]:
    """25 requests to an ASGI application."""
    serve, loop = serving(mesh_with(path, form, 9080)), asyncio.new_event_loop()
    return lambda: loop.run_until_complete(serve(range(25)))


def _writing(path: Path) -> Callable[[], None]:
    """``LINES`` lines as the thread in the background writes them."""
    output = FileOutput(str(path))
    lines = ["x" * 250 + "\n"] * LINES

    def run() -> None:
        output.write(lines, lambda: False)

    return run
