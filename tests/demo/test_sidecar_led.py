"""``meshlib demo sidecar`` in transparent mode: pods in network namespaces, whose services know of no proxy. CI plays it in
full, as root, on both engines."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from meshlib.demo.process import environment
from meshlib.demo.sidecar import pods, runner
from tests.support.envoy_engine import require_envoy

NONE = pods.why_none()
PLAYED = pytest.mark.skipif(
    not os.environ.get("MESHLIB_FAULTS"), reason="a whole scene: MESHLIB_FAULTS=1; CI plays the demo itself"
)
SCENES = """
import asyncio
from meshlib.demo.report import Report
from meshlib.demo.sidecar.led import KIND

async def scenes(app, report):
    async with app.visitor(None) as client:
        await app.also_plays(client, report, 1)

with KIND() as app:
    report = Report()
    asyncio.run(scenes(app, report))
    assert all(child.port == 9080 for child in app.children)
print("judged", report.judged, "failed", report.failed)
"""


@pytest.mark.skipif(bool(NONE), reason=f"transparent mode is NOT tested: {NONE}")
@PLAYED
@pytest.mark.parametrize("kind", ["Led", "LedOnEnvoy"])
def test_services_that_know_of_no_proxy_are_entered_and_left_through_the_gateways(kind):
    if kind == "LedOnEnvoy":
        require_envoy()
    done = subprocess.run(
        [*pods.apart(), sys.executable, "-c", SCENES.replace("KIND", kind)],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "judged 6 failed 0" in done.stdout, done.stdout


def said(monkeypatch, mode, why="this is not root"):
    """The exit code, and what is said, where there are no namespaces and the explicit verdicts pass."""
    monkeypatch.setattr(pods, "why_none", lambda: why)
    monkeypatch.setattr(runner, "played", lambda *_, **__: 0)
    console = Console(file=io.StringIO())
    return runner.run(once=True, mode=mode, console=console), console.file.getvalue()


def test_without_namespaces_it_says_so_and_the_explicit_verdicts_decide(monkeypatch):
    code, text = said(monkeypatch, "both")
    assert code == 0
    assert "transparent mode is NOT played" in text
    assert "this is not root" in text


def test_transparent_mode_that_was_asked_for_and_cannot_be_had_is_no_success(monkeypatch):
    code, text = said(monkeypatch, "transparent")
    assert (code, "cannot be played" in text) == (2, True)


@pytest.mark.parametrize("ended", [1, 2])
def test_verdicts_of_transparent_mode_count(monkeypatch, ended):
    monkeypatch.setattr(runner, "_in_a_node", lambda *_: ended)
    code, text = said(monkeypatch, "both", why="")
    assert code == ended
    assert "transparent mode: " in text


def test_tools_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(pods.shutil, "which", lambda tool, **_: None if tool in ("ip", "iptables") else f"/bin/{tool}")
    assert pods.why_none() == "there is no ip, iptables"
