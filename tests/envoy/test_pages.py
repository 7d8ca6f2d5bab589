"""Admin pages: Envoy's own, and what concerns the process."""

from __future__ import annotations

import json

from meshlib.admin.page import Page
from meshlib.admin.request import AdminRequest
from meshlib.envoy.child import Reply
from meshlib.envoy.pages import envoy_pages


class Scene:
    """Controls and Envoy in one."""

    def __init__(self) -> None:
        self.why = ""
        self.done: list[str] = []
        self.gone = False

    def version(self) -> str:
        return "abc"

    def why_not_ready(self) -> str:
        return self.why

    def drain_listeners(self) -> None:
        self.done.append("drain")

    def quit(self) -> None:
        self.done.append("quit")

    def ask(self, target: str, method: str = "GET") -> Reply:
        if self.gone:
            raise OSError("no such socket")
        self.done.append(target)
        return Reply(201, "text/x", b"body")

    def page(self, path: str, **query: str) -> Page:
        return envoy_pages(self, self)(AdminRequest("GET", path, query))  # type: ignore[arg-type]


def test_other_pages_are_envoys() -> None:
    scene = Scene()
    page = scene.page("/stats", format="json", filter="a|b")
    assert (page.status, page.kind, page.whole) == (201, "text/x", b"body")
    assert scene.done == ["/stats?format=json&filter=a%7Cb"]


def test_the_version_that_envoy_has_is_ours_to_say() -> None:
    page = Scene().page("/status")
    assert (page.kind, json.loads(page.whole or b"")) == ("application/json", {"engine": "envoy", "version": "abc"})


def test_whether_it_is_ready_is_ours_to_say() -> None:
    scene = Scene()
    assert (scene.page("/ready").status, scene.page("/healthz/ready").whole) == (200, b"LIVE\n")
    scene.why = "DRAINING"
    assert (scene.page("/ready").status, scene.page("/ready").whole) == (503, b"DRAINING\n")


def test_the_process_is_drained_and_ended_by_us() -> None:
    scene = Scene()
    scene.page("/drain_listeners")
    scene.page("/quitquitquit")
    assert scene.done == ["drain", "quit"]


def test_an_envoy_that_is_away_is_said() -> None:
    scene = Scene()
    scene.gone = True
    page = scene.page("/clusters")
    assert (page.status, page.whole) == (503, b"Envoy does not respond: no such socket\n")
    assert scene.page("/").status == 200
