"""Every field of AuthorizationPolicy has its row; what a negation does is said, too."""

from __future__ import annotations

from meshlib.compiler.authorization import OPERATION, SOURCE
from meshlib.compiler.semantics.authorization_policy import ROWS
from meshlib.compiler.semantics.table import HONOURED, IGNORED

BY_PATH = {row.path: row for row in ROWS if not row.value}


def test_each_field_of_from_and_to_and_its_negation_acts() -> None:
    for parent, fields in (("rules.from.source", SOURCE), ("rules.to.operation", OPERATION)):
        for name, _ in fields.values():
            row, twin = BY_PATH[f"{parent}.{name}"], BY_PATH[f"{parent}.not{name[0].upper()}{name[1:]}"]
            assert row.status != IGNORED
            assert twin.does == f"none of them: {row.does}"


def test_negations_of_the_peer_say_what_is_stricter() -> None:
    assert BY_PATH["rules.from.source.principals"].status == HONOURED
    assert "stricter than Envoy" in BY_PATH["rules.from.source.notPrincipals"].reason


def test_what_does_not_act_is_said() -> None:
    assert {row.path for row in ROWS if row.inert and not row.value} >= {"targetRef", "targetRefs"}
