"""Which of many inputs are worth keeping: the smallest that together reach all lines that all reach."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

LARGEST = 1500  # bytes of a kept input
MOST = 60  # of a target

Step = tuple[str, int, int]


def reached(run: Callable[[bytes], None], data: bytes) -> set[Step]:
    """The steps from line to line that an input takes in meshlib."""
    steps: set[Step] = set()

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        if "/meshlib/" not in frame.f_code.co_filename:
            return None
        before = frame.f_lineno
        name = frame.f_code.co_filename

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            steps.add((name, before, frame.f_lineno))
            before = frame.f_lineno
            return line

        return line

    sys.settrace(watch)
    try:
        with contextlib.suppress(AssertionError):
            run(data)
    finally:
        sys.settrace(None)
    return steps


def keep(run: Callable[[bytes], None], corpus: Path, growing: Path) -> str:
    """Add to ``corpus`` what of ``growing`` goes where nothing kept goes, the most new steps first; seeds are never removed."""
    run(b"")  # imports and caches, which the first input would seem to reach
    corpus.mkdir(parents=True, exist_ok=True)
    covered: set[Step] = set()
    files = sorted(corpus.iterdir())
    for file in files:
        covered |= reached(run, file.read_bytes())
    candidates = {}
    for file in sorted(growing.iterdir(), key=lambda f: (f.stat().st_size, f.name)):
        if file.stat().st_size <= LARGEST and not file.name.startswith(("crash-", "timeout-", "oom-", "slow-unit-")):
            new = reached(run, file.read_bytes()) - covered
            if new:
                candidates[file] = new
    added = 0
    while candidates and len(files) + added < MOST:
        best = max(candidates, key=lambda f: len(candidates[f]) / (50 + f.stat().st_size))
        (corpus / best.name[:12]).write_bytes(best.read_bytes())
        covered |= candidates.pop(best)
        candidates = {file: left for file, new in candidates.items() if (left := new - covered)}
        added += 1
    return f"{len(files)} + {added} inputs, {len(covered)} steps"
