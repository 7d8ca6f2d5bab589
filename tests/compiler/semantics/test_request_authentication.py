"""What is said of RequestAuthentications at load: nothing of fields that act, and why of those that do not."""

from __future__ import annotations

from meshlib.compiler.semantics.fields import inert_fields
from meshlib.compiler.semantics.request_authentication import ROWS
from meshlib.compiler.semantics.table import IGNORED
from meshlib.resources.loader import load_objects
from tests.support.token_bench import request_authentication


def said(*rules, **spec):
    return [p.message for p in inert_fields(load_objects([request_authentication(*rules, **spec)]).resources)]


def test_no_field_is_ignored():
    assert [row.path for row in ROWS if row.status == IGNORED] == []


def test_nothing_is_said_of_rules():
    assert (
        said({"issuer": "a", "presence": "REQUIRED", "fromCookies": ["c"]}, selector={"matchLabels": {"a": "b"}}) == []
    )


def test_targets_are_said_to_have_no_effect():
    [message] = said(targetRefs=[{"kind": "Gateway", "name": "a", "group": "gateway.networking.k8s.io"}])
    assert message == "no effect: targetRefs (for gateways and waypoints, which a server is not)"
