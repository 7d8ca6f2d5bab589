"""A caller's identity as handlers get it."""

from __future__ import annotations

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.principal import Principal
from meshlib.policy.spiffe_id import SpiffeId


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spiffe://cluster.local/ns/shop/sa/web", ("cluster.local", "shop", "web")),
        ("spiffe://td/some/where", ("td", "", "")),
        ("", ("", "", "")),
    ],
)
def test_it_is_a_text_that_knows_its_parts(text: str, parts: tuple[str, str, str]) -> None:
    found = Principal(InboundRequest("GET", "/", peer_id=SpiffeId.parse(text) if text else None))
    assert found == text
    assert isinstance(found, str)
    assert (found.trust_domain, found.namespace, found.service_account) == parts
