"""``python -m tests.istiod``: meshlib's decisions and verdicts against those that the real istiod gave.

The answers are data that lie beside the repository (``../shared/corpus/istiod``, or where MESHLIB_ISTIOD says), with the
rules to compare by: its ``judge_routes.py`` and ``judge_validation.py``. What may differ is ours to say, in
``accepted.txt``. Exit status 1 when anything else does. Without the data: says so, and 0.
"""

from __future__ import annotations

import argparse
import lzma
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.istiod.judges import ANSWERS, HERE, judge_routes, judge_verdicts
from tests.istiod.tally import Accepted, Tally

ROUTES = ("cases.jsonl.xz", "routes.jsonl.xz")
VERDICTS = "validation.jsonl.xz"
CHUNK = 25
"""Lines that a process is given at once."""


def chunks(names: tuple[str, ...], only: str) -> Iterator[list[str]]:
    held: list[str] = []
    for name in names:
        with lzma.open(ANSWERS / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                if only and f'"id":"{only}"' not in line[:80].replace(" ", ""):
                    continue
                held.append(line)
                if len(held) == CHUNK:
                    yield held
                    held = []
    if held:
        yield held


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.istiod", description="meshlib against istiod's answers")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--mesh", default="", help="one mesh or resource, by id")
    parser.add_argument("--show", type=int, default=10, help="differences to name (default: 10)")
    options = parser.parse_args()
    missing = [name for name in (*ROUTES, VERDICTS) if not (ANSWERS / name).is_file()]
    if missing:
        say(f"SKIPPED: istiod's answers are not there ({', '.join(missing)} in {ANSWERS}); nothing was compared")
        return 0
    accepted, wrong = Accepted.read(HERE / "accepted.txt"), []
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for title, names, work in (("calls", ROUTES, judge_routes), ("verdicts", (VERDICTS,), judge_verdicts)):
            began, tally = time.monotonic(), Tally()
            parts = [pool.submit(work, lines) for lines in chunks(names, options.mesh)]
            for done, part in enumerate(as_completed(parts), 1):
                tally.add(part.result())
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{title}: {done * CHUNK} entries judged")
            if sys.stderr.isatty():
                sys.stderr.write("\r\033[K")
            for line in tally.table():
                say(line)
            say(f"{title}: {time.monotonic() - began:.0f} s\n")
            for example in sorted(tally.examples)[: options.show]:
                say(f"  {example}")
            wrong += tally.over(accepted)
    for sentence in wrong:
        say(f"NOT ACCEPTED  {sentence}")
    if wrong:
        say("a difference is mended, or made a row of docs/parity.md and named in tests/istiod/accepted.txt")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
