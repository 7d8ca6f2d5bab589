"""Nothing that was noted of calls is lost when a process ends: real processes, which write to PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

import meshlib
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow

COMMON = """
    import sys

    import meshlib
    from tests.support.resources import pod, service

    mesh = meshlib.Mesh.from_resources([service("echo"), pod("echo", "v1", int(sys.argv[1]))])
    client = mesh.client(timeout=30)

    def drop():
        # the head has come, the body is never read: what is dropped is only noted, and recorded by the next call or scrape
        response = client.stream("GET", "http://echo:9080/long").__enter__()
        assert response.status_code == 200
        response.stream._stream = None
        del response
"""

LAST = COMMON + "    drop()\n"

FORKED = (
    COMMON
    + """
    import os
    drop()  # the parent asks for its end to be told, and the child has to ask for its own
    pid = os.fork()
    if pid == 0:
        drop()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
)

MULTIPROCESSING = (
    COMMON
    + """
    import multiprocessing
    drop()
    child = multiprocessing.get_context("fork").Process(target=drop)
    child.start()
    child.join()
    assert child.exitcode == 0
"""
)

FAILED = (
    COMMON
    + """
    drop()
    raise SystemExit(3)
"""
)


def long(handler) -> bool:
    handler.send_response(200)
    handler.send_header("content-length", str(1 << 20))
    handler.end_headers()
    handler.wfile.write(b"x" * 100)
    handler.wfile.flush()
    return True


def counted(folder) -> float:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "istio_requests_total" and sample.labels["destination_service_name"] == "echo"
    )


@pytest.mark.parametrize(
    ("program", "code", "calls"),
    [(LAST, 0, 1), (FAILED, 3, 1), (FORKED, 0, 2), (MULTIPROCESSING, 0, 2)],
    ids=["a process", "one that fails", "a fork", "multiprocessing"],
)
def test_the_last_calls_of_a_process_are_in_prometheus_files(tmp_path, program, code, calls):
    with EchoServer(behave=long) as server:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        made = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(server.port)],
            env=environment, timeout=120, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == code, made.stderr
    assert counted(tmp_path) == calls


SPAWNED = """
    import multiprocessing
    import sys


    def work():
        import program

        program.drop()


    if __name__ == "__main__":
        child = multiprocessing.get_context("spawn").Process(target=work)
        child.start()
        child.join()
        assert child.exitcode == 0
"""


def test_a_child_that_is_spawned_writes_its_last_calls_too(tmp_path):
    """It begins with nothing of its parent, which has no mesh."""
    (tmp_path / "program.py").write_text(textwrap.dedent(COMMON))
    (tmp_path / "parent.py").write_text(textwrap.dedent(SPAWNED))
    (tmp_path / "files").mkdir()
    with EchoServer(behave=long) as server:
        environment = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"),
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)]),
        }
        made = subprocess.run(
            [sys.executable, str(tmp_path / "parent.py"), str(server.port)],
            env=environment, timeout=120, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    assert counted(tmp_path / "files") == 1


def test_a_mesh_that_closes_records_what_it_has_noted_of_requests_served():
    with meshlib.Mesh.from_resources([service("echo"), pod("echo", "v1", 1)]) as mesh:
        noted = []
        mesh._telemetry_of_servers().catch_up = lambda: noted.append(True)  # type: ignore[method-assign]
    assert noted
