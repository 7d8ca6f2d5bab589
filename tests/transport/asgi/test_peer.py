"""Who the peer is by what an ASGI server tells: the ``tls`` extension in both spellings, and addresses that proxies wrote."""

from __future__ import annotations

import ssl
from unittest.mock import Mock

import pytest

from meshlib.identity.peers import Peers
from meshlib.policy.client_address import ShownAddresses
from meshlib.transport.asgi import peer
from meshlib.transport.asgi.peer import NOBODY, address, peers_of, plain_address, rewritten
from tests.support.spiffe import Authority

OPS, OTHER = "spiffe://cluster.local/ns/default/sa/ops", "spiffe://cluster.local/ns/default/sa/other"
AUTHORITY = Authority()
PEM = AUTHORITY.issue(OPS)[1].decode()
DER = ssl.PEM_cert_to_DER_cert(PEM)
OTHER_PEM = AUTHORITY.issue(OTHER)[1].decode()
peer_of = peers_of(Peers(None))


@pytest.mark.parametrize(
    "tls",
    [
        {"client_cert_chain": [PEM]},
        {"client_cert_chain": (PEM, OTHER_PEM)},
        {"client_cert": DER},
        {"client_cert_chain": [PEM], "client_cert": DER},
        {"client_cert_chain": [], "client_cert": DER},
        {"client_cert_chain": [PEM], "client_cert_error": None},
    ],
)
def test_the_identity_is_in_the_leaf_that_was_shown(tls):
    found = peer_of(tls)
    assert found.identity is not None
    assert found.identity.text == OPS
    assert found.mutual


@pytest.mark.parametrize(
    "tls",
    [
        None,
        {},
        {"client_cert_chain": []},
        {"client_cert_chain": None, "client_cert": None},
        {"client_cert_chain": [""], "client_cert": b""},
        {"client_cert_chain": PEM},  # no chain: whatever it is, it is not what the specification says
        {"client_cert_chain": [None]},
        {"client_cert_name": f"CN=ops,URI={OPS}"},
        {"client_cert_chain": [PEM], "client_cert_error": "self-signed"},
    ],
)
def test_what_shows_no_verified_certificate_is_nobody(tls):
    assert peer_of(tls) == NOBODY


@pytest.mark.parametrize(
    "pem", [OTHER_PEM.replace("M", "N"), "-----BEGIN CERTIFICATE-----", AUTHORITY.issue("dns:" + OPS)[1]]
)
def test_a_certificate_without_a_valid_identity_is_mutual_tls_of_nobody(pem):
    found = peer_of({"client_cert_chain": [pem]})
    assert found.identity is None
    assert found.mutual


def test_a_server_that_tells_two_certificates_tells_nobody():
    found = peer_of({"client_cert_chain": [OTHER_PEM], "client_cert": DER})
    assert found.identity is None
    assert found.mutual


@pytest.mark.parametrize(
    ("host", "port", "wanted"),
    [
        ("10.0.0.1", 80, "10.0.0.1:80"),
        ("::1", 80, "[::1]:80"),
        ("/run/x.sock", None, "unix:/run/x.sock"),
        ("a", 0, "a:0"),
    ],
)
def test_addresses_are_written_as_the_rest_reads_them(host, port, wanted):
    assert address(host, port) == wanted


@pytest.mark.parametrize(
    ("host", "port", "forwarded", "wanted"),
    [
        ("1.2.3.4", 0, b"1.2.3.4", True),
        ("1.2.3.4", 0, b"9.9.9.9, 1.2.3.4", True),
        ("1.2.3.4", 5, b"1.2.3.4:5", True),
        ("::1", 5, b"[::1]:5", True),
        ("::1", 0, b"[::1]", True),
        ("garbage", 0, b"garbage", True),
        ("1.2.3.4", 4711, b"1.2.3.4", False),  # a peer says its own address: its port is its own
        ("1.2.3.4", 0, b"9.9.9.9", False),
        ("1.2.3.4", 5, b"", False),
    ],
)
def test_a_client_that_stands_in_x_forwarded_for_is_not_the_peer(host, port, forwarded, wanted):
    assert rewritten(host, port, forwarded) is wanted


def remembering():
    """What a door asks, and what it remembers."""
    peers, made = Peers(None), []
    memo = peers.memo
    peers = Mock(wraps=peers, version=0)
    peers.memo = lambda: made.append(memo()) or made[0]
    return peers_of(peers), made[0]


def test_who_shows_the_same_certificate_again_is_the_same_and_only_then():
    peer_of, known = remembering()
    assert peer_of({"client_cert_chain": [PEM]}) == peer_of({"client_cert_chain": [PEM]})
    assert list(known) == [PEM]
    # what was said of the certificate counts each time
    assert peer_of({"client_cert_chain": [PEM], "client_cert_error": "expired"}) == NOBODY
    assert peer_of({"client_cert_chain": [PEM], "client_cert": ssl.PEM_cert_to_DER_cert(OTHER_PEM)}).identity is None
    assert peer_of({"client_cert_chain": [OTHER_PEM]}).identity.text == OTHER


def test_what_is_remembered_is_bounded_and_has_an_identity(monkeypatch):
    peer_of, known = remembering()
    monkeypatch.setattr(peer, "MOST_REMEMBERED", 3)
    for n in range(9):
        peer_of({"client_cert_chain": [PEM + "\n" * n]})
        peer_of({"client_cert_chain": ["x" * n]})
    assert 0 < len(known) <= 3
    assert all(found.identity is not None for found in known.values())


def test_an_address_that_needs_no_escapes_is_remembered_by_what_a_scope_says(monkeypatch):
    monkeypatch.setattr(peer, "addresses", ShownAddresses())
    assert plain_address(None) == peer.addresses[None] == ""
    for client in (("127.0.0.1", 4711), ("::1", 4711), ("/run/app.sock", 0)):
        assert plain_address(client) == peer.addresses[client] == address(*client)
    assert plain_address(["127.0.0.1", 1]) == "127.0.0.1:1", "some servers tell it as a list"
    assert plain_address(('a"b', 1)) is None
