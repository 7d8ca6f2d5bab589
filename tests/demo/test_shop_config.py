"""The shop's YAML: what a reader learns from must be without fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.demo.shop import APP, CONFIG
from meshlib.errors import Severity
from meshlib.resources.loader import load

FILES = sorted(CONFIG.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_file_loads_without_error_or_warning_and_begins_with_what_it_is_about(path: Path) -> None:
    loaded = load([path])
    assert loaded.resources
    assert [str(p) for p in loaded.problems if p.severity is not Severity.NOTICE] == []
    assert path.read_text("utf-8").startswith("# ")


def test_the_readme_links_to_files_that_are_there() -> None:
    text = (APP / "README.md").read_text("utf-8")
    linked = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert len(linked) >= 8
    assert [name for name in linked if not (APP / name).exists()] == []
