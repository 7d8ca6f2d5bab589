"""What is wrong with resources, as a program takes it."""

from __future__ import annotations

from typing import assert_type

import meshlib
from meshlib.errors import ConfigError, MeshError, Problem, Severity


def checked(path: str) -> list[str]:
    try:
        mesh = meshlib.Mesh.from_path(path, watch=False)
    except ConfigError as error:
        assert_type(error.problems, list[Problem])
        first = error.problems[0]
        assert_type((first.code, first.file, first.line, first.hint), tuple[str, str, int, str])
        return [str(problem) for problem in error.problems if problem.severity is Severity.ERROR]
    except MeshError as error:
        return [str(error)]
    with mesh:
        mesh.apply([{"kind": "DestinationRule"}])
        mesh.reload(accept_removals=True)
        return [str(problem) for problem in mesh.problems]


def identified() -> meshlib.Mesh:
    identity = meshlib.Identity.from_files("cert.pem", "key.pem", "roots.pem")
    assert_type(identity, meshlib.Identity)
    return meshlib.Mesh.from_path("mesh/", identity=identity)
