"""The rows over aiohttp are made of real calls, and told round by round."""

from __future__ import annotations

import pytest

from benchmarks import fastpath_rows, synthetic, web_backend
from benchmarks.fastpath_rows import TARGETS, fastpath, over
from benchmarks.processes import backend

pytest.importorskip("aiohttp", reason="aiohttp is not installed: nothing to measure against")

pytestmark = pytest.mark.slow


def test_a_round_is_told_over_aiohttps_of_that_round() -> None:
    assert over([2.0, 9.0], [4.0, 3.0]) == [0.5, 3.0]
    with pytest.raises(ValueError):
        over([1.0], [])


def test_every_way_is_measured_with_its_quartiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_backend, "nginx_binary", lambda: None)
    monkeypatch.setattr(fastpath_rows, "LOOPS", ("asyncio",))
    real = fastpath_rows._client
    monkeypatch.setattr(fastpath_rows, "_client", lambda asked: real({**asked, "each": 1, "rounds": 3}))
    rows = {row.name.removeprefix("CPU over aiohttp, "): row for row in fastpath(quick=True)}
    assert set(TARGETS) - {"pyreqwest"} <= rows.keys() <= set(TARGETS)
    for name, row in rows.items():
        assert row.target == TARGETS[name][1]
        assert 0 < row.extra["low"] <= row.value <= row.extra["high"]
        assert "our own backend" in row.details


def test_a_client_process_that_fails_says_why() -> None:
    with backend() as (port, _), pytest.raises(RuntimeError, match="KeyError: 'bodies'"):
        fastpath_rows._client({"loop": "asyncio", "web": synthetic.reviews(port), "ports": {"web": port}})


def test_without_aiohttp_nothing_is_measured_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastpath_rows, "_missing", lambda: "aiohttp")
    for measure in (fastpath_rows.fastpath, fastpath_rows.fastpath_bodies):
        assert [row.details for row in measure(True)] == ["not measured: aiohttp is not installed"]
