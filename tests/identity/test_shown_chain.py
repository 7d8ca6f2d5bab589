"""What a peer has shown, as sockets and objects of ``ssl`` tell it."""

from __future__ import annotations

import contextlib
import ssl

import pytest

from meshlib.clock import SystemClock
from meshlib.identity.credentials import Credentials
from meshlib.identity.shown_chain import shown_chain
from meshlib.security.authority import Authority
from meshlib.security.pem import blocks
from meshlib.security.trust_bundles import TrustBundles

NOW = SystemClock.time()
ROOT = Authority.root("cluster.local", NOW)
SVID = ROOT.intermediate(NOW).issue("spiffe://cluster.local/ns/default/sa/a", NOW)


def handshake() -> tuple[ssl.SSLObject, ssl.SSLObject]:
    credentials = Credentials(SVID, TrustBundles({"cluster.local": (ROOT.root_der,)}))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = credentials.client_context(["http/1.1"]).wrap_bio(to_client, to_server)
    server = credentials.server_context(["http/1.1"]).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for each in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                each.do_handshake()
    return client, server


@pytest.mark.parametrize("side", [0, 1], ids=["client", "server"])
def test_it_is_leaf_and_intermediates(side: int) -> None:
    assert shown_chain(handshake()[side]) == tuple(block.content for block in blocks(SVID.chain_pem, ""))


@pytest.mark.parametrize(
    "nothing",
    [
        object(),
        None,
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="shop.example"),
    ],
)
def test_of_others_and_before_a_handshake_there_is_none(nothing: object) -> None:
    assert shown_chain(nothing) == ()
