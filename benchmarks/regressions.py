"""``python -m benchmarks.regressions [BASE]``: has a mechanism of policy become dearer than in BASE (the parent commit)?

BASE is checked out into a folder of its own, and both trees are measured by this tree's ``mechanisms.py``, in processes that
take turns. Verdicts, each red (exit code 1) at +20 %:

- steps of bytecode, exact on any machine: what CI goes by. They leave out what C code does.
- CPU time, where the spreads do not overlap: what a developer goes by (``--steps`` leaves it out).
- instructions of the processor, with ``--callgrind`` (minutes; of what needs no mesh): valgrind counts them, C code's among
  them, and finds the same number in each run of one build of Python.

``instructions.json`` keeps the counts of the last time that somebody looked, by version of Python: ``--store`` writes it. A
change of more than 5 % against them is told, and no failure; who makes a mechanism dearer on purpose keeps the new count in the
same commit, and it is not red. Exit code 2: a BASE that was named cannot be had, or this tree cannot be measured; without a
parent commit (a shallow clone, an sdist) there is nothing to compare: that is said, and no failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.mechanisms import WITHOUT_A_MESH
from meshlib.bench.spread import apart, change

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "benchmarks" / "mechanisms.py"
STORED = ROOT / "benchmarks" / "instructions.json"
RED = 1.20
TOLD = 0.05
ROUNDS = 8
INSTRUCTIONS = "instructions"
LOOPS = (500, 1_500)
"""Calls of the two runs below callgrind."""
LONG = 600
"""Seconds that a process may take on a busy machine."""

Found = dict[str, dict[str, Any]]
"""By mechanism: ``steps``, ``us`` or ``error``, as ``mechanisms.py`` prints them."""


class NoBase(Exception):
    """The commit to compare with cannot be had: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One mechanism: ``before`` and ``after`` in ``unit``, medians where there are several."""

    name: str
    unit: str
    before: float
    after: float
    red: bool
    told: str = ""

    def __str__(self) -> str:
        times = f"x {self.after / self.before:.2f}" if self.before else ""
        mark = "RED" if self.red else ""
        figures = f"{self.before:>10.2f} {self.after:>10.2f} {self.unit:<12} {times:<8}"
        return f"{self.name:<40} {figures} {mark:<4}{self.told}".rstrip()


def judge_steps(before: Found, after: Found, kept: dict[str, float], unit: str = "steps") -> list[Judged]:
    """By an exact count, of what both trees have. What is a fifth dearer and kept so has been looked at: told, not red."""
    made = []
    for name, found in after.items():
        was, now = before.get(name, {}).get(unit), found.get(unit)
        if was and now:
            dearer = now > was * RED
            known = dearer and name in kept and abs(now / kept[name] - 1) <= TOLD
            told = "  (a fifth dearer, and kept so in instructions.json)" if known else ""
            made.append(Judged(name, unit, was, now, dearer and not known, told))
    return made


def judge_times(before: list[Found], after: list[Found]) -> list[Judged]:
    """By CPU time: red where it is a fifth more, and the spreads do not overlap."""
    made = []
    for name in after[0] if after else ():
        was, now = ([found[name]["us"] for found in turns if "us" in found.get(name, {})] for turns in (before, after))
        if was and now:
            found = change(was, now)
            differs = apart(was, now) and min(now) > max(was)
            told = (
                "" if differs or found.ratio <= RED else "  (the spreads overlap: no verdict; more --rounds may tell)"
            )
            made.append(Judged(name, "us", _median(was), _median(now), found.ratio > RED and differs, told))
    return made


def missing(before: Found, after: Found) -> list[str]:
    """What cannot be compared, and why, in sentences."""
    told = []
    for name, found in after.items():
        if "error" in found:
            told.append(f"{name}: this tree cannot be measured: {found['error']}")
        elif "error" in before.get(name, {}):
            told.append(f"{name}: the base cannot be measured ({before[name]['error']}): not compared")
    return told


def against_stored(found: Found, stored: dict[str, dict[str, float]], python: str) -> list[str]:
    """What is more than 5 % off what is kept for this version of Python, in sentences."""
    kept = stored.get(python)
    if kept is None:
        return [f"no steps are kept for Python {python} (there are: {', '.join(sorted(stored)) or 'none'})"]
    told = []
    for name, each in found.items():
        was, now = kept.get(name), each.get("steps")
        if was is None or now is None:
            told.append(f"{name}: {'no steps are kept' if was is None else 'could not be measured'}")
        elif abs(now / was - 1) > TOLD:
            told.append(f"{name}: {now:.1f} steps, {now / was - 1:+.0%} against the {was:.1f} that are kept")
    return told + [f"{name}: is kept, and is no mechanism any more" for name in kept if name not in found]


def python_version() -> str:
    """Steps are the same for each of these."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def build() -> str:
    """Instructions are the same for each of these, as long as libraries in C are."""
    return f"callgrind, {platform.python_version()}, {platform.machine()}"


def load_stored(file: Path = STORED) -> dict[str, dict[str, float]]:
    """By version of Python and mechanism; empty where there is no file yet."""
    if not file.exists():
        return {}
    found: dict[str, dict[str, float]] = json.loads(file.read_text())
    return found


def store(found: Found, file: Path = STORED, unit: str = "steps", under: str = "") -> None:
    """Keep the counts of this version of Python beside those of others."""
    kept = load_stored(file)
    kept[under or python_version()] = {name: round(each[unit], 1) for name, each in found.items() if unit in each}
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def checked_out(base: str, root: Path = ROOT) -> Iterator[Path]:
    """The base as a tree of its own, which is gone with the block.

    Raises:
        NoBase: there is no such commit here (a shallow clone has no parents), or no git
    """
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}").strip()
    except FileNotFoundError:
        raise NoBase("there is no git: install it, or compare by hand with benchmarks/instructions.json") from None
    except subprocess.CalledProcessError:
        shallow = "true" in _said(root, "rev-parse", "--is-shallow-repository")
        inside = "true" in _said(root, "rev-parse", "--is-inside-work-tree")
        if not inside:
            raise NoBase(f"{root} is no clone of git (an sdist?): there is nothing to compare with") from None
        why = "this clone is shallow: git fetch --deepen=1" if shallow else "name another commit"
        raise NoBase(f"there is no commit {base} here; {why}") from None
    with tempfile.TemporaryDirectory(prefix="meshlib-base-") as temporary:
        tree = Path(temporary) / "base"
        # an archive, not a worktree: nothing is left in the repository, whatever ends this process
        with subprocess.Popen(
            ["git", "-C", str(root), "archive", commit, "meshlib"], stdout=subprocess.PIPE
        ) as archive:
            tree.mkdir()
            subprocess.run(["tar", "-x", "-C", str(tree)], stdin=archive.stdout, check=True)
        if archive.returncode:
            raise NoBase(f"git archive of {commit} failed with exit code {archive.returncode}")
        yield tree


def run(tree: Path, *options: str) -> Found:
    """Measure a tree in a process of its own. CalledProcessError: the process failed; what it said is on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    # not from the root of this tree: its meshlib would come first
    said = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), *options],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LONG,
    ).stdout
    found: Found = json.loads(said)
    return found


def compare(base: Path, this: Path, rounds: int, say: Callable[[str], None]) -> tuple[list[Judged], Found]:
    """Both trees: verdicts by steps, and with ``rounds`` by time, in processes that take turns; and this tree's steps."""
    before, after = run(base, "--steps"), run(this, "--steps")
    for told in missing(before, after):
        say(told)
    judged = judge_steps(before, after, load_stored().get(python_version(), {}))
    turns: tuple[list[Found], list[Found]] = [], []
    for _ in range(rounds):
        for tree, taken in ((base, turns[0]), (this, turns[1])):
            taken.append(run(tree, "--time"))
    return judged + judge_times(*turns), after


def instructions(tree: Path, names: Sequence[str], say: Callable[[str], None]) -> Found:
    """What the processor does in a call, by callgrind: the difference of two runs of different length.

    OSError, subprocess.SubprocessError: there is no valgrind, or it fails."""
    found: Found = {}
    for name in names:
        counts = [_collected(tree, name, calls) for calls in LOOPS]
        found[name] = {INSTRUCTIONS: (counts[1] - counts[0]) / (LOOPS[1] - LOOPS[0])}
        say(f"{name}: {found[name][INSTRUCTIONS]:,.0f} instructions")
    return found


def _collected(tree: Path, name: str, calls: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-P", str(PROGRAM)]
    if shutil.which("setarch"):  # where things lie in memory decides a little, too
        command = ["setarch", platform.machine(), "-R", *command]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    said = subprocess.run(
        [*command, "--loop", name, str(calls)],
        cwd=tree, env=environment, capture_output=True, text=True, check=True, timeout=LONG,
    ).stderr  # fmt: skip
    return int(said.rpartition("Collected : ")[2].split()[0])


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    return (ordered[len(ordered) // 2] + ordered[(len(ordered) - 1) // 2]) / 2


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout


def _said(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False).stdout


@click.command()
@click.argument("base", default="")
@click.option("--steps", "only_steps", is_flag=True, help="No times: what CI goes by.")
@click.option("--rounds", type=click.IntRange(4), default=ROUNDS, show_default=True, help="Times each tree is timed.")
@click.option("--callgrind", is_flag=True, help="Count the processor's instructions as well (some minutes).")
@click.option("--store", "stored", is_flag=True, help="Keep this tree's counts in benchmarks/instructions.json.")
def main(base: str, only_steps: bool, rounds: int, callgrind: bool, stored: bool) -> None:
    """Compare the mechanisms of this tree with those of BASE (default: HEAD^, the parent commit). Exit code 0: none is a fifth
    dearer, or there is no parent commit; 1: some are; 2: BASE cannot be had, or this tree cannot be measured."""
    if callgrind and shutil.which("valgrind") is None:
        raise click.UsageError("--callgrind: there is no valgrind on PATH; install it, or leave the option out")
    if stored:
        _store_all(callgrind)
        return
    named, base = base, base or "HEAD^"
    try:
        with checked_out(base) as tree:
            judged, found = compare(tree, ROOT, 0 if only_steps else rounds, print)
            if callgrind:
                names = [each.name for each in judged if each.unit == "steps" and each.name in WITHOUT_A_MESH]
                counts = [instructions(each, names, print) for each in (tree, ROOT)]
                judged += judge_steps(*counts, load_stored().get(build(), {}), INSTRUCTIONS)
    except NoBase as error:
        print(f"NOT COMPARED with {base}: {error}", file=sys.stderr)
        raise SystemExit(2 if named else 0) from None
    except subprocess.SubprocessError as error:
        print(f"NOT COMPARED with {base}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    _show(base, judged, found)


def _store_all(callgrind: bool) -> None:
    found = run(ROOT, "--steps")
    store(found)
    if callgrind:
        store(instructions(ROOT, WITHOUT_A_MESH, print), STORED, INSTRUCTIONS, build())
    print(f"kept in {STORED.relative_to(ROOT)}: {len(found)} mechanisms, Python {python_version()}")


def _show(base: str, judged: list[Judged], found: Found) -> None:
    print(f"{'':<40} {base[:10]:>10} {'this tree':>10}")
    for each in judged:
        print(each)
    for told in against_stored(found, load_stored(), python_version()):
        print(f"note: {told} (python -m benchmarks.regressions --store keeps today's)")
    red = [each for each in judged if each.red]
    failed = [name for name, each in found.items() if "error" in each]
    if red:
        print(f"RED: {', '.join(f'{each.name} ({each.unit})' for each in red)}: a fifth dearer than {base}")
    raise SystemExit(1 if red else 2 if failed else 0)


if __name__ == "__main__":
    main()
