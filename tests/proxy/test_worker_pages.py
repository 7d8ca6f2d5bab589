"""The admin pages of a parent: metrics of all workers, readiness, and changes that all are told of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from meshlib.admin.address import UnixAddress
from meshlib.admin.endpoint import AdminEndpoint
from meshlib.admin.page import Page, text
from meshlib.admin.request import AdminRequest
from meshlib.proxy.worker_pages import Answer, Silent, WorkerPages, asker, socket_of


class Fleet:
    """Workers whose pages are in a table."""

    def __init__(self) -> None:
        self.pids = {0: 100, 1: 101}
        self.pages: dict[tuple[int, str], tuple[int, str]] = {}
        self.silent: set[int] = set()
        self.asked: list[tuple[int, str, str]] = []
        self.stopping = False
        self.ended = 0
        self.shown = WorkerPages(lambda: self.pids, self.ask, lambda: self.stopping, self.end, self.let_go)

    def ask(self, slot: int, method: str, path: str) -> Answer:
        self.asked.append((slot, method, path))
        if slot in self.silent or slot not in self.pids:
            raise Silent(f"worker {slot} does not respond")
        status, said = self.pages.get((slot, path), (200, f"{slot} {path}\n"))
        return Answer(status, "text/plain", said.encode())

    def end(self) -> None:
        self.ended += 1

    def let_go(self, inbound_only: bool) -> None:
        self.asked.append((-1, "let go", str(inbound_only)))

    def get(self, path: str, method: str = "GET", **query: str) -> tuple[int, str]:
        page: Page = self.shown.respond(AdminRequest(method, path, query))
        return page.status, b"".join(page.pieces).decode()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_counters_are_added_up_and_stay_when_a_worker_ends(fleet: Fleet) -> None:
    for slot, number in enumerate((3, 4)):
        fleet.pages[slot, "/stats/prometheus"] = (200, f"# TYPE a_total counter\na_total {number}\n")
    assert fleet.get("/stats/prometheus") == (200, "# TYPE a_total counter\na_total 7.0\n")
    fleet.pids = {0: 100, 1: 200}
    fleet.pages[1, "/stats/prometheus"] = (200, "# TYPE a_total counter\na_total 1\n")
    assert fleet.get("/stats/prometheus")[1].endswith("a_total 8.0\n")
    fleet.silent = {0}
    assert fleet.get("/stats/prometheus")[1].endswith("a_total 8.0\n"), "its last scrape counts"
    assert fleet.get("/stats/prometheus", worker="1")[1].endswith("a_total 1\n")


@pytest.mark.parametrize("path", ["/ready", "/healthz/ready"])
def test_it_is_ready_while_one_worker_is_and_nobody_stops(fleet: Fleet, path: str) -> None:
    fleet.pages[0, "/ready"] = (503, "no certificate yet\n")
    assert fleet.get(path) == (200, "LIVE\n")
    fleet.silent = {1}
    assert fleet.get(path) == (503, "no certificate yet\n")
    fleet.silent = {0, 1}
    assert fleet.get(path) == (503, "no worker responds\n")
    fleet.silent, fleet.stopping = set(), True
    assert fleet.get(path) == (503, "DRAINING\n")


def test_server_info_lists_the_workers(fleet: Fleet) -> None:
    fleet.pages[0, "/server_info"] = (200, json.dumps({"version": "v", "state": "LIVE", "pid": 100}))
    fleet.silent = {1}
    found = json.loads(fleet.get("/server_info")[1])
    assert (found["version"], found["concurrency"], found["pid"]) == ("v", 2, os.getpid()), (
        "the parent is what is asked"
    )
    assert found["workers"] == [
        {"worker": 0, "pid": 100, "state": "LIVE"},
        {"worker": 1, "pid": 101, "state": "SILENT"},
    ]


def test_all_are_told_to_drain_and_the_parent_to_end(fleet: Fleet) -> None:
    assert fleet.get("/drain_listeners", "POST", inboundonly="") == (200, "OK\n")
    assert fleet.asked == [
        (-1, "let go", "True"),
        (0, "POST", "/drain_listeners?inboundonly="),
        (1, "POST", "/drain_listeners?inboundonly="),
    ]
    fleet.silent = {1}
    assert fleet.get("/drain_listeners", "POST") == (503, "workers 1 did not respond, the others have been told\n")
    assert fleet.get("/quitquitquit", "POST") == (200, "OK\n")
    assert fleet.ended == 1


def test_other_pages_are_those_of_one_worker(fleet: Fleet) -> None:
    assert fleet.get("/clusters", format="json") == (200, "0 /clusters?format=json\n")
    assert fleet.get("/clusters", worker="1") == (200, "1 /clusters\n")
    assert fleet.get("/clusters", worker="7") == (404, "there is no worker '7'; there are 0, 1\n")
    fleet.silent = {0}
    assert fleet.get("/clusters") == (503, "worker 0 does not respond\n")
    fleet.pids = {}
    assert fleet.get("/clusters")[0] == 503


def test_workers_are_asked_at_their_sockets(tmp_path: Path) -> None:
    path = socket_of(str(tmp_path), 3)
    endpoint = AdminEndpoint(
        UnixAddress(path), lambda request: text(f"{request.method} {request.path}\n", 503), {"/change"}
    )
    endpoint.start()
    try:
        answer = asker(str(tmp_path))(3, "POST", "/change")
        assert (answer.status, answer.body) == (503, b"POST /change\n")
        with pytest.raises(Silent, match="worker 4 does not respond"):
            asker(str(tmp_path))(4, "GET", "/")
    finally:
        endpoint.close()
