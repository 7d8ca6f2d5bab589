"""``python -m tests.soak --minutes M --seed S``: everything at once for M minutes, then a verdict. Exit status 1 when
anything is wrong. Linux only (/proc).

Three kinds of processes: the servers (``endpoint.py``), which this one kills, drains and pauses; the callers with the mesh
(``client.py``); and this one, which edits the mesh's files meanwhile and judges (``judge.py``) by what all have written down.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.soak import history, judge
from tests.soak.config import Files
from tests.soak.fleet import Fleet
from tests.soak.judge import MIB

PATIENCE = 400.0
"""Seconds until the callers, told to begin or to end a part, must have done so; they give up on their own before."""
STANDSTILL = 60.0
SLOPE_FROM = 3.0
"""Minutes from which the slope of memory is a verdict. Caches, pools and the allocator's arenas fill up in the first
minutes of any program, and that cannot be told from a leak before."""
SHOWN = 5


def say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")
    sys.stdout.flush()


class Callers:
    """The client process."""

    def __init__(self, folder: Path, ports: dict[str, list[int]], seed: int) -> None:
        self.log = folder / "client.err"
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-X",
                    "faulthandler",
                    "-m",
                    "tests.soak.client",
                    str(folder),
                    json.dumps(ports),
                    str(seed),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            )
        self._said: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        self.samples: list[list[float]] = []
        self.problems: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            what, *rest = json.loads(line)
            if what == "sample":
                self.samples.append(rest)
            elif what == "problem":
                self.problems.append(rest[0])
            else:
                self._said.put([what, *rest])
        self._said.put(None)

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, what: str) -> list[Any]:
        """What comes next, which must be ``what``. Raises TimeoutError and RuntimeError."""
        try:
            said = self._said.get(timeout=PATIENCE)
        except queue.Empty:
            self.process.send_signal(signal.SIGUSR1)  # all stacks, into its log
            time.sleep(2)
            raise TimeoutError(
                f"the callers have not come to {what!r} in {PATIENCE:.0f} s; their stacks are in {self.log}"
            ) from None
        if said is None or said[0] != what:
            raise RuntimeError(f"the callers said {said!r} where {what!r} was to come; see {self.log}")
        return said[1:]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Report:
    """Figures and verdicts."""

    def __init__(self) -> None:
        self.figures: list[tuple[str, object]] = []
        self.wrong: list[str] = []

    def figure(self, name: str, value: object) -> None:
        self.figures.append((name, value))

    def verdict(self, name: str, found: list[str]) -> None:
        self.figure(name, len(found) if found else "0, as it must be")
        self.wrong += [f"{name}: {one}" for one in found[:SHOWN]]
        if len(found) > SHOWN:
            self.wrong.append(f"{name}: and {len(found) - SHOWN} more")

    def print(self) -> int:
        width = max(len(name) for name, _ in self.figures)
        for name, value in self.figures:
            say(f"  {name.ljust(width)}  {value}")
        for line in self.wrong:
            say("WRONG", line)
        say("the soak failed" if self.wrong else "the soak is clean")
        return 1 if self.wrong else 0


def progress(began: float, minutes: float, callers: Callers, fleet: Fleet, files: Files) -> None:
    left = max(0.0, began + minutes * 60 - time.monotonic())
    line = f"{left:4.0f} s left"
    if callers.samples:
        _, memory, descriptors, threads, native, objects, reloads, in_use = callers.samples[-1]
        line += (
            f"; {memory / MIB:.1f} MB ({in_use / MIB:.1f} from malloc), {descriptors:.0f} descriptors, "
            f"{threads:.0f} threads ({native:.0f} native), {objects:,.0f} blocks, {reloads:.0f} reloads"
        )
    disturbed = ", ".join(f"{n} {kind}s" for kind, n in fleet.counts.items())
    say(f"{line}; {files.generation} edits and {files.broken} broken ones; {disturbed}")


def storm(minutes: float, callers: Callers, fleet: Fleet, files: Files) -> None:
    """The time of the soak."""
    began = time.monotonic()
    every = 5.0 if sys.stdout.isatty() else 30.0
    callers.tell("storm")
    fleet.disturb()
    files.edit()
    shown = began
    while time.monotonic() < began + minutes * 60 and callers.process.poll() is None:
        time.sleep(0.1)
        if time.monotonic() - shown >= every:
            shown = time.monotonic()
            progress(began, minutes, callers, fleet, files)
    files.rest()
    fleet.calm()
    callers.tell("calm")


def soak(minutes: float, seed: int, folder: Path) -> int:
    report = Report()
    with Fleet(folder, seed) as fleet:
        files = Files(folder / "mesh", fleet.ports, seed)
        callers = Callers(folder, fleet.ports, seed)
        try:
            untouched, idle = callers.hear("idle")
            say(
                f"seed {seed}; idle: {sum(n for name, n in idle.items() if name.startswith('descriptor'))} descriptors, "
                f"{sum(n for name, n in idle.items() if name.startswith('thread'))} threads; the storm begins"
            )
            storm(minutes, callers, fleet, files)
            callers.hear("calm")
            (folder / "generation").write_text(str(files.generation))
            callers.tell("quiet")
            (grown,) = callers.hear("grown")
            report.figure("objects more than before", ", ".join(f"{n:,} {kind}" for kind, n in grown))
            for name in ("leaks", "leaks after close"):
                if name == "leaks after close":
                    (under_way,) = callers.hear("under way")
                    source, looks, failed = callers.hear("source")
                    report.verdict("left under way", judge.left_behind(under_way))
                    report.figure(
                        "reloads", f"{source['reloads']} ({files.generation} edits, {files.broken} broken ones)"
                    )
                    report.figure("looks at names", f"{looks}, {failed} of them failed")
                before, after, connected, sockets, late = callers.hear(name)
                if late:
                    report.figure("gone with the next calls", "; ".join(late))
                found = judge.leaks(before, after)
                report.verdict(name, found + (judge.leaks(connected, sockets) if found else []))
            callers.hear("end")
        except (TimeoutError, RuntimeError, BrokenPipeError) as error:
            report.wrong.append(str(error))
        finally:
            callers.end()
    judged(report, minutes, history.read(folder), callers, fleet)
    return report.print()


def judged(report: Report, minutes: float, run: history.History, callers: Callers, fleet: Fleet) -> None:
    """The verdicts on what was written down."""
    endings = Counter(c.ending or "none" for c in run.calls.values())
    report.figure(
        "calls", f"{len(run.calls):,}: " + ", ".join(f"{n:,} {ending}" for ending, n in endings.most_common())
    )
    runtimes = Counter(call.runtime for call in run.calls.values())
    report.figure("by runtime", ", ".join(f"{runtime} {n:,}" for runtime, n in runtimes.most_common()))
    report.figure("executions", f"{sum(map(len, run.executions.values())):,}")
    report.figure("excused", ", ".join(f"{n:,} {why}" for why, n in sorted(judge.excused(run).items())) or "none")
    report.figure("disturbances", ", ".join(f"{n} {kind}s" for kind, n in fleet.counts.items()))
    report.figure("forked children", len(run.children))
    report.verdict("crossed", judge.crossed(run))
    report.verdict("lost", judge.lost(run))
    report.verdict("executed too often", judge.doubled(run))
    report.verdict("protocol broken", run.broken)
    report.verdict("children that failed", judge.stuck(run.children))
    report.verdict("problems", [*callers.problems, *fleet.problems])
    memory = [(at, size) for at, size, *_ in callers.samples]
    report.verdict("standstills", judge.gaps(memory, STANDSTILL))
    grows = f"{judge.slope(memory) / MIB:+.2f} MB a minute over the last half"
    if minutes < SLOPE_FROM:
        grows += f" (no verdict under {SLOPE_FROM:.0f} minutes: caches and arenas still fill up)"
    else:
        report.verdict("memory rises", judge.rising(memory))
    report.figure(
        "from malloc",
        f"{judge.slope([(at, last) for at, *_, last in callers.samples]) / MIB:+.2f} MB a minute over the last half",
    )
    report.figure("memory", f"{memory[-1][1] / MIB:.1f} MB, {grows}" if memory else "no sample")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Everything at once, and a referee.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", metavar="FOLDER", help="write everything into this new folder, and leave it there")
    options = parser.parse_args(arguments)
    if not os.path.isdir("/proc/self/fd"):
        say("the soak reads /proc: it runs on Linux only")
        return 1
    folder = Path(options.keep or tempfile.mkdtemp(prefix="meshlib-soak-"))
    folder.mkdir(exist_ok=True)
    code = soak(options.minutes, options.seed, folder)
    if code:
        say(f"everything is in {folder}")
    elif not options.keep:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
