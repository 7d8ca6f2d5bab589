"""docs/operations.md: every logger is there with its levels, and nothing that there is not."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import meshlib

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/operations.md").read_text()
ROWS = re.findall(r"^\| `(meshlib\.[a-z_]+)` \| ([A-Z]+) \| .{20,} \|$", PAGE, re.M)
LEVELS = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}


@functools.cache
def said() -> set[tuple[str, str]]:
    """Logger and level of each call of a logger in the source, the programs under ``demo/`` aside."""
    found = set()
    for file in Path(meshlib.__file__).parent.rglob("*.py"):
        if "demo" in file.parts:
            continue
        if "logging.getLogger" not in (text := file.read_text()):
            continue
        tree = ast.parse(text)
        names = {
            target.id: node.value.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "logging.getLogger"
            and isinstance(node.value.args[0], ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
            ):
                logger = names.get(node.func.value.id)
                if logger and node.func.attr in LEVELS:
                    found.add((logger, LEVELS[node.func.attr]))
    return found


def test_the_table_has_each_logger_with_each_of_its_levels_and_no_other():
    found = {(name, level) for name, level in said() if name.startswith("meshlib")}
    assert len(found) > 30
    assert sorted(ROWS) == sorted(found)


def test_every_logger_is_below_meshlib_but_for_httpx_own():
    assert {name for name, _ in said() if not name.startswith("meshlib.")} == {"httpx"}


def test_the_counts_of_failures_are_those_of_status():
    table = PAGE.partition("## What has failed")[2]
    keys = [key for row in re.findall(r"^\| (`.+?) \|", table, re.M) for key in re.findall(r"`(\w+)`", row)]
    with meshlib.Mesh.from_resources([]) as mesh:
        assert sorted(keys) == sorted(mesh.status()["failures"])
