"""PROMETHEUS_MULTIPROC_DIR: one scrape, of any of several processes, shows the calls of all: of children that were forked, and
of the workers of a real gunicorn by their admin sockets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin import get
from tests.support.grpc_echo import eventually
from tests.support.gunicorn_server import LONG, exchange, gunicorn
from tests.support.gunicorn_server import get as request
from tests.telemetry.test_written_state import run

SCRAPE = """
from meshlib.telemetry.exposition import exposition


def scraped(accept="", names=()):
    made = exposition(None, accept, names)
    return made.content_type.partition(";")[0], b"".join(made.pieces).decode()


def lines(text, name):
    return [line for line in text.splitlines() if line.startswith(name)]


def added(text, name):
    return sum(float(line.rpartition(" ")[2]) for line in lines(text, name))


call(3)
def work():
    call(4)
    mesh.close()
child(work)
mesh._metrics.files.write()
"""


def test_a_scrape_has_the_calls_of_all_processes(tmp_path):
    said = run(
        tmp_path,
        SCRAPE
        + """
kind, text = scraped()
print(kind, added(text, "istio_requests_total{"), "pid=" in text)
print(added(text, "istio_request_duration_milliseconds_count{"), added(text, "meshlib_config_resources{"))
""",
    )
    assert said == ["text/plain 7.0 False", "7.0 3.0"]


def test_what_dry_runs_would_have_decided_is_that_of_all_processes(tmp_path):
    said = run(
        tmp_path,
        SCRAPE
        + """
import asyncio
from tests.support.asgi import ask, responds
tried = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "tried", "namespace": "default", "annotations": {"istio.io/dry-run": "true"}},
    "spec": {"action": "DENY", "rules": [{}]},
}
mesh = meshlib.Mesh.from_resources([tried])
app = meshlib.MeshASGIMiddleware(responds(), mesh)
assert asyncio.run(ask(app)).status == 200
def serve():
    asyncio.run(ask(app))
    mesh.close()
child(serve)
print(lines(scraped()[1], "meshlib_authorization_dry_run_total{"))
""",
    )
    assert said == ['[\'meshlib_authorization_dry_run_total{policy="default/tried",result="denied"} 2.0\']']


def test_it_asks_for_some_names_and_in_openmetrics_as_any_other(tmp_path):
    said = run(
        tmp_path,
        SCRAPE
        + """
kind, text = scraped("application/openmetrics-text; version=1.0.0", ["istio_requests_total"])
print(kind, added(text, "istio_"), added(text, "istio_requests_total"), text.endswith("# EOF\\n"))
""",
    )
    assert said == ["application/openmetrics-text 7.0 7.0 True"]


def test_envoys_statistics_of_all_processes_are_added_up_where_they_are_wanted(tmp_path):
    said = run(
        tmp_path,
        SCRAPE
        + """
print(len(lines(scraped()[1], "envoy_")), flush=True)  # or a child may say it again
mesh.close()
mesh = meshlib.Mesh.from_resources(
    [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v1", 2)], clock=clock, envoy_metrics=True
)
call(1)

def work():
    call(2)
    mesh.close()

child(work)
mesh._metrics.files.write()
kind, text = scraped()
names = "upstream_rq_total", "upstream_rq", "upstream_rq_retry", "membership_healthy", "membership_total"
print([added(text, f"envoy_cluster_{name}{{") for name in names])
print(len(lines(text, "envoy_cluster_circuit_breakers_default_rq_open{")))
print([added(text, "envoy_cluster_circuit_breakers_default_remaining_cx{")])
mesh.close()
print([added(scraped()[1], f"envoy_cluster_{name}{{") for name in names])
""",
    )
    assert said == [
        "0",
        "[3.0, 6.0, 0.0, 2.0, 2.0]",
        "1",
        "[4294967295.0]",
        "[3.0, 6.0, 0.0, inf, 0.0]",
    ], "calls by code and by class are two series; what grows outlives its process"


# -- a real gunicorn

APP = """
import meshlib

mesh = meshlib.Mesh.from_resources([], workload=meshlib.Workload("shop"), admin="unix:{sockets}/{{pid}}.sock")


def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


app = meshlib.MeshWSGIMiddleware(application, mesh)
"""
CONF = """
from prometheus_client import multiprocess


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


@contextlib.contextmanager
def served(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Iterator[int]:
    sockets, values = folder / "s", folder / "values"
    sockets.mkdir()
    values.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(values))
    (folder / "a_shop_of_workers.py").write_text(APP.format(sockets=sockets))
    (folder / "conf.py").write_text(CONF)
    settings = ("--config", str(folder / "conf.py"), "--pythonpath", str(folder), "--workers", "2", *arguments)
    with gunicorn(*settings, app="a_shop_of_workers:app") as port:
        yield port


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["each loads it", "preload"])
def test_each_worker_of_gunicorn_has_a_socket_and_shows_the_calls_of_all(tmp_path_factory, monkeypatch, preload):
    folder = Path(tmp_path_factory.mktemp("g"))  # short: the path of a socket has 107 bytes
    with served(folder, monkeypatch, *preload) as port:
        wanted = 3 if preload else 2  # the parent has its own, where it has loaded the application
        assert eventually(lambda: len(list((folder / "s").glob("*.sock"))) == wanted, LONG)
        for _ in range(8):
            assert exchange(port, request("/"))[0] == 200
        for sock in (folder / "s").glob("*.sock"):
            # a worker counts when it has responded: the client may have asked another one by then
            assert eventually(lambda sock=sock: counted_by(sock) == [8.0], LONG), sock


def counted_by(sock: Path) -> list[float]:
    page = get(f"unix:{sock}", "/stats/prometheus")
    return [float(value) for value in re.findall(r"^istio_requests_total\{.*\} (.*)$", page, re.MULTILINE)]
