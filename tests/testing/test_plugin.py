"""The fixtures that users' tests get."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pytest_finds_the_plugin_where_meshlib_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"meshlib": "meshlib.testing.plugin"}


def test_mesh_caller_is_as_caller_and_costs_nothing_until_it_is_used(tmp_path: Path):
    (tmp_path / "test_users.py").write_text(
        "import sys\n"
        "def test_unused(request):\n"
        "    request.getfixturevalue\n"
        "    assert 'meshlib.engine.stand_in' not in sys.modules\n"
        "def test_used(mesh_caller):\n"
        "    from meshlib.testing import as_caller\n"
        "    assert mesh_caller is as_caller\n"
    )
    flags = ["-q", "-p", "no:cacheprovider", "-p", "meshlib.testing.plugin", "-p", "no:randomly"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
