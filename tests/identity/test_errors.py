"""What is wrong with credentials is caught as any other error of a mesh, and as what it is of Python."""

from __future__ import annotations

import pytest

import meshlib
from meshlib.identity.errors import BadCredentials
from meshlib.identity.identity import Identity


@pytest.mark.parametrize("kind", [BadCredentials, meshlib.errors.MeshError, ValueError])
def test_it_is_caught_as(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="no-such-file does not exist"):
        meshlib.Mesh(identity=Identity.from_files("no-such-file", "no-such-file", "no-such-file"))
