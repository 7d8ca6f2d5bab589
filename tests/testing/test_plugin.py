"""The plugin as users have it: a pytest of its own, in a folder that knows nothing of this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLUGIN = "meshlib.testing.plugin"
MOST_MODULES = 6

Pytest = Callable[..., tuple[int, str]]


@pytest.fixture
def users(tmp_path: Path) -> Pytest:
    """``users(source, *flags)`` runs pytest on a test file; its exit code and what it has printed."""

    def run(source: str, *flags: str) -> tuple[int, str]:
        (tmp_path / "test_users.py").write_text(source)
        # those that it is to get along with, and none of the others that this environment has: they take longer than the tests
        plugins = [PLUGIN, "xdist.plugin", "pytest_asyncio.plugin", "anyio.pytest_plugin", "no:cacheprovider"]
        own = ["-q", "--strict-markers", *(word for plugin in plugins for word in ("-p", plugin))]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *own, *flags, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_pytest_finds_the_plugin_where_meshlib_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"meshlib": PLUGIN}


def test_whoever_uses_none_of_it_loads_nothing_for_it():
    """Counted in modules: a clock would tell of the machine."""
    program = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(*sorted(set(sys.modules) - before), sep='\\n')\n"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert PLUGIN in loaded
    ours = [name for name in loaded if name.startswith("meshlib")]
    assert ours == ["meshlib", "meshlib.distribution", "meshlib.testing", "meshlib.testing.plugin"]
    assert len(loaded) <= MOST_MODULES, loaded


USERS = """
import sys
import pytest

YAML = '''
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - fault: {abort: {percentage: {value: 50}, httpStatus: 418}}
    route: [{destination: {host: reviews}}]
'''

def test_unused():
    assert not [name for name in sys.modules if name.startswith("meshlib.") and name.count(".") > 1
                and name not in ("meshlib.testing.plugin",)]

def test_mesh_caller(mesh_caller):
    from meshlib.testing import as_caller
    assert mesh_caller is as_caller

@pytest.mark.mesh(YAML, endpoints={"reviews": "127.0.0.1:1"})
def test_fails(mesh):
    with mesh.client(local_replies="respond") as client:
        assert not [client.get("http://reviews/").status_code for _ in range(20)]

@pytest.mark.mesh(YAML, endpoints={"reviews": "127.0.0.1:1"})
@pytest.mark.asyncio
async def test_asyncio(mesh):
    async with mesh.async_client(local_replies="respond") as client:
        assert (await client.get("http://reviews/")).status_code in (418, 503)

@pytest.mark.mesh(YAML, endpoints={"reviews": "127.0.0.1:1"})
@pytest.mark.anyio
async def test_anyio(mesh, fake_clock, anyio_backend):
    async with mesh.async_client(local_replies="respond") as client:
        await fake_clock.sleep_async(3600)
        assert (await client.get("http://reviews/")).status_code in (418, 503)

@pytest.fixture
def anyio_backend():
    return "asyncio"

def test_fails_without_a_mesh():
    assert not "seed"
"""


def test_a_test_that_fails_says_the_seed_that_replays_it_whatever_else_runs_the_tests(users):
    """Under xdist, pytest-asyncio and anyio, in one run: a pytest more is some seconds more."""
    code, said = users(USERS, "-n", "1")
    assert code == 1
    assert "2 failed, 4 passed" in said, said
    (seed,) = re.findall(r"^seed (\d+): replay with  pytest --mesh-seed=\1 test_users.py::test_fails$", said, re.M)
    statuses = re.search(r"assert not (\[.*\])", said)
    assert statuses is not None
    assert statuses[1] in users(USERS, "-k", "test_fails", f"--mesh-seed={seed}")[1], "not the same run again"
