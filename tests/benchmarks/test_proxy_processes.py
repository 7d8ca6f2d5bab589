"""Processes of the proxies' rows: on the core they are given, over with their block; where they do not start it is said why."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.proxy_processes import NotMeasured, cores, running
from meshlib.bench.free_ports import free_port

LISTENING = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


def test_a_process_runs_on_its_core_and_is_over_with_its_block(tmp_path: Path) -> None:
    port = free_port()
    core = cores()[0]
    command = [sys.executable, "-c", LISTENING, str(port)]
    with running(command, ("127.0.0.1", port), core, tmp_path / "log") as pid:
        assert os.sched_getaffinity(pid) == {core}
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_does_not_start_is_not_measured_and_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    address = ("127.0.0.1", free_port())
    said = "did not start: ended with exit code 1: no such option"
    with pytest.raises(NotMeasured, match=said), running(command, address, cores()[0], tmp_path / "log"):
        pass


def test_of_what_configures_a_mesh_it_gets_the_shortcuts_switch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHLIB_PLAIN", "1")
    monkeypatch.setenv("MESHLIB_CONFIG", "/elsewhere")
    port = free_port()
    said = f"import os; print(sorted(n for n in os.environ if n.startswith('MESHLIB_')), flush=True); {LISTENING}"
    log = tmp_path / "log"
    with running([sys.executable, "-c", said, str(port)], ("127.0.0.1", port), cores()[0], log, {"OTHER": "x"}):
        assert log.read_text().strip() == "['MESHLIB_PLAIN']"
