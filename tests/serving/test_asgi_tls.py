"""ASGI's extension ``tls`` holds what its specification says, and goes to every scope of its connection."""

from __future__ import annotations

import ssl
from typing import Any

from meshlib.identity.peers import Peers
from meshlib.serving.asgi_tls import WithTls, tls_extension
from meshlib.serving.tls_peer import TlsPeer
from meshlib.transport.asgi.peer import peers_of
from tests.support.identities import CLIENT, World


def peer() -> TlsPeer:
    world = World()
    world.rotate()
    credentials = world.identity.current()
    assert credentials is not None
    between = world.root.intermediate(world.now)
    found = TlsPeer(
        credentials,
        between.issue(CLIENT, world.now).leaf,
        (ssl.PEM_cert_to_DER_cert(between.chain_pem.decode()),),
        sni="reviews",
    )
    found.version, found.cipher = "TLSv1.2", 0xC02B
    return found


def test_it_has_what_the_specification_names() -> None:
    told = peer()
    found = tls_extension(told)
    chain = found["client_cert_chain"]
    assert isinstance(chain, tuple)
    assert [ssl.PEM_cert_to_DER_cert(each) for each in chain] == [told.leaf, *told.chain]
    assert (found["tls_version"], found["cipher_suite"]) == (0x0303, 0xC02B)
    assert (found["client_cert_error"], found["client_cert_name"]) == (None, "")
    assert ssl.PEM_cert_to_DER_cert(str(found["server_cert"])) == told.credentials.svid.leaf
    assert "PRIVATE" not in str(found)


def test_what_is_not_known_is_none() -> None:
    told = peer()
    told.version, told.cipher = "TLSv9", 0
    found = tls_extension(told)
    assert (found["tls_version"], found["cipher_suite"]) == (None, None)


def test_policies_read_the_identity_of_it() -> None:
    found = peers_of(Peers(None))(tls_extension(peer()))
    assert found.mutual
    assert found.identity is not None
    assert found.identity.text == CLIENT


async def test_every_scope_has_it_beside_the_servers_own_extensions() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["extensions"])

    shown = WithTls(app, peer())
    own = {"http.response.trailers": {}}
    await shown({"type": "http", "extensions": own}, None, None)  # type: ignore[arg-type]
    await shown({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    assert [set(each) for each in seen] == [{"http.response.trailers", "tls"}, {"tls"}]
    assert set(own) == {"http.response.trailers"}, "the server's own table stays as it is"
