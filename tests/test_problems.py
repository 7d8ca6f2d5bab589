"""What is wrong with a configuration is said without the libraries that make calls."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from meshlib import errors, problems

COMPILES = """
import json, sys
from meshlib.compiler.compile import compile_snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload

loaded = load_objects([
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "reviews"},
     "spec": {"ports": [{"port": 9080, "name": "http"}]}},
    {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "reviews"},
     "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]}},
])
snapshot = compile_snapshot(loaded.resources, Workload())
assert snapshot.ports and snapshot.problems
"""


def test_compiling_loads_neither_httpx_nor_click() -> None:
    code = (
        COMPILES + "print(json.dumps([name for name in ('httpx', 'httpx2', 'click', 'grpc') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("file", "line", "begins"),
    [("a.yaml", 3, "a.yaml:3:1: error: spec"), ("a.yaml", 0, "a.yaml: error: spec"), ("", 0, "error: spec")],
)
def test_a_problem_begins_with_its_place_where_it_has_one(file: str, line: int, begins: str) -> None:
    assert str(problems.Problem("c", problems.Severity.ERROR, file, line, 1, "spec", "m")) == f"{begins}: m [c]"


@pytest.mark.parametrize("name", ["ConfigError", "MeshError", "Problem", "Severity"])
def test_the_names_of_configuration_errors_are_those_of_meshlib_errors(name: str) -> None:
    assert getattr(errors, name) is getattr(problems, name)
