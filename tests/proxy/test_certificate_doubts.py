"""What is said of certificates at a gateway before its clients meet them."""

from __future__ import annotations

import datetime

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshlib.compiler.gateway_model import GatewayTls, KeyPair
from meshlib.proxy.certificate_doubts import of_clients, of_server, remedy
from meshlib.proxy.gateway_tls import doubts
from tests.support.gateway_certificates import certificate_pem, key_pem, leaf, revoked, root

DAY = 86400.0
NOW = datetime.datetime.now(
    datetime.UTC
).timestamp()  # certificates of tests are valid from a day before it to 30 after
SHOP, BANK, WILD = leaf("shop.test"), leaf("bank.test"), leaf("*.shop.test")
FOR_CLIENTS = leaf("shop.test", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
FOR_SERVERS = leaf("shop.test", usage=ExtendedKeyUsageOID.SERVER_AUTH)


def pair(certificate=SHOP, key=None, behind=b""):
    return KeyPair(certificate_pem(certificate) + behind, key_pem(certificate) if key is None else key)


def server(certificate=SHOP, names=("shop.test",), days=0.0):
    return list(of_server([pair(certificate)], names, NOW + days * DAY))


@pytest.mark.parametrize("certificate", [SHOP, FOR_SERVERS])
@pytest.mark.parametrize("names", [(), ("shop.test",), ("Shop.Test",), ("other.test", "shop.test")])
def test_nothing_is_said_of_one_that_clients_take(certificate, names):
    assert server(certificate, names) == []


@pytest.mark.parametrize(("days", "said"), [(31, "has expired on"), (-2, "is not valid before")])
def test_one_that_is_not_valid_now(days, said):
    (found,) = server(days=days)
    assert f"clients will refuse its certificate, which {said}" in found


def test_one_for_other_names():
    assert server(BANK) == ["clients will refuse its certificate, which is for bank.test and not for shop.test"]


@pytest.mark.parametrize(
    ("name", "fits"), [("a.shop.test", True), ("*.shop.test", True), ("shop.test", False), ("a.b.shop.test", False)]
)
def test_a_wildcard_stands_for_one_label(name, fits):
    assert (server(WILD, (name,)) == []) is fits


def test_one_that_is_for_clients():
    assert server(FOR_CLIENTS) == ["clients will refuse its certificate, whose extended key usage is not serverAuth"]


def test_roots_that_have_expired_let_nobody_in():
    roots = certificate_pem(root("root")) + certificate_pem(root("other"))
    assert list(of_clients(roots, b"", NOW)) == []
    (found,) = of_clients(roots, b"", NOW + 31 * DAY)
    assert "all roots that it is verified by have expired" in found


def test_a_revocation_list_that_was_not_replaced_in_time_lets_nobody_in():
    roots = certificate_pem(root("root"))
    assert list(of_clients(roots, revoked(SHOP), NOW)) == []
    (found,) = of_clients(roots, revoked(SHOP, days=7), NOW + 8 * DAY)
    assert "the revocation list of CN=root was to be replaced by" in found


def test_a_revocation_list_of_somebody_else_lets_nobody_in():
    roots = certificate_pem(root("root"))
    (found,) = of_clients(roots, revoked(of="other"), NOW)
    assert "the revocation list is of CN=other, and none is of a root" in found
    assert list(of_clients(roots, revoked() + revoked(of="other"), NOW)) == []


def test_texts_that_are_none_raise_no_doubts():
    assert list(of_server([KeyPair(b"none", b"none")], ("shop.test",), NOW)) == []
    assert list(of_clients(b"none", b"none", NOW)) == []


def test_the_server_is_named():
    made = GatewayTls("SIMPLE", pairs=(pair(BANK),))
    (found,) = doubts(made, "Gateway/default/gw servers[0]", ("shop.test",), NOW)
    assert found.startswith("Gateway/default/gw servers[0]: clients will refuse")


def test_a_key_of_another_certificate_is_told_from_a_chain_out_of_order():
    assert "the private key is not that of the certificate" in remedy(pair(SHOP, key_pem(BANK)))
    assert "put the server's own first" in remedy(pair(BANK, key_pem(SHOP), behind=certificate_pem(SHOP)))
    authority = certificate_pem(root("root"))
    assert "put the server's own first" in remedy(KeyPair(authority + certificate_pem(SHOP), key_pem(SHOP)))
    assert "is that of an authority" in remedy(KeyPair(authority, key_pem(SHOP)))


def test_an_encrypted_key_is_told_and_not_shown():
    encrypted = SHOP[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert "the private key is encrypted" in remedy(pair(SHOP, encrypted))


def test_where_nothing_is_known_openssl_has_its_say():
    assert remedy(pair(SHOP, b"none")) == ""
    assert remedy(pair(SHOP)) == ""
