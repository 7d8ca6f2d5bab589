"""What is said of PeerAuthentications at load: nothing, every field acts."""

from __future__ import annotations

from meshlib.compiler.semantics.fields import inert_fields
from meshlib.compiler.semantics.peer_authentication import ROWS
from meshlib.compiler.semantics.table import APPROXIMATED, HONOURED
from meshlib.resources.loader import load_objects
from tests.support.peer_authentication import peer_authentication


def test_every_field_acts() -> None:
    assert {row.status for row in ROWS} == {HONOURED, APPROXIMATED}


def test_nothing_is_said_of_modes_and_ports() -> None:
    policy = peer_authentication("cart", app="cart")
    policy["spec"]["portLevelMtls"] = {"8080": {"mode": "DISABLE"}}
    assert list(inert_fields(load_objects([policy]).resources)) == []
