"""What a policy says of itself that stands for one which cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources.authorization_policy import AuthorizationPolicy
from meshlib.resources.base import Origin
from meshlib.resources.loader import load_objects
from meshlib.resources.peer_authentication import PeerAuthentication
from meshlib.resources.request_authentication import RequestAuthentication
from meshlib.resources.stand_ins import stand_in_for

KINDS = [AuthorizationPolicy, PeerAuthentication, RequestAuthentication]


@pytest.mark.parametrize("model", KINDS)
def test_one_that_could_be_read_stands_for_nothing(model: Any) -> None:
    document = {"apiVersion": "security.istio.io/v1", "kind": model.__name__, "metadata": {"name": "p"}, "spec": {}}
    [found] = load_objects([document]).resources
    assert isinstance(found, model)
    assert (found.stands_for, found.placed) == ("", True)


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize(("namespace", "placed"), [("shop", True), (5, False)])
def test_a_stand_in_says_why_and_whether_it_is_known_where_it_belongs(model: Any, namespace: Any, placed: bool) -> None:
    value = {"metadata": {"name": "p", "namespace": namespace}, "spec": 5}
    found = stand_in_for(model.__name__, value, "spec is not an object", Origin())
    assert isinstance(found, model)
    assert (found.stands_for, found.placed) == ("spec is not an object", placed)
    assert found.refuses == (
        "plain text is refused (STRICT) at every port that it may be for"
        if model is PeerAuthentication
        else "everything that it may have refused is refused"
    )
