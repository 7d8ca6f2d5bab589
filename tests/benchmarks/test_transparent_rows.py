"""Figures of transparent mode: ratios of paired rounds with their interval, and who cannot measure says so."""

from __future__ import annotations

import os
import shutil

import pytest

from benchmarks import transparent_rows
from benchmarks.transparent_rows import interval, transparent


def test_rounds_that_agree_have_no_interval():
    assert interval([1.02] * 7) == pytest.approx((1.02, 1.02, 1.02))


def test_the_interval_is_of_the_ratios_and_widens_with_them():
    middle, low, high = interval([0.9, 1.0, 1.0 / 0.9])
    assert middle == pytest.approx(1.0)
    assert low * high == pytest.approx(1.0), "as far down as up"
    assert 1.0 / 0.9 < high < 1.4, "three rounds tell little"


def test_a_row_tells_its_interval_and_what_it_may_be():
    row = transparent_rows._row("CPU a request", [102.0, 104.0, 103.0], [100.0, 100.0, 100.0], 0.0)
    assert (row.name, row.target, row.lower_is_better) == ("proxy, CPU a request", 1.05, True)
    assert row.value == pytest.approx(1.03, abs=0.001)
    assert row.extra["low"] < row.value < row.extra["high"]
    assert row.details.endswith("in 3 rounds; 103.0 against 100.0 us")
    busy = transparent_rows._row("CPU a request", [102.0, 104.0, 103.0], [100.0, 100.0, 100.0], 0.2)
    assert "NOT AN IDLE MACHINE: waited for its core 20%" in busy.details


@pytest.mark.parametrize(("user", "missing", "why"), [(1000, (), "not root"), (0, ("ip", "wrk"), "no ip, wrk")])
def test_without_root_or_tools_it_is_said_and_nothing_is_started(user, missing, why, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in missing else f"/usr/bin/{tool}")
    monkeypatch.setattr(transparent_rows.Path, "exists", lambda self: False)
    monkeypatch.setattr(transparent_rows.subprocess, "run", lambda *_, **__: pytest.fail("started"))
    (row,) = transparent(quick=True)
    assert row.details == f"not measured: {why}"
    assert row.target is None
