"""``python -m tests.istiod``: meshlib's decisions and verdicts against those that the real istiod gave.

The answers are data that lie beside the repository (``../shared/corpus/istiod``, or where MESHLIB_ISTIOD says), with the
rules to compare by: its ``judge_routes.py`` and ``judge_validation.py``. What may differ is ours to say, in
``accepted.txt``. Exit status 1 when anything else does. Without the data: says so, and 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meshlib import Mesh, Workload
from meshlib.errors import ConfigError
from meshlib.resources.loader import load_objects
from tests.istiod.tally import Accepted, Tally

HERE = Path(__file__).parent
ANSWERS = Path(os.environ.get("MESHLIB_ISTIOD") or HERE.parents[2] / "shared" / "corpus" / "istiod")
ROUTES = ("cases.jsonl.xz", "routes.jsonl.xz")
VERDICTS = "validation.jsonl.xz"
CHUNK = 25
"""Lines that a process is given at once."""


def judge(name: str) -> Any:
    """A module of the data's own folder, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ANSWERS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def judge_routes(lines: list[str]) -> Tally:
    """Calls of some meshes. Every deviation that the rules know is counted by its name; ``accepted.txt`` says which may be."""
    rules, tally = judge("judge_routes"), Tally()
    for entry in map(json.loads, lines):
        for client in entry["clients"]:
            workload = Workload(
                client["workload"],
                client["namespace"],
                client["labels"],
                locality=client.get("locality", ""),
                address=client["address"],
            )
            try:
                mesh = Mesh.from_resources(entry["resources"], workload=workload, **rules.AS_ISTIO)
            except ConfigError as problem:
                for call in client["calls"]:
                    tally.different(call["class"], "refused", f"{entry['id']} {str(problem)[:300]}")
                continue
            with mesh:
                for call in client["calls"]:
                    ours, theirs, settings = rules.ours_of(mesh, call, False), call["istio"], client["settings"]
                    wrong = rules.differences(theirs, ours, settings, False)
                    if not wrong:
                        tally.equal(call["class"])
                    elif why := rules.documented(theirs, ours, wrong, call, settings, entry["resources"]):
                        tally.documented(call["class"], why)
                    else:
                        asked = f"{call['method']} {call['url']} {call['headers'] or ''}"
                        tally.different(call["class"], ",".join(wrong), f"{entry['id']} {client['workload']} {asked}")
    return tally


def judge_verdicts(lines: list[str]) -> Tally:
    """Single resources. Stricter by codes that only the API server's own rules give (crd-*) counts as documented."""
    tally = Tally()
    for entry in map(json.loads, lines):
        kind, theirs = entry["resource"]["kind"], entry["istiod"]
        errors = load_objects([entry["resource"]]).errors
        codes = {"crd" if p.code.startswith("crd-") else p.code for p in errors}
        if bool(errors) != theirs["ok"]:
            tally.equal(kind)
        elif errors and codes <= Accepted.read(HERE / "accepted.txt").deviations:
            for code in sorted(codes)[:1]:
                tally.documented(kind, code)
        else:
            said = f"stricter: {errors[0].code}" if errors else "laxer"
            tally.different(kind, said, f"{entry['id']} {theirs.get('error', '')[:200]}")
    return tally


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
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for title, names, work in (("calls", ROUTES, judge_routes), ("verdicts", (VERDICTS,), judge_verdicts)):
            began, tally = time.monotonic(), Tally()
            for done, part in enumerate(pool.imap_unordered(work, chunks(names, options.mesh)), 1):
                tally.add(part)
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
