"""What a soak writes down, and reads again: calls as their callers saw them, executions as servers saw them, disturbances.

One JSON array a line, appended. All times are ``time.monotonic()``, which on Linux is the same clock in every process.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Call:
    """One call. ``ending`` is "" while it has none; ``answer`` is the id that the response carried; ``asked`` is what its
    caller wanted to go wrong; ``stage`` is "body" when it failed after its head had come; ``again`` counts second endings."""

    id: str
    begin: float
    runtime: str
    kind: str
    host: str
    asked: str = ""
    ending: str = ""
    end: float = 0.0
    answer: str = ""
    status: int = 0
    error: str = ""
    text: str = ""
    endpoint: str = ""
    flags: str = ""
    stage: str = ""
    again: int = 0


@dataclass(slots=True)
class Execution:
    """A request that a server has worked on. ``host`` is the authority that it was sent to."""

    id: str
    attempt: str
    host: str
    port: int
    at: float


@dataclass(slots=True)
class Disturbance:
    """A server that was killed, drained or paused, from just before until it served again; or ("idle-close") one that
    closed an idle connection, as servers may at any time."""

    kind: str
    port: int
    since: float
    until: float


@dataclass(slots=True)
class Child:
    """A forked child: its exit code, None when it had to be killed."""

    pid: int
    code: int | None
    seconds: float


@dataclass(slots=True)
class History:
    """Everything of a run that is judged by id."""

    calls: dict[str, Call] = field(default_factory=dict)
    executions: dict[str, list[Execution]] = field(default_factory=dict)
    disturbances: list[Disturbance] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what servers hold against the mesh's protocol


class Ledger:
    """Appends to a file, from any thread. A forked child opens one of its own."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1 << 16)
        self._lock = threading.Lock()

    def write(self, *entry: object) -> None:
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        with self._lock:
            self._file.write(line)

    def begin(self, call: str, runtime: str, kind: str, host: str, asked: str) -> None:
        self.write("b", call, time.monotonic(), runtime, kind, host, asked)

    def end(self, call: str, ending: str, **found: Any) -> None:
        self.write("e", call, time.monotonic(), ending, found)

    def flush(self) -> None:
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


def _lines(paths: Iterable[Path]) -> Iterator[list[Any]]:
    for path in paths:
        with path.open() as file:
            for line in file:
                if line.endswith("\n"):  # the last line of a process that was killed may be half written
                    yield json.loads(line)


def read(folder: Path) -> History:
    """The history of a run out of its folder."""
    found = History()
    calls = found.calls
    for kind, call, at, *rest in _lines(sorted(folder.glob("calls-*.jsonl"))):
        if kind == "b":
            runtime, what, host, asked = rest
            calls[call] = Call(call, at, runtime, what, host, asked)
            continue
        known = calls[call]
        if known.ending:
            known.again += 1
            continue
        known.ending, details = rest
        known.end = at
        for name, value in details.items():
            setattr(known, name, value)
    for name, *rest in _lines(sorted(folder.glob("server-*.jsonl"))):
        if name == "x":
            execution = Execution(*rest)
            found.executions.setdefault(execution.id, []).append(execution)
        elif name == "broken":
            found.broken.append(f"server {rest[0]} at {rest[1]:.3f}: {rest[2]}")
        else:
            port, at = rest
            found.disturbances.append(Disturbance(name, port, at, at))
    for entry in _lines(sorted(folder.glob("fleet*.jsonl"))):
        found.disturbances.append(Disturbance(*entry))
    for entry in _lines(sorted(folder.glob("children.jsonl"))):
        found.children.append(Child(*entry))
    return found
