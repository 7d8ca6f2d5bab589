"""The outlier scenario: a second replica of reviews v1 begins to fail, is ejected by its callers, is healed, and returns;
at last it is killed outright, and nobody notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx

from meshlib.demo.bookinfo import CONFIG
from meshlib.demo.bookinfo.play.application import Application
from meshlib.demo.bookinfo.play.probe import ANYONE, Sight, look, look_once
from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.report import Report, Row, counts, verdict

FILE = CONFIG / "scenarios" / "09-outlier-ejection.yaml"
THRESHOLD = 3  # consecutive5xxErrors of the file
EJECTION_SECONDS = 6.0  # baseEjectionTime of the file
BACK_SECONDS = 15.0
BOTH, DYING, KILLED = 20, 40, 30


async def play_outlier(app: Application, client: httpx.AsyncClient, report: Report) -> None:
    """Play it. The application has the replicas it began with when this returns."""
    report.begin(
        "outlier ejection",
        FILE.name,
        f"reviews v1 on 2 replicas; eject after {THRESHOLD} 5xx in a row, {EJECTION_SECONDS:g} s the first time",
    )
    sick = app.scale_up("reviews", "v1")
    try:
        app.play(FILE.read_bytes())
        endpoint = f"{sick.host}:{sick.port}"
        await _both(client, endpoint, report)
        app.fail(sick, "5xx")
        await _dying(app, client, endpoint, report)
        app.fail(sick, "none")
        await _back(client, endpoint, report)
        await _killed(client, sick, endpoint, report)
    finally:
        app.remove(sick)


async def _both(client: httpx.AsyncClient, endpoint: str, report: Report) -> None:
    seen = await look(client, ANYONE, BOTH)
    there, other = _by_endpoint(seen.sights, endpoint)
    why = [] if there and other and len(seen.reviews) == 1 else ["both replicas should have served"]
    text = f"{BOTH} looks: {other} calls to the healthy replica, {there} to the other"
    report.row(Row("both healthy", "both replicas serve", text, verdict(why), tuple(why)))


async def _dying(app: Application, client: httpx.AsyncClient, endpoint: str, report: Report) -> None:
    started = time.monotonic()
    # one by one: in parallel, calls already under way would still hit the replica after its third error
    seen = await look(client, ANYONE, DYING, width=1)
    rounds = 1 + int((time.monotonic() - started) / EJECTION_SECONDS)
    calls = [call for sight in seen.sights for call in sight.calls]
    errors = [call for call in calls if call["status"] == 503]
    elsewhere = [call for call in errors if call["endpoint"] != endpoint]
    ejected = [e for e in _endpoints(app.status(app.find("productpage"))) if e.get("ejected")]
    why = []
    if not THRESHOLD <= len(errors) <= THRESHOLD * rounds:
        why.append(f"{len(errors)} errors, expected {THRESHOLD} before the ejection and none after")
    if elsewhere:
        why.append(f"{len(elsewhere)} errors came from another endpoint than {endpoint}")
    if [e.get("address", e.get("endpoint")) for e in ejected] != [endpoint]:
        why.append(f"mesh.status() of productpage should show {endpoint} ejected, it shows {ejected or 'nothing'}")
    if seen.reviews != Counter({"v1": DYING}):
        why.append(f"visitors saw {counts(seen.reviews)}")
    text = (
        f"{DYING} looks, all with reviews: {len(errors)} calls answered 503, then {endpoint} ejected; "
        f"{len(calls) - len(errors)} calls well"
    )
    report.row(Row("one replica fails", f"{THRESHOLD} errors, then none", text, verdict(why), tuple(why)))


async def _back(client: httpx.AsyncClient, endpoint: str, report: Report) -> None:
    started = time.monotonic()
    back = None
    while back is None and time.monotonic() - started < BACK_SECONDS:
        sight = await look_once(client, ANYONE)
        if any(call["endpoint"] == endpoint and call["status"] == 200 for call in sight.calls):
            back = time.monotonic() - started
        else:
            await asyncio.sleep(0.1)
    why = [] if back is not None else [f"{endpoint} got no call within {BACK_SECONDS:g} s after it was healed"]
    text = f"serves again after {back or 0:.1f} s"
    report.row(Row("it is healed", "returns when its ejection ends", text, verdict(why), tuple(why)))


async def _killed(client: httpx.AsyncClient, sick: Child, endpoint: str, report: Report) -> None:
    sick.kill()
    seen = await look(client, ANYONE, KILLED)
    lost = KILLED - seen.reviews["v1"]
    calls = [call for sight in seen.sights for call in sight.calls]
    retried = sum((call.get("attempts") or 0) > 1 for call in calls)
    why = [f"{lost} looks lost their reviews"] if lost else []
    text = f"{KILLED} looks, {lost} without reviews; {retried} calls retried on the other replica"
    report.row(Row("it is killed", "no look is lost", text, verdict(why), tuple(why)))


def _by_endpoint(sights: Iterable[Sight], endpoint: str) -> tuple[int, int]:
    calls = [call["endpoint"] == endpoint for sight in sights for call in sight.calls if call["status"] == 200]
    return sum(calls), len(calls) - sum(calls)


def _endpoints(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        endpoint
        for cluster in status.get("clusters", ())
        if cluster["host"].startswith("reviews.") and cluster["subset"] == "v1"
        for endpoint in cluster["endpoints"]
    ]
