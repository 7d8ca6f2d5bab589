"""Processes: ready or a clear error, never an orphan, a taken port is no obstacle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.process import ChildDied

ROOT = Path(__file__).parents[2]


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _ratings(tmp_path: Path, port: int = 0) -> Child:
    return Child("ratings", "v1", "ratings-v1-1", tmp_path, tmp_path, port)


def test_a_service_says_its_port_and_serves_there(tmp_path: Path) -> None:
    child = _ratings(tmp_path)
    try:
        child.wait_ready(time.monotonic() + 120)
        assert httpx.get(f"{child.address}/health").json()["pod"] == "ratings-v1-1"
    finally:
        child.terminate()
        child.join(30)
    with pytest.raises(ChildDied):
        child.check()


def test_a_taken_port_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        child = _ratings(tmp_path, taken.getsockname()[1])
        try:
            child.wait_ready(time.monotonic() + 120)
            assert child.port != taken.getsockname()[1]
        finally:
            child.terminate()
            child.join(30)


def test_a_service_that_dies_at_the_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {hosts: 1}\n"
    )
    child = Child("reviews", "v1", "reviews-v1-1", tmp_path, tmp_path)
    try:
        with pytest.raises(ChildDied, match=r"(?s)reviews-v1-1 ended with exit code 1.*broken\.yaml:3"):
            child.wait_ready(time.monotonic() + 120)
    finally:
        child.join(30)


def test_a_service_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    child = _ratings(tmp_path)
    try:
        with pytest.raises(ChildDied, match="not ready in time"):
            child.wait_ready(time.monotonic())
    finally:
        child.kill()
        child.join(30)


@pytest.mark.slow
def test_killing_the_runner_leaves_no_orphan(tmp_path: Path) -> None:
    # SIGKILL: the runner can clean up nothing, so each child has to notice by itself
    script = (
        "import sys, time, pathlib\n"
        "from meshlib.demo.bookinfo.play.process import Child\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "child = Child('ratings', 'v1', 'ratings-v1-1', folder, folder)\n"
        "child.wait_ready(time.monotonic() + 120)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        assert _runs(pid)
        runner.send_signal(signal.SIGKILL)
        runner.wait(60)
    gone = _until(lambda: not _runs(pid))
    if not gone:
        os.kill(pid, signal.SIGKILL)  # or the failing test would leave the very orphan it complains about
    assert gone, f"process {pid} outlived its runner"
