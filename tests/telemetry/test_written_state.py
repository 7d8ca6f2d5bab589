"""The state of meshes in the files of PROMETHEUS_MULTIPROC_DIR: each process writes its own, and a scrape of one shows all."""

from __future__ import annotations

import os
import subprocess
import sys

from meshlib.telemetry.mesh_metrics import FAMILIES
from meshlib.telemetry.written_state import ADDED_UP, LEAST

PROGRAM = """
import os
import sys

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

import meshlib
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service

clock = FakeClock()
mesh = meshlib.Mesh.from_resources(
    [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v1", 2)], clock=clock, workload=meshlib.Workload("w")
)


def call(times):
    inner = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(transport=mesh.http_transport(inner=inner)) as client:
        for _ in range(times):
            client.get("http://reviews:9080/")


def read(name, **labels):
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return [
        sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


"""


def run(tmp_path, body):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM + body], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


def test_counters_of_all_processes_add_up_and_what_came_before_a_fork_counts_once(tmp_path):
    assert run(
        tmp_path,
        """
call(3)  # not written yet when the process forks
def work():
    call(4)
    mesh.close()
child(work)
mesh._metrics.files.write()
print(read("meshlib_attempts_total", result="response"))
print(read("meshlib_config_info"), read("meshlib_endpoints_usable"), read("meshlib_endpoints"))
""",
    ) == ["[7.0]", "[1.0] [2.0] [2.0]"], "the child's mesh is closed: it has no part in what is least"


def test_the_alarm_writes_every_ten_seconds_and_closing_once_more(tmp_path):
    said = run(
        tmp_path,
        """
import threading
print(read("meshlib_config_resources"))
call(2)
print(read("meshlib_attempts_total", result="response"))
rang = threading.Event()
write = mesh._metrics.files._state.write
def told():
    write()
    rang.set()
mesh._metrics.files._state.write = told
clock.advance(11.0)
assert rang.wait(60)
print(read("meshlib_attempts_total", result="response"))
call(1)
mesh.close()
print(read("meshlib_attempts_total", result="response"), read("meshlib_config_info"), read("meshlib_endpoints"))
""",
    )
    assert said == ["[3.0]", "[]", "[2.0]", "[3.0] [0.0] [0.0]"]


def test_each_gauge_is_added_up_or_judged_by_its_worst():
    gauges = {family for family in FAMILIES if not family.counts}
    assert gauges > ADDED_UP | LEAST
    assert not ADDED_UP & LEAST
