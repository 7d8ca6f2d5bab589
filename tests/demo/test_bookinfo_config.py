"""Our own YAML: what a reader learns from must be without fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.demo.bookinfo import CONFIG
from meshlib.demo.bookinfo.play.outlier import FILE
from meshlib.demo.bookinfo.play.scenarios import SCENARIOS
from meshlib.errors import Severity
from meshlib.resources.loader import load

FILES = sorted(CONFIG.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_file_loads_without_error_or_warning_and_begins_with_what_it_is_about(path: Path) -> None:
    loaded = load([path])
    assert loaded.resources
    assert [str(p) for p in loaded.problems if p.severity is not Severity.NOTICE] == []
    assert path.read_text("utf-8").startswith("# ")


def test_every_scenario_file_is_played() -> None:
    assert {s.path for s in SCENARIOS} | {FILE} == set((CONFIG / "scenarios").glob("*.yaml"))
