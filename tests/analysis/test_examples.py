"""The meshes of our own demos fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.analysis.messages import messages
from meshlib.resources.loader import load

ROOT = Path(__file__).parents[2]
BOOKINFO = ROOT / "meshlib" / "demo" / "bookinfo" / "config"


@pytest.mark.parametrize("scenario", sorted(path.name for path in (BOOKINFO / "scenarios").glob("0[1-8]*.yaml")))
def test_bookinfo(scenario: str) -> None:
    files = [BOOKINFO / "application.yaml", BOOKINFO / "destination-rules.yaml", BOOKINFO / "scenarios" / scenario]
    assert messages(load(files, keep_all=True, keep_positions=True)) == []


def test_the_shop() -> None:
    assert messages(load(ROOT / "examples" / "grpc-shop" / "mesh", keep_all=True, keep_positions=True)) == []
