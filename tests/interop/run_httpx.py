"""httpx's own tests, once on httpx's transports and once through the mesh: ``make interop HTTPX_TESTS=dir``.

``dir`` is the folder ``tests`` of httpx (it is in the sdist: ``pip download --no-deps --no-binary :all: httpx==X``), or the one
above it. What fails only through the mesh must be in ``httpx_not_applicable.txt``, with the reason, and what is in there must
fail; else the run fails. What fails on httpx's own transports too (another version of a library, no network) does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE / "httpx_not_applicable.txt"


def read_list(text: str) -> tuple[dict[str, str], set[str]]:
    """Reason by test, and the tests whose outcome is a matter of time. A reason stands above its tests, after ``#``; ``~`` in
    front of a test: it may pass, too."""
    reasons: dict[str, str] = {}
    either: set[str] = set()
    reason = ""
    fresh = False
    for line in text.splitlines():
        entry = line.strip()
        if entry.startswith("#"):
            reason = f"{reason} {entry[1:].strip()}" if fresh else entry[1:].strip()
            fresh = True
        elif entry:
            test = entry.removeprefix("~").strip()
            if not reason:
                raise ValueError(f"{LIST.name}: {test} has no reason above it")
            reasons[test] = reason
            fresh = False
            if entry.startswith("~"):
                either.add(test)
    return reasons, either


def verdict(
    bare: Mapping[str, str], ours: Mapping[str, str], listed: Iterable[str], either: Iterable[str]
) -> tuple[list[str], list[str], list[str]]:
    """Tests that fail only through the mesh and are not listed; listed ones that pass; listed ones that do not exist."""
    passed = {test for test, outcome in bare.items() if outcome == "passed"}
    known, loose = set(listed), set(either)
    failed = {test for test in passed if ours.get(test) != "passed"}
    return (
        sorted(failed - known),
        sorted(test for test in known - loose if test in passed and test not in failed),
        sorted(known - set(bare)),
    )


def run(root: Path, plugins: list[str], folder: Path, name: str) -> dict[str, str]:
    """Outcome by test."""
    into = folder / name
    environment = dict(os.environ)
    environment["OUTCOMES"] = str(into)
    path = [str(HERE), *filter(None, [environment.get("PYTHONPATH", "")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    options = ["-q", "--no-header", "-o", "addopts=", "-W", "ignore", "-p", "no:cacheprovider", "--tb=no", "-r", "N"]
    for plugin in ["outcomes", *plugins]:
        options += ["-p", plugin]
    print(f"httpx's tests, {name} ...", flush=True)
    subprocess.run([sys.executable, "-m", "pytest", *options, "tests"], cwd=root, env=environment, check=False)
    outcomes: dict[str, str] = json.loads(into.read_text())
    return outcomes


def main() -> int:
    """0 when all is as listed."""
    where = os.environ.get("HTTPX_TESTS", "")
    if not where:
        print("SKIPPED: httpx's own tests. Give HTTPX_TESTS=dir, the folder tests of httpx's sdist, to run them.")
        return 0
    root = Path(where).resolve()
    root = root.parent if (root / "conftest.py").exists() else root
    if not (root / "tests" / "conftest.py").exists():
        print(f"HTTPX_TESTS={where}: there is no conftest.py of httpx's tests in it, nor in a folder tests below")
        return 2
    reasons, either = read_list(LIST.read_text())
    with tempfile.TemporaryDirectory() as folder:
        bare = run(root, [], Path(folder), "on its own transports")
        ours = run(root, ["httpx_through_mesh"], Path(folder), "through the mesh")
    new, obsolete, gone = verdict(bare, ours, reasons, either)
    passed = sum(1 for outcome in bare.values() if outcome == "passed")
    same = sum(1 for test, outcome in bare.items() if outcome == "passed" and ours.get(test) == "passed")
    print(f"{passed} tests pass on httpx's own transports, {same} of them through the mesh too")
    for title, tests in (
        ("fail only through the mesh and are not listed", new),
        (f"are listed in {LIST.name} and pass: take them out", obsolete),
        (f"are listed in {LIST.name} and do not exist", gone),
    ):
        if tests:
            print(f"{len(tests)} {title}:", *tests, sep="\n  ")
    return 1 if new or obsolete or gone else 0


if __name__ == "__main__":
    sys.exit(main())
