"""The distribution is called sidecarless, because ``meshlib`` on PyPI is somebody else's: what happens when both meet."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
THEIRS = "# a 3D geometry library\n"


@pytest.fixture
def site(tmp_path) -> Path:
    """A site-packages folder with this project's files in it, as pip would lay them."""
    folder = tmp_path / "site-packages"
    (folder / "meshlib").mkdir(parents=True)
    for file in (ROOT / "meshlib").rglob("*.py"):
        there = folder / file.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())
    for package in ("command/meshlib_command", "fastapi/meshlib_fastapi", "flask/meshlib_flask"):
        there = folder / Path(package).name
        there.mkdir()
        for file in (ROOT / "integrations" / package).glob("*.py"):
            (there / file.name).write_bytes(file.read_bytes())
    record(folder, "sidecarless-0.1.0", *(str(f.relative_to(folder)) for f in (folder / "meshlib").rglob("*.py")))
    return folder


def record(site: Path, name: str, *files: str) -> None:
    info = site / f"{name}.dist-info"
    info.mkdir()
    lines = []
    for file in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256((site / file).read_bytes()).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},1\n")
    (info / "RECORD").write_text("".join(lines))


def install_theirs(site: Path, *replacing: str) -> None:
    for file in replacing:
        (site / file).write_text(THEIRS)
    (site / "meshlib" / "mrmeshpy.py").write_text(THEIRS)
    record(site, "meshlib_core-3.1.4.297", *replacing, "meshlib/mrmeshpy.py")
    record(site, "meshlib-3.1.4.297")


ONLY_THIS_SITE = """
import os, sys
here = os.environ["PYTHONPATH"]  # this project may be installed too, in the environment that runs the tests
sys.path[:] = [p for p in sys.path if p in ("", here) or not os.path.exists(os.path.join(p, "meshlib", "__init__.py"))]
"""


def python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", ONLY_THIS_SITE + code]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=site, check=False, timeout=120)


COMMAND = "import sys, meshlib_command; sys.argv = ['meshlib', '--help']; meshlib_command.main()"


def test_alone_nothing_is_said(site):
    ran = python(site, "import meshlib, meshlib.mesh, meshlib_fastapi; print(meshlib.__file__)")
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert str(site) in ran.stdout
    assert "Commands:" in python(site, COMMAND).stdout


def test_ctrl_c_while_the_command_is_imported_is_one_line(site):
    (site / "meshlib" / "cli" / "main.py").write_text("raise KeyboardInterrupt\n")
    ran = python(site, COMMAND)
    assert (ran.returncode, ran.stderr, ran.stdout) == (130, "interrupted\n", "")


def test_ctrl_c_while_a_class_of_it_is_made_is_one_line_too(site):
    """Python 3.11 makes a RuntimeError of what interrupts a ``__set_name__``."""
    (site / "meshlib" / "cli" / "validate.py").write_text(
        "class Field:\n def __set_name__(self, *_):\n  raise KeyboardInterrupt\nclass Of:\n value = Field()\n"
    )
    ran = python(site, COMMAND.replace("--help", "validate"))
    assert (ran.returncode, ran.stderr, ran.stdout) == (130, "interrupted\n", "")


def test_an_error_while_a_command_is_imported_is_told_as_it_is(site):
    (site / "meshlib" / "cli" / "validate.py").write_text("raise RuntimeError('of another kind')\n")
    ran = python(site, COMMAND.replace("--help", "validate"))
    assert ran.returncode == 1
    assert "RuntimeError: of another kind" in ran.stderr


def test_another_distribution_that_is_merely_installed_is_warned_of_once(site):
    install_theirs(site)
    ran = python(site, "import meshlib, meshlib.mesh; print(meshlib.Mesh.from_resources([]))")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("RuntimeWarning") == 1
    assert "meshlib 3.1.4.297, meshlib-core 3.1.4.297 is installed beside sidecarless" in ran.stderr
    assert "pip uninstall meshlib meshlib-core" in ran.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import meshlib.mesh",
        "import meshlib.errors",
        "import meshlib.problems",
        "from meshlib.workload import Workload",
        "import meshlib.clock",
        "import meshlib.testing",
        "import meshlib.resources.loader",
        "import meshlib.compiler.compile",
        "import meshlib.cli.main",
        "import meshlib_fastapi",
        "import meshlib_flask",
    ],
)
def test_when_it_has_replaced_our_init_whatever_of_ours_still_runs_refuses(site, code):
    install_theirs(site, "meshlib/__init__.py")
    ran = python(site, code)
    assert ran.returncode == 1
    assert (
        "ImportError: sidecarless: the package meshlib was replaced by the distribution meshlib 3.1.4.297" in ran.stderr
    )
    assert "pip uninstall meshlib meshlib-core, then pip install --force-reinstall sidecarless" in ran.stderr


def test_when_it_has_replaced_another_file_our_init_refuses(site):
    install_theirs(site, "meshlib/workload.py")
    ran = python(site, "import meshlib")
    assert ran.returncode == 1
    assert "has replaced files of this package (meshlib/workload.py)" in ran.stderr


def test_a_package_that_lost_its_init_refuses(site):
    """pip takes the shared file away when the other one is uninstalled."""
    (site / "meshlib" / "__init__.py").unlink()
    ran = python(site, "import meshlib.mesh")
    assert "ImportError: sidecarless: the package meshlib is missing or not ours" in ran.stderr
    assert "has lost its __init__.py" in python(site, COMMAND).stderr


def test_the_command_looks_before_it_imports(site):
    """Their ``__init__`` must not even run."""
    install_theirs(site, "meshlib/__init__.py")
    (site / "meshlib" / "__init__.py").write_text("raise SystemExit('theirs has run')\n")
    ran = python(site, COMMAND)
    assert ran.returncode == 1
    assert "belongs to another distribution, not to sidecarless" in ran.stderr
    assert "pip uninstall meshlib meshlib-core" in ran.stderr
    assert "theirs has run" not in ran.stderr


def test_the_project_and_its_commands_are_named_sidecarless():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "sidecarless"
    assert project["scripts"] == {"meshlib": "meshlib_command:main", "sidecarless": "meshlib_command:main"}
    assert not [extra for extra in project["optional-dependencies"].values() if any("meshlib[" in e for e in extra)]


def test_no_hint_or_document_installs_the_other_distribution():
    wrong = re.compile(r"pip install['\" -]+meshlib(?![\w/.])")
    found = []
    for folder in ("meshlib", "integrations", "examples", "benchmarks", "docs", "tests"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".md", ".toml", ".yaml") and file != Path(__file__):
                found += [f"{file}: {line}" for line in file.read_text("utf-8").splitlines() if wrong.search(line)]
    for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"):
        found += [f"{name}: {line}" for line in (ROOT / name).read_text("utf-8").splitlines() if wrong.search(line)]
    assert found == []


WINDOWS = "import os, sys; os.name = 'nt'; sys.platform = 'win32'\n"


@pytest.mark.parametrize("code", ["import meshlib", "import meshlib.workload", "from meshlib import Mesh"])
def test_on_windows_the_import_says_that_it_is_for_posix(site, code):
    ran = python(site, WINDOWS + code)
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("ImportError: sidecarless runs on POSIX systems only (Linux, macOS), not on win32")
    assert "WSL 2" in last


def test_on_windows_the_command_says_so_without_a_traceback(site):
    ran = python(site, WINDOWS + COMMAND)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("meshlib: sidecarless runs on POSIX systems only")
    assert "Traceback" not in ran.stderr


def test_python_dash_m_is_the_command(site):
    ran = python(
        site, "import runpy, sys; sys.argv = ['meshlib', '--help']; runpy.run_module('meshlib', run_name='__main__')"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Usage: python -m meshlib [OPTIONS] COMMAND")
    assert "validate" in ran.stdout
