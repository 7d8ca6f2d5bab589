"""The judge: generated meshes through both engines, and equal responses. By hand: MESHLIB_ENGINE_CASES=10000 SEED=7."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

from tests.differential.sidecar.generate import mesh
from tests.support.both_engines import differences
from tests.support.envoy_engine import require_envoy

pytestmark = pytest.mark.differential

SEED = int(os.environ.get("SEED", "20261127"))
CASES = int(os.environ.get("MESHLIB_ENGINE_CASES", "240"))
HOSTS, REQUESTS = 40, 3
MESHES = max(1, CASES // (HOSTS * REQUESTS))


@pytest.mark.parametrize("number", range(MESHES))
def test_both_engines_respond_alike(tmp_path: Path, number: int) -> None:
    require_envoy()
    found = list(islice(differences(tmp_path, mesh(SEED + number, number, HOSTS, REQUESTS)), 20))
    assert not found, f"{len(found)} or more:\n" + "\n\n".join(map(str, found[:3]))
