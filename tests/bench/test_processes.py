"""Processes of a run: they reply or are said to have died, are measured with their children, and are over with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.bench import processes
from meshlib.bench.processes import Died, NotMeasured, Process
from tests.support.eventually import eventually

ECHO = "import sys\nfor line in sys.stdin:\n print('{\"said\": ' + line.strip() + '}', flush=True)"


@pytest.fixture
def made() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for each in started:
        each.end()


def alive(pid: int) -> bool:
    """Whether it runs: one that nobody has waited for yet has ended, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(made: list[Process], folder: Path, code: str, *, talks: bool = True) -> Process:
    made.append(Process("it", [sys.executable, "-c", code], folder / "log", talks=talks))
    return made[-1]


def test_it_replies(made: list[Process], tmp_path: Path) -> None:
    process = start(made, tmp_path, ECHO)
    assert process.ask({"a": 1}, 30) == {"said": {"a": 1}}
    assert process.ask({"a": 2}, 30) == {"said": {"a": 2}}


def test_one_that_ended_is_said_to_have_died_with_how_and_what_it_said_last(
    made: list[Process], tmp_path: Path
) -> None:
    process = start(made, tmp_path, "import sys; sys.exit('the disk is full')")
    with pytest.raises(Died, match=r"it \(process \d+\) ended with exit code 1: the disk is full"):
        process.ask({}, 30)
    killed = start(made, tmp_path, ECHO)
    killed.check()
    os.kill(killed.pid, signal.SIGKILL)
    with pytest.raises(Died, match="was ended by SIGKILL"):
        killed.check(30)


def test_one_that_does_not_reply_in_time_is_said_so(made: list[Process], tmp_path: Path) -> None:
    process = start(made, tmp_path, "import time; time.sleep(1000)")
    with pytest.raises(Died, match="did not reply within 0 s"):
        process.ask({}, 0.01)


def test_a_server_that_does_not_start_is_said_with_what_it_said(made: list[Process], tmp_path: Path) -> None:
    process = start(made, tmp_path, "import sys; sys.exit('address already in use')", talks=False)
    with pytest.raises(NotMeasured, match="it did not start: ended with exit code 1: address already in use"):
        process.wait_for("127.0.0.1", 1)
    silent = start(made, tmp_path, "import time; time.sleep(1000)", talks=False)
    with pytest.raises(NotMeasured, match=r"nothing accepts connections at 127.0.0.1:1 after 0.01 s"):
        silent.wait_for("127.0.0.1", 1, seconds=0.01)


def test_cpu_and_memory_are_of_its_children_too(made: list[Process], tmp_path: Path) -> None:
    busy = "import os\npid = os.fork()\nx = sum(range(3000000)) if pid == 0 else None\n"
    process = start(made, tmp_path, busy + "if pid: print('{}', flush=True)\nimport time\ntime.sleep(1000)")
    process.reply(30)
    assert eventually(lambda: process.cpu() > 0.02, seconds=60)
    assert process.memory() > 1
    assert process.waited() >= 0


def test_its_end_is_that_of_its_children(made: list[Process], tmp_path: Path) -> None:
    code = "import os, time\npid = os.fork()\nif pid: print('{\"pid\": %d}' % pid, flush=True)\ntime.sleep(1000)"
    process = start(made, tmp_path, code)
    child = process.reply(30)["pid"]
    assert alive(child)
    process.end()
    process.end()
    assert not alive(process.pid)
    assert eventually(lambda: not alive(child))


def test_it_does_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from meshlib.bench.processes import Process
made = Process("it", [sys.executable, "-c", "import time; time.sleep(1000)"], Path({str(tmp_path / "log")!r}))
print(made.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert alive(pid)
        run.kill()
    assert eventually(lambda: not alive(pid))


def test_a_process_knows_neither_the_users_mesh_nor_a_proxy(
    made: list[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MESHLIB_CONFIG", "OTEL_TRACES_EXPORTER", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "x")
    found = "[n for n in os.environ if n.startswith(('MESHLIB_', 'OTEL_')) or n.upper().endswith('_PROXY')]"
    process = start(made, tmp_path, f"import os, json; print(json.dumps({found}))")
    assert process.reply(30) == []


def test_programs_are_found_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("envoy", "nginx"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes.envoy_binary() == str(tmp_path / "envoy")
    assert processes.nginx_binary() == str(tmp_path / "nginx")
