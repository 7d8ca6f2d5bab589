"""All cases by group, each with a host of its own."""

from __future__ import annotations

import json

from tests.differential.grpcside import cases, random_cases
from tests.differential.grpcside.cases import Case
from tests.differential.grpcside.scene import PORT, Scene

GROUPS = {
    "faults": cases.faults,
    "matching": cases.matching,
    "missing": cases.missing,
    "times": cases.times,
    "changes": cases.changes,
    "retries": cases.retries,
    "broken": cases.broken,
    "random rules": random_cases.random_rules,
    "random retries": random_cases.random_retries,
    "random breaks": random_cases.random_breaks,
}
Groups = dict[str, list[tuple[str, Case]]]


def all_cases() -> Groups:
    """Each case with its host; HOST in its rules becomes that name."""
    out: Groups = {}
    number = 0
    for group, make in GROUPS.items():
        out[group] = []
        for case in make():
            number += 1
            out[group].append((f"c{number}", case))
    return out


def rules_of(host: str, case: Case) -> list[cases.Config]:
    """A case's rules for its host."""
    text = json.dumps(case.rules).replace("AUTHORITY", f"{host}:{PORT}").replace("HOST", host)
    return list(json.loads(text))


def scene_of(groups: Groups) -> Scene:
    """One scene that holds them all."""
    return Scene({host: rules_of(host, case) for made in groups.values() for host, case in made})
