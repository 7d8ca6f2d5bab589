"""What is said of certificates at a gateway before its clients meet them."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshlib.compiler.gateway_model import GatewayTls, KeyPair
from meshlib.proxy.certificate_doubts import of_clients, of_server, remedy
from meshlib.proxy.gateway_tls import doubts, why_not_served
from meshlib.security.pem import pem_of
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


def test_one_for_some_servers_below_a_wildcard_is_not_doubted():
    both = leaf("a.shop.test", "b.shop.test")
    assert server(both, ("*.shop.test",)) == []
    assert server(both, ("*.bank.test",)) != []
    assert server(leaf("shop.test", "ashop.test"), ("*.shop.test",)) != [], "the parent itself is not below it"


UNREADABLE = pem_of(b"\x30\x03\x02\x01\x01").encode()


def test_nothing_is_said_of_one_that_cannot_be_read_nor_of_the_next_in_its_place():
    assert list(of_server([KeyPair(UNREADABLE + certificate_pem(BANK), b"")], ("shop.test",), NOW)) == []
    assert list(of_clients(UNREADABLE + certificate_pem(root("root")), b"", NOW + 31 * DAY)) == []


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


CERTIFICATE, KEY = certificate_pem(SHOP), key_pem(SHOP)


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (b"none", KEY, "the certificate is not PEM: it has no line -----BEGIN ...-----"),
        (CERTIFICATE, b"none", "the private key is not PEM: it has no line -----BEGIN ...-----"),
        (
            SHOP[0].public_bytes(Encoding.DER),
            KEY,
            "the certificate is binary, not PEM; if it is DER, convert it: openssl x509 -inform der",
        ),
        (
            CERTIFICATE,
            b"\x30\x82\xff",
            "the private key is binary, not PEM; if it is DER, convert it: openssl pkey -inform der",
        ),
        (KEY, CERTIFICATE, "the certificate and the private key are swapped"),
        (KEY, KEY, "the certificate has no block CERTIFICATE, but PRIVATE KEY"),
        (CERTIFICATE, CERTIFICATE, "the private key has no block PRIVATE KEY, but CERTIFICATE"),
        (CERTIFICATE, b"", "the private key has no block PRIVATE KEY, but CERTIFICATE"),
        (UNREADABLE, KEY, "the first certificate cannot be read"),
        (CERTIFICATE, pem_of(b"none", "PRIVATE KEY").encode(), "the private key cannot be read"),
        (CERTIFICATE[:-40], KEY, "the certificate is cut off"),
        ("# é\n".encode("latin-1") + CERTIFICATE, key_pem(BANK), "the private key is not that of the certificate"),
    ],
)
def test_what_is_no_certificate_or_no_key_is_said_with_the_remedy(certificate, key, said):
    told = why_not_served(GatewayTls("SIMPLE", pairs=(KeyPair(certificate, key),)), "S")
    assert told.startswith(f"S is not served: tls of S cannot be used: {said}")
    assert "[SSL" not in told


@pytest.mark.parametrize(
    ("ca", "crl", "said"),
    [
        (b"none", b"", "the roots of clients (ca.crt, caCertificates) cannot be read: the text is not PEM"),
        ("é".encode(), b"", "the roots of clients (ca.crt, caCertificates) cannot be read: the text is not PEM"),
        (
            SHOP[0].public_bytes(Encoding.DER),
            b"",
            "the text is binary, not PEM; if it is DER, convert it: openssl x509 -inform der",
        ),
        (KEY, b"", "the text has no block CERTIFICATE, but PRIVATE KEY"),
        (UNREADABLE, b"", "a block CERTIFICATE is not valid"),
        (
            CERTIFICATE,
            b"\x30\x82\xff",
            "the text is binary, not PEM; if it is DER, convert it: openssl crl -inform der",
        ),
        (CERTIFICATE, CERTIFICATE, "the text has no block X509 CRL, but CERTIFICATE"),
        (
            CERTIFICATE,
            revoked() + certificate_pem(root("other")),
            "has a certificate that is none of the roots of clients",
        ),
    ],
)
@pytest.mark.parametrize("of_files", [False, True])
def test_what_are_no_roots_and_no_revocation_lists_is_said_with_the_remedy(tmp_path, ca, crl, said, of_files):
    made = GatewayTls("MUTUAL", pairs=(pair(),))
    if of_files:
        (tmp_path / "ca").write_bytes(ca)
        (tmp_path / "crl").write_bytes(crl)
        made = replace(made, ca_file=str(tmp_path / "ca"), crl_file=str(tmp_path / "crl") if crl else "")
    else:
        made = replace(made, ca=ca, crl=crl)
    told = why_not_served(made, "S")
    assert said in told
    assert "[SSL" not in told


def test_roots_alone_may_be_a_revocation_lists_neighbours():
    roots = certificate_pem(root("root"))
    assert why_not_served(GatewayTls("MUTUAL", pairs=(pair(),), ca=roots, crl=roots + revoked()), "S") == ""


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("of_files", [False, True])
def test_comments_of_any_encoding_are_no_matter(tmp_path, encoding, of_files):
    comment = "# é\n".encode(encoding)
    roots, shown = comment + certificate_pem(root("root")), KeyPair(comment + CERTIFICATE, comment + KEY)
    made = GatewayTls("MUTUAL", pairs=(shown,), ca=roots, crl=comment + revoked())
    if of_files:
        (tmp_path / "ca").write_bytes(roots)
        made = replace(made, ca=b"", ca_file=str(tmp_path / "ca"))
    assert why_not_served(made, "S") == ""


def test_whatever_a_certificate_brings_about_is_the_problem_of_its_server_alone(monkeypatch):
    made = GatewayTls("SIMPLE", pairs=(pair(),))

    def breaks(*_):
        raise OverflowError("of the key")

    monkeypatch.setattr("meshlib.proxy.certificate_doubts.of_server", breaks)
    (told,) = doubts(made, "S", (), NOW)
    assert told.startswith("S: whether clients will refuse its certificate could not be found out (")
    monkeypatch.setattr("meshlib.proxy.gateway_tls._load", breaks)
    told = why_not_served(made, "S")
    assert "S is not served: tls of S cannot be used: OpenSSL or Python cannot read it (OverflowError)" in told
    assert "of the key" not in told


def test_where_nothing_is_known_openssl_has_its_say():
    assert remedy(pair(SHOP)) == ""
