"""What the loader says of one resource, as short as a test wants it."""

from __future__ import annotations

from typing import Any

from meshlib.errors import Problem
from meshlib.resources.kinds import KINDS
from meshlib.resources.loader import load_objects


def resource(kind: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    """A resource of the kind's current version, called x."""
    known = KINDS[kind]
    head = {"apiVersion": f"{known.group}/{known.versions[0]}", "kind": kind}
    return {**head, "metadata": {"name": "x", **metadata}, "spec": spec}


def problems(kind: str, spec: Any, **metadata: Any) -> list[Problem]:
    return load_objects([resource(kind, spec, **metadata)]).problems


def refusals(kind: str, spec: Any, **metadata: Any) -> list[tuple[str, str]]:
    """(code, path below the resource) of every error; each must tell what to do."""
    errors = [p for p in problems(kind, spec, **metadata) if p.severity.value == "error"]
    assert all(p.hint for p in errors), [str(p) for p in errors if not p.hint]
    return [(p.code, p.path.rpartition(": ")[2]) for p in errors]


def warnings(kind: str, spec: Any, **metadata: Any) -> list[tuple[str, str]]:
    """(code, path) of every warning of a resource that loads."""
    found = problems(kind, spec, **metadata)
    assert not [p for p in found if p.severity.value == "error"]
    return [(p.code, p.path.rpartition(": ")[2]) for p in found if p.severity.value == "warning"]
