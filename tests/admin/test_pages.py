"""Which page is where, and what each answers."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.admin.page import Page
from meshlib.admin.pages import PAGES, not_ready, respond
from meshlib.admin.request import AdminRequest
from tests.support.admin import seen
from tests.support.fake_clock import FakeClock
from tests.support.identities import World


def body(mesh: meshlib.Mesh, path: str, **query: str) -> tuple[Page, str]:
    page = respond(seen(mesh), AdminRequest("GET", path, query))
    return page, b"".join(page.pieces).decode()


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_yaml(
        "", workload=meshlib.Workload("<web>", labels={"app": "web"}), registry=CollectorRegistry(), clock=FakeClock()
    ) as made:
        yield made


@pytest.mark.parametrize("path", list(PAGES))
@pytest.mark.parametrize("form", ["", "json"])
def test_every_page_can_be_made_of_an_open_and_of_a_closed_mesh(mesh, path, form):
    for _ in range(2):
        page, text = body(mesh, path, format=form)
        assert page.status in (200, 503)
        if page.kind == "application/json":
            json.loads(text)
        mesh.close()


def test_the_index_names_every_page_and_escapes_what_it_shows(mesh):
    page, text = body(mesh, "/")
    assert page.kind.startswith("text/html")
    assert all(f'<a href="{path}">' in text for path in PAGES if path != "/")
    assert "&lt;web&gt;" in text
    assert "<web>" not in text


def test_what_is_not_there_is_a_404_that_leads_on(mesh):
    page, text = body(mesh, "/quitquitquit")
    assert (page.status, text) == (404, "there is no page '/quitquitquit' here; / lists them\n")
    assert body(mesh, "/clusters/")[0].status == 200


def test_ready_until_the_mesh_is_closed(mesh):
    for path in ("/ready", "/healthz/ready"):
        page, text = body(mesh, path)
        assert (page.status, text) == (200, "LIVE\n")
    mesh.close()
    page, text = body(mesh, "/ready")
    assert (page.status, text) == (503, "the mesh is closed\n")


def test_not_ready_without_a_certificate_that_is_valid():
    world = World(of_a_mesh=True)
    with meshlib.Mesh.from_yaml("", identity=world.identity) as mesh:
        assert not_ready(seen(mesh)) == "the mesh has no certificate that is valid now"
        world.rotate()
        assert not_ready(seen(mesh)) == ""


def test_server_info_says_who_this_is(mesh):
    found = json.loads(body(mesh, "/server_info")[1])
    assert found["state"] == "LIVE"
    assert found["version"].startswith("meshlib/")
    assert found["config_version"] == mesh.status()["version"]
    assert found["node"]["metadata"]["LABELS"] == {"app": "web"}


def test_status_is_that_of_the_mesh(mesh):
    assert json.loads(body(mesh, "/status")[1]) == json.loads(json.dumps(mesh.status()))
