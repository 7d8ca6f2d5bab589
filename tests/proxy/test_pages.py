"""The admin pages of a proxy: what state it is in, where it listens, and what can be done to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.admin.page import Page
from meshlib.admin.request import AdminRequest
from meshlib.proxy.inbound_application import Application, ApplicationAddress
from meshlib.proxy.pages import CHANGING, DRAIN, QUIT, proxy_pages
from tests.support.admin import seen
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service


class FakeControls:
    def __init__(self) -> None:
        self.state = "LIVE"
        self.done: list[str] = []
        self.why = ""
        self.own: object = None

    def listeners(self) -> list[tuple[str, str, SimpleNamespace]]:
        return [
            ("outbound", "127.0.0.1:15001", SimpleNamespace(connections=3, why_not_ready=lambda: "", beside=None)),
            (
                "inbound",
                "0.0.0.0:15006",
                SimpleNamespace(connections=0, why_not_ready=lambda: self.why, beside=self.own),
            ),
        ]

    def drain_listeners(self, inbound_only: bool) -> None:
        self.done.append("drain inbound" if inbound_only else "drain")

    def quit(self) -> None:
        self.done.append("quit")


@pytest.fixture
def mesh() -> Iterator[meshlib.Mesh]:
    with meshlib.Mesh.from_yaml("", registry=CollectorRegistry(), clock=FakeClock()) as made:
        yield made


@pytest.fixture
def controls() -> FakeControls:
    return FakeControls()


def body(controls: FakeControls, mesh: meshlib.Mesh, path: str, method: str = "GET", **query: str) -> tuple[Page, str]:
    page = proxy_pages(controls)(seen(mesh), AdminRequest(method, path, query))
    return page, b"".join(page.pieces).decode()


@pytest.mark.parametrize("path", ["/ready", "/healthz/ready"])
def test_it_is_ready_until_it_drains_or_its_mesh_is_closed(
    controls: FakeControls, mesh: meshlib.Mesh, path: str
) -> None:
    page, said = body(controls, mesh, path)
    assert (page.status, said) == (200, "LIVE\n")
    controls.state = "DRAINING"
    page, said = body(controls, mesh, path)
    assert (page.status, said) == (503, "DRAINING\n")
    mesh.close()
    assert body(controls, mesh, path)[1] == "the mesh is closed\n"


def test_server_info_has_the_state(controls: FakeControls, mesh: meshlib.Mesh) -> None:
    assert json.loads(body(controls, mesh, "/server_info")[1])["state"] == "LIVE"
    controls.state = "CLOSING"
    assert json.loads(body(controls, mesh, "/server_info")[1])["state"] == "DRAINING"


def test_it_is_not_ready_while_a_listener_can_serve_nobody(controls: FakeControls, mesh: meshlib.Mesh) -> None:
    controls.why = "PeerAuthentication says STRICT for port 8080 and the proxy has no certificate"
    page, text = body(controls, mesh, "/ready")
    assert (page.status, text) == (503, f"{controls.why}\n")


def test_clusters_of_applications_are_shown_beside_the_meshs(controls: FakeControls) -> None:
    resources = [service("reviews"), pod("reviews", "v1", 9080)]
    workload = meshlib.Workload("reviews-v1", labels={"app": "reviews", "version": "v1"})
    with meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), workload=workload) as mesh:
        assert "inbound|" not in body(controls, mesh, "/clusters")[1]
        controls.own, _ = Application(mesh._core, ApplicationAddress("127.0.0.1", 8080)).path(False)
        shown = body(controls, mesh, "/clusters")[1]
        assert "outbound|9080||reviews.default.svc.cluster.local::" in shown
        assert "inbound|8080||::127.0.0.1:8080::health_flags::healthy" in shown
        names = [
            each["name"] for each in json.loads(body(controls, mesh, "/clusters", format="json")[1])["cluster_statuses"]
        ]
        assert "inbound|8080||" in names
        mesh.close()
        assert body(controls, mesh, "/clusters")[1] == ""


def test_listeners_are_shown_with_their_connections(controls: FakeControls, mesh: meshlib.Mesh) -> None:
    assert body(controls, mesh, "/listeners")[1] == "outbound::127.0.0.1:15001\ninbound::0.0.0.0:15006\n"
    shown = json.loads(body(controls, mesh, "/listeners", format="json")[1])
    assert shown["listener_statuses"][0] == {"name": "outbound", "local_address": "127.0.0.1:15001", "connections": 3}


def test_listeners_are_drained_and_the_process_ended_at_envoys_paths(
    controls: FakeControls, mesh: meshlib.Mesh
) -> None:
    assert frozenset([DRAIN, QUIT]) == CHANGING
    assert body(controls, mesh, "/drain_listeners", "POST")[1] == "OK\n"
    assert body(controls, mesh, "/drain_listeners", "POST", inboundonly="")[1] == "OK\n"
    assert body(controls, mesh, "/quitquitquit", "POST")[1] == "OK\n"
    assert controls.done == ["drain", "drain inbound", "quit"]


def test_the_pages_of_the_mesh_are_there_and_the_index_names_all(controls: FakeControls, mesh: meshlib.Mesh) -> None:
    for path in ("/clusters", "/config_dump", "/certs", "/stats", "/stats/prometheus", "/status"):
        assert body(controls, mesh, path)[0].status == 200
    said = body(controls, mesh, "/")[1]
    assert '<a href="/listeners">' in said
    assert "<td>POST /quitquitquit</td>" in said
    assert body(controls, mesh, "/nothing")[0].status == 404
