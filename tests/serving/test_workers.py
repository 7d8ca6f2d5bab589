"""Workers are replaced when they die, the sooner the better they have served, and a signal to their parent is one to
all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from meshlib.serving.workers import LONGEST_BACKOFF, backoff

pytestmark = pytest.mark.slow

SECONDS = 30.0


def test_the_backoff_doubles_to_a_bound_and_begins_again() -> None:
    assert [backoff(n) for n in range(6)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert backoff(1000) == LONGEST_BACKOFF


PARENT = """
import os, signal, sys, time
from meshlib.serving.workers import Workers
from meshlib.clock import SystemClock

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # a line at once: several processes have this pipe

def work(ready, parent, slot):
    {work}

workers = Workers({count}, work, SystemClock(), {drain}, {told})
code = workers.run()
say("parent", code)
sys.exit(code)
"""


class Parent:
    """A parent with its workers, in a process of its own; what they print is read line by line."""

    def __init__(self, work: str, count: int = 2, drain: float | str = 20, told: str = "id") -> None:
        source = PARENT.format(
            work=textwrap.indent(textwrap.dedent(work), "    ").lstrip(), count=count, drain=drain, told=told
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # its workers end with it, whatever state the test has left them in
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


SERVES = """
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    signal.signal(signal.SIGHUP, lambda *_: say("hangup"))
    signal.signal(signal.SIGUSR1, lambda *_: say("user"))
    ready()
    say("ready", os.getpid())
    while not stop:
        time.sleep(0.01)
    say("drained")
    return 0
"""


def test_sigterm_drains_all_and_the_exit_code_is_0() -> None:
    with Parent(SERVES) as parent:
        assert {parent.line()[:5], parent.line()[:5]} == {"ready"}
        parent.process.terminate()
        assert [parent.line() for _ in range(3)] == ["drained", "drained", "parent 0"]
        assert parent.process.wait(SECONDS) == 0


def test_sighup_and_sigusr1_go_to_all() -> None:
    with Parent(SERVES) as parent:
        parent.line(), parent.line()
        parent.process.send_signal(signal.SIGHUP)
        assert [parent.line(), parent.line()] == ["hangup", "hangup"]
        parent.process.send_signal(signal.SIGUSR1)
        assert [parent.line(), parent.line()] == ["user", "user"]


def test_one_that_is_killed_is_replaced() -> None:
    with Parent(SERVES) as parent:
        pids = {int(parent.line().split()[1]) for _ in range(2)}
        os.kill(pids.copy().pop(), 9)
        ready, pid = parent.line().split()
        assert ready == "ready"
        assert int(pid) not in pids


def test_one_that_cannot_start_ends_all_with_its_code() -> None:
    with Parent("return 3") as parent:
        assert parent.line() == "parent 3"
        assert parent.process.wait(SECONDS) == 3


def test_one_that_does_not_end_is_killed_after_its_drain() -> None:
    work = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready()
    say("ready")
    time.sleep(1000)
    """
    with Parent(work, count=1, drain=-4.9) as parent:
        assert parent.line() == "ready"
        parent.process.terminate()
        assert parent.line() == "parent 0"


def test_what_a_worker_raises_is_its_end_and_not_its_parents() -> None:
    with Parent("raise SystemExit(4)", count=1) as parent:
        assert parent.line() == "parent 4"


@pytest.mark.parametrize("count", [1, 3])
def test_workers_hear_that_their_parent_has_gone(count: int) -> None:
    work = """
    import select
    ready()
    say("ready")
    select.select([parent], [], [])
    say("orphan")
    return 0
    """
    with Parent(work, count=count) as parent:
        for _ in range(count):
            assert parent.line() == "ready"
        parent.process.kill()
        assert {parent.line() for _ in range(count)} == {"orphan"}


def test_a_replacement_has_the_slot_of_the_one_that_died_and_the_parent_is_told_when_all_serve() -> None:
    work = """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    say("slot", slot, os.getpid())
    ready()
    time.sleep(1000)
    """
    told = "lambda what: say('told', what, *sorted(workers.pids), workers.stopping)"
    with Parent(work, count=2, told=told) as parent:
        lines = [parent.line() for _ in range(3)]
        assert lines.pop(next(i for i, line in enumerate(lines) if "told" in line)) == "told ready 0 1 False"
        pids = {int(line.split()[1]): int(line.split()[2]) for line in lines}
        assert sorted(pids) == [0, 1]
        os.kill(pids[1], 9)
        assert parent.line().startswith("slot 1 ")
        parent.process.terminate()
        assert parent.line() == "told stopping 0 1 False"
        assert parent.line() == "parent 0"


def test_workers_may_drain_as_long_as_they_want() -> None:
    with Parent(SERVES, drain="float('inf')") as parent:
        assert {parent.line()[:5], parent.line()[:5]} == {"ready"}
        parent.process.terminate()
        assert [parent.line() for _ in range(3)] == ["drained", "drained", "parent 0"]
