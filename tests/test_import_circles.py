"""No module needs another that needs it: imports for a type's sake and those inside functions count too, for whoever reads a
file has to read what it names. (import-linter holds the order of the folders, and sees no circle inside one.)"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import meshlib

ROOT = Path(meshlib.__file__).parent


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield from [inside] if inside in known else [node.module] if node.module in known else []


def circles(needs: dict[str, set[str]]) -> list[list[str]]:
    """What needs itself by way of others, each circle (or knot of circles) once."""
    reached = {}
    for start in needs:
        seen: set[str] = set()
        new = list(needs[start])
        while new:
            module = new.pop()
            if module not in seen:
                seen.add(module)
                new += needs[module]
        reached[start] = seen
    knots = {tuple(sorted(m for m in reached[a] if a in reached[m])) for a in needs if a in reached[a]}
    return [list(knot) for knot in sorted(knots)]


def test_a_circle_is_found_wherever_it_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    texts = {
        "a": "from p import b",
        "b": "def f():\n    from p.c import X",
        "c": "if TYPE_CHECKING:\n    from p.a import Y",
        "d": "import p.a",
        "__init__": "",
    }
    for name, text in texts.items():
        (tmp_path / "p" / f"{name}.py").write_text(text)
    known = modules(tmp_path / "p")
    assert circles({m: set(imports(path, known)) - {m} for m, path in known.items()}) == [["p.a", "p.b", "p.c"]]


def test_no_module_needs_itself_by_way_of_others() -> None:
    known = modules(ROOT)
    assert circles({module: set(imports(path, known)) - {module} for module, path in known.items()}) == []
