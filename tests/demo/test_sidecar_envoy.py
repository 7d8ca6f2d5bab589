"""``meshlib demo sidecar --engine envoy``: the same application with a real Envoy in each proxy."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from meshlib.demo.bookinfo.play import application as bookinfo
from meshlib.demo.report import Report
from meshlib.demo.sidecar import pods, runner
from meshlib.demo.sidecar.application import OnEnvoy
from meshlib.demo.sidecar.proxy import clusters_of_envoy, port_of
from meshlib.envoy import binary
from meshlib.problems import MeshError

pytestmark = pytest.mark.slow


def no_envoy() -> str:
    try:
        binary.find_envoy()
    except MeshError:
        return "NO ENVOY on PATH or in the extra envoy: the demo on Envoy is NOT played"
    return ""


@pytest.mark.skipif(bool(no_envoy()), reason=no_envoy())
def test_the_gateways_show_the_same_on_envoy(monkeypatch):
    monkeypatch.setattr(bookinfo, "REPLICAS", bookinfo.REPLICAS[:3])  # all that verdicts about gateways ask
    report = Report(Console(file=io.StringIO()))

    async def scenes(application):
        async with application.visitor(None) as client:
            await application.also_plays(client, report, 1)

    with OnEnvoy() as application:
        asyncio.run(scenes(application))
        assert application.find("productpage").ask("/server_info")["state"] == "LIVE"  # a page of Envoy's own
    assert [row.who for chapter in report.chapters for row in chapter.rows if row.verdict != "pass"] == []
    assert report.judged == 6


def said(monkeypatch, **how):
    monkeypatch.setattr(runner, "played", lambda *_, **__: 0)
    console = Console(file=io.StringIO())
    return runner.run(once=True, engine="envoy", console=console, **how), console.file.getvalue()


def test_transparent_mode_is_played_on_envoy_too(monkeypatch):
    monkeypatch.setattr(binary, "find_envoy", lambda: "/bin/envoy")
    monkeypatch.setattr(pods, "why_none", lambda: "")
    engines = []
    monkeypatch.setattr(runner, "_in_a_node", lambda _, engine: engines.append(engine) or 0)
    code, text = said(monkeypatch, mode="transparent")
    assert (code, engines, "transparent mode: all verdicts pass" in text) == (0, ["envoy"], True)


@pytest.mark.parametrize("mode", runner.MODES)
def test_without_an_envoy_it_says_how_to_get_one(monkeypatch, mode):
    monkeypatch.setattr(binary.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(binary, "_of_package", lambda: None)
    code, text = said(monkeypatch, mode=mode)
    assert (code, "sidecarless[envoy]" in text) == (2, True)


def test_what_envoy_says_of_clusters_is_read_as_ours():
    def status(port, **health):
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "health_status": health}

    page = {
        "cluster_statuses": [
            {
                "name": "outbound|9080|v1|reviews.default.svc.cluster.local",
                "host_statuses": [status(1, eds_health_status="HEALTHY"), status(2, failed_outlier_check=True)],
            },
            {"name": "inbound|8080||"},
        ]
    }
    endpoints = [{"address": "127.0.0.1:1", "ejected": False}, {"address": "127.0.0.1:2", "ejected": True}]
    assert clusters_of_envoy(page) == [
        {"host": "reviews.default.svc.cluster.local", "subset": "v1", "endpoints": endpoints}
    ]


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7", "[::1]:7", {"socket_address": {"address": "127.0.0.1", "port_value": 7}}]
)
def test_a_listeners_port_is_read_from_both(address):
    assert port_of(address) == 7
