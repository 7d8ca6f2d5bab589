"""Processes that tests fork are as those that they would begin: arguments, environment, folder, outputs, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.eventually import eventually
from tests.support.forked import ROOT, SECONDS, Forked, NotToldError

WAITS = "print('begun', flush=True); import time; time.sleep(60)"


def ended(program: str, *arguments: str, **more: object) -> tuple[str, int]:
    """(what it has written, its exit code)"""
    with Forked(program, *arguments, **more) as process:  # type: ignore[arg-type]
        said = process.stdout.read()
        return said, process.wait(SECONDS)


def test_a_program_has_its_arguments_folder_and_environment_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "1")
    program = (
        "import os, sys; print(sys.argv, os.getcwd(), os.environ['ITS'], 'OURS' in os.environ, __name__, sys.path[0])"
    )
    said, code = ended(program, "a", "b c", folder=tmp_path, environment={"ITS": "own"})
    assert (said, code) == (f"['-c', 'a', 'b c'] {tmp_path} own False __main__ \n", 0)


def test_modules_are_found_in_its_folder_first_and_where_its_path_says(tmp_path: Path) -> None:
    for folder, name in (("here", "one"), ("there", "one"), ("there", "two")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"forked_{name}.py").write_text(f"where = {folder!r}")
    program = "import forked_one, forked_two, meshlib; print(forked_one.where, forked_two.where)"
    said, _ = ended(program, folder=tmp_path / "here", environment={"PYTHONPATH": str(tmp_path / "there")})
    assert said == "here there\n"


def test_what_commands_need_is_imported_already_and_no_thread_runs() -> None:
    program = "import sys, threading; print('meshlib.proxy.launch' in sys.modules, threading.active_count())"
    assert ended(program) == ("True 1\n", 0)


def test_both_outputs_are_read_to_the_end_though_it_does_not_flush() -> None:
    said, _ = ended("import sys; print('out', file=sys.stdout); print('error', file=sys.stderr)")
    assert sorted(said.split()) == ["error", "out"]


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("raise SystemExit(7)", 7),
        ("raise ValueError('as asked')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import atexit, os; atexit.register(os._exit, 5)", 5),
        ("import threading; threading.Timer(0.01, print, ['late']).start()", 0),
    ],
)
def test_it_ends_as_python_does(program: str, code: int) -> None:
    said, found = ended(program)
    assert found == code, said
    assert ("ValueError: as asked" in said) is ("ValueError" in program)
    assert said == "late\n" or "late" not in program


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, -2)])
def test_signals_are_handled_as_python_handles_them(number: signal.Signals, code: int) -> None:
    with Forked("print('begun', flush=True); import time; time.sleep(60)") as process:
        assert process.stdout.readline() == "begun\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.send_signal(number)
        assert process.wait(SECONDS) == code
        assert process.poll() == code
        process.kill()  # nobody
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_a_session_of_its_own_is_asked_for() -> None:
    program = "import os; print(os.getsid(0) == os.getpid())"
    assert (ended(program)[0], ended(program, session=True)[0]) == ("False\n", "True\n")


def test_what_an_interpreter_reads_when_it_begins_is_as_its_environment_says() -> None:
    program = "import sys; print(sys.flags.utf8_mode, sys.flags.dev_mode)"
    assert ended(program, environment={**os.environ, "PYTHONUTF8": "1"})[0] == "1 False\n"
    assert ended(program, environment={**os.environ, "PYTHONUTF8": "0"})[0] == "0 False\n"


def test_processes_at_the_same_time_hold_nothing_of_each_other() -> None:
    """Who is killed is known to have ended, and its output too, while others run."""
    with Forked(WAITS) as one, Forked(WAITS) as other:
        assert one.stdout.readline() == other.stdout.readline() == "begun\n"
        one.kill()
        assert one.stdout.read() == ""
        assert one.wait(SECONDS) == -9
        assert other.poll() is None
        descriptors = {os.readlink(f"/proc/{other.pid}/fd/{n}") for n in os.listdir(f"/proc/{other.pid}/fd")}
        assert len(descriptors) == 2, descriptors  # nothing as input, one pipe as both outputs
        other.kill()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Processes that fork for this test alone; the number of the last."""
    monkeypatch.setattr(forked, "_parents", {})
    yield lambda: list(forked._parents.values())[-1]._process.pid
    for each in forked._parents.values():
        each.end()


def test_who_is_forgotten_while_it_runs_takes_nobody_with_it(alone: Callable[[], int]) -> None:
    forgotten = Forked(WAITS)
    assert forgotten.stdout.readline() == "begun\n"
    forker, pid = alone(), forgotten.pid
    forgotten._ended.close()
    forgotten.stdout.close()
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert ended("print(1)") == ("1\n", 0)
    assert alone() == forker


def test_a_fork_of_the_process_that_asks_ends_nothing(alone: Callable[[], int]) -> None:
    assert ended("print(1)") == ("1\n", 0)
    forker = alone()
    pid = os.fork()
    if not pid:
        for each in forked._parents.values():
            each.end()  # as atexit does
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert ended("print(2)") == ("2\n", 0)
    assert alone() == forker


def test_where_the_process_that_forks_is_dead_what_it_forked_is_ended_and_another_forks(
    alone: Callable[[], int],
) -> None:
    orphan = Forked(WAITS)
    assert orphan.stdout.readline() == "begun\n"
    forker = alone()
    os.kill(forker, signal.SIGKILL)
    forked._parents[next(iter(forked._parents))]._process.wait(SECONDS)
    with pytest.raises(NotToldError):
        orphan.wait(SECONDS)
    orphan.terminate()
    assert orphan.stdout.read() == ""  # its end has come
    orphan.kill()
    orphan.stdout.close()
    orphan._ended.close()
    assert ended("print(1)") == ("1\n", 0)
    assert alone() != forker


def test_the_process_that_forks_has_of_the_environment_what_is_read_at_the_beginning_and_nothing_of_ours(
    alone: Callable[[], int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OURS", "1")
    program = "import time; from prometheus_client import values; print(time.tzname[0], values.ValueClass.__name__)"
    environment = {"TZ": "XYZ-9", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    assert ended(program, environment=environment) == ("XYZ MmapedValue\n", 0)
    names = {each.partition(b"=")[0] for each in Path(f"/proc/{alone()}/environ").read_bytes().split(b"\0") if each}
    assert names <= {b"PATH", b"HOME", b"PYTHONPATH", b"TZ", b"PROMETHEUS_MULTIPROC_DIR"}


def test_its_umask_is_ours() -> None:
    program = "import os; print(oct(os.umask(0)))"
    ended(program)  # who forks began before
    before = os.umask(0o31)
    try:
        assert ended(program) == ("0o31\n", 0)
    finally:
        os.umask(before)


def test_the_process_that_forks_ends_with_the_one_that_asks() -> None:
    program = (
        "from tests.support import forked; forked.Forked('pass').wait(60)\n"
        "print([parent._process.pid for parent in forked._parents.values()])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    (pid,) = json.loads(done.stdout)
    assert not Path(f"/proc/{pid}").exists()
