"""The fixtures that users' tests get."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = "meshlib.testing.plugin"


def test_pytest_finds_the_plugin_where_meshlib_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"meshlib": PLUGIN}


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
    # a checkout that was installed before it had the entry point is told of the plugin
    installed = any(found.value == PLUGIN for found in importlib.metadata.entry_points(group="pytest11"))
    flags = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", *([] if installed else ["-p", PLUGIN])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
