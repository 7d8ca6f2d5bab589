"""Which claim a rule asks for by its headers."""

from __future__ import annotations

import pytest

from meshlib.policy.routing_claims import reader_of

CLAIMS = {"sub": "a", "Group": {"id": ["x", "y"]}, "a.b": "dotted", "number": 1}


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("@request.auth.claims.sub", ("a",)),
        ("@request.auth.claims[sub]", ("a",)),
        ("@request.auth.claims.Group.id", ("x", "y")),
        ("@request.auth.claims[Group][id]", ("x", "y")),
        ("@request.auth.claims[a.b]", ("dotted",)),
        ("@request.auth.claims.group.id", ()),
        ("@request.auth.claims.none", ()),
    ],
)
def test_a_claim_is_asked_for_by_its_path(name, texts):
    reader = reader_of(name)
    assert reader is not None
    assert tuple(reader(CLAIMS)) == texts
    assert tuple(reader(None)) == ()


@pytest.mark.parametrize("name", ["x-header", ":path", "@request.auth.claims", "@request.auth.claims-x"])
def test_anything_else_is_a_header(name):
    assert reader_of(name) is None
