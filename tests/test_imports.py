"""What importing the library loads: next to nothing before it is used, and never what only the command needs."""

from __future__ import annotations

import subprocess
import sys
from typing import get_type_hints

import pytest

import meshlib

RESOURCES = """[
    {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "reviews"},
     "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]}},
]"""

COMMAND_ONLY = ("click", "rich", "pygments")


def python(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def loaded_by(code: str) -> set[str]:
    return set(python(f"{code}\nimport sys; print(*sys.modules)").split())


@pytest.mark.parametrize(
    "code",
    [
        "import meshlib; meshlib.Mesh",
        "from meshlib import Mesh, Workload, Identity",
    ],
)
def test_who_merely_imports_pays_for_nothing_that_a_mesh_needs(code: str) -> None:
    dear = {
        "pydantic", "yaml", "httpx", "httptools", "h2", "grpc", "cryptography", "opentelemetry", "prometheus_client",
        "tenacity", "pybreaker", "meshlib.compiler", "meshlib.resources", "meshlib.registry", "meshlib.telemetry",
    }  # fmt: skip
    assert loaded_by(code) & {*dear, *COMMAND_ONLY} == set()


def test_a_mesh_of_dicts_that_is_explained_loads_nothing_of_the_command() -> None:
    loaded = loaded_by(
        f"import meshlib; mesh = meshlib.Mesh.from_resources({RESOURCES}); mesh.status(); mesh.describe()"
    )
    assert loaded & {*COMMAND_ONLY, "httpx", "grpc", "meshlib.cli", "meshlib.demo"} == set()


BLOCKED = f"""
import builtins
imports = builtins.__import__
def blocked(name, globals=None, *rest, **more):
    if name.partition(".")[0] in {COMMAND_ONLY!r} and (globals or {{"__name__": ""}})["__name__"].startswith(WHOSE):
        raise ImportError(f"{{name}} is for the command alone")
    return imports(name, globals, *rest, **more)
builtins.__import__ = blocked
"""


def test_a_client_works_where_click_and_rich_are_not_installed() -> None:
    """httpx loads both for a command of its own where they are there, and does without."""
    used = f"import meshlib\nprint(meshlib.Mesh.from_resources({RESOURCES}).client().is_closed)"
    assert python(f"WHOSE = ''\n{BLOCKED}\n{used}") == "False\n"


def test_no_module_but_the_command_imports_click_or_rich() -> None:
    """Whoever needs them otherwise (uvicorn, httpx) imports them for itself."""
    code = f"""
WHOSE = "meshlib."
{BLOCKED}
import importlib, pkgutil, sys, meshlib
for module in pkgutil.walk_packages(meshlib.__path__, "meshlib."):
    if module.name.split(".")[1] not in ("cli", "demo") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("meshlib.sources.watcher" in sys.modules)
"""
    assert python(code) == "True\n"


def test_a_name_that_is_none_is_an_error_at_import() -> None:
    assert "cannot import name 'Mash'" in python(
        "try:\n    from meshlib import Mash\nexcept ImportError as error:\n    print(error)"
    )


def test_an_import_that_fails_inside_is_told_and_not_taken_for_a_missing_name() -> None:
    broken = "import sys; sys.modules['meshlib.mesh.options'] = None\n"
    code = f"{broken}import meshlib\ntry:\n    meshlib.Mesh\nexcept ImportError as error:\n    print(error)"
    assert "meshlib.mesh.options" in python(code)


def test_names_that_are_loaded_late_are_listed() -> None:
    """For people at a prompt, and for completion."""
    names = "import meshlib, meshlib.errors, meshlib.testing; print(*(set(meshlib.__all__) - set(dir(meshlib))))"
    assert python(names) == "\n"
    assert loaded_by("import meshlib; dir(meshlib)") & {"httpx", "pydantic", "meshlib.mesh"} == set()


def test_the_record_of_a_call_has_one_name() -> None:
    code = "import meshlib; found = meshlib.Mesh.from_resources([]).explain(url='http://a/')\n"
    assert python(f"{code}print(type(found) is meshlib.Exchange, repr(found).split()[0])") == "True <Exchange\n"


def test_what_a_mesh_returns_is_known_at_run_time() -> None:
    """Frameworks look at it: ``app.add_api_route("/mesh/status", mesh.status)``."""
    for name in ("status", "describe", "explain", "explain_inbound"):
        assert get_type_hints(getattr(meshlib.Mesh, name))["return"], name


def test_the_status_of_a_mesh_is_a_route_of_fastapi() -> None:
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed: nothing takes the method as a route")
    from starlette.testclient import TestClient

    app = fastapi.FastAPI()
    with meshlib.Mesh.from_resources([]) as mesh:
        app.add_api_route("/mesh/status", mesh.status)
        response = TestClient(app).get("/mesh/status")
    assert (response.status_code, response.json()["closed"]) == (200, False)
