"""Who a certificate says its holder is: one broken certificate for each MUST of X.509-SVID."""

from __future__ import annotations

import builtins
import datetime
import logging
from collections.abc import Iterator, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from meshlib.security import peer_certificate
from meshlib.security.peer_certificate import LONGEST, identity_of, server_identity, why_no_identity

GOOD = "spiffe://cluster.local/ns/default/sa/client"
KEY = ec.generate_private_key(ec.SECP256R1())
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def usage(*, digital_signature: bool = True, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, True, False, False, key_cert_sign, crl_sign, False, False)


def certificate(
    *uris: str,
    dns: Sequence[str] = (),
    ca: bool | None = False,
    key_usage: x509.KeyUsage | None = None,
    no_key_usage: bool = False,
    purposes: Sequence[ObjectIdentifier] = BOTH,
    common_name: str = "client",
    extra: Sequence[x509.ExtensionType] = (),
) -> bytes:
    """DER, self-signed: who signed it is the handshake's question."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if not no_key_usage:
        builder = builder.add_extension(key_usage or usage(), critical=True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()


def test_a_workload_s_certificate_has_its_identity_in_der_and_in_pem() -> None:
    der = certificate(GOOD, dns=["client.default.svc"])
    for form in (der, pem(der), pem(der).encode(), "Bag Attributes\n" + pem(der), pem(der).replace("\n", "\r\n")):
        found = identity_of(form)
        assert found is not None
        assert (str(found), found.namespace, found.service_account) == (GOOD, "default", "client")
        assert why_no_identity(form) == ""


def test_a_server_is_held_to_the_same_rules_and_its_certificate_is_for_servers() -> None:
    for_servers = certificate(GOOD, purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert str(server_identity(for_servers)) == str(server_identity(certificate(GOOD, purposes=[]))) == GOOD
    assert identity_of(for_servers) is None
    for_clients = certificate(GOOD, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert server_identity(for_clients) == "is not for servers (extendedKeyUsage has no serverAuth)"
    assert str(identity_of(for_clients)) == GOOD
    assert server_identity(certificate(GOOD, GOOD)) == "has 2 URIs among its names, where SPIFFE demands exactly one"
    assert server_identity(b"0" * (LONGEST + 1)) == f"is longer than {LONGEST} bytes"


def test_of_a_chain_in_pem_the_first_is_the_leaf() -> None:
    authority = certificate("spiffe://cluster.local", ca=True, key_usage=usage(key_cert_sign=True))
    found = identity_of(pem(certificate(GOOD)) + pem(authority))
    assert str(found) == GOOD
    assert identity_of(pem(authority) + pem(certificate(GOOD))) is None


@pytest.mark.parametrize(
    "der",
    [certificate(GOOD, ca=None), certificate(GOOD, no_key_usage=True), certificate(GOOD, purposes=())],
    ids=["no basicConstraints", "no keyUsage", "no extendedKeyUsage"],
)
def test_an_extension_that_is_absent_forbids_nothing(der: bytes) -> None:
    assert str(identity_of(der)) == GOOD


BROKEN = {
    "a CA": (certificate(GOOD, ca=True), "cA=true"),
    "keyCertSign": (certificate(GOOD, key_usage=usage(key_cert_sign=True)), "keyCertSign"),
    "cRLSign": (certificate(GOOD, key_usage=usage(crl_sign=True)), "cRLSign"),
    "no digitalSignature": (certificate(GOOD, key_usage=usage(digital_signature=False)), "digitalSignature"),
    "not for clients": (certificate(GOOD, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "clientAuth"),
    "two URIs": (certificate(GOOD, "spiffe://cluster.local/ns/default/sa/admin"), "2 URIs"),
    "two URIs, one of them no SPIFFE ID": (certificate("https://a.example", GOOD), "2 URIs"),
    "the same URI twice": (certificate(GOOD, GOOD), "2 URIs"),
    "no names": (certificate(), "no subjectAltName"),
    "no URI": (certificate(dns=["a.example"]), "0 URIs"),
    "a DNS name spelled like one": (certificate(dns=[GOOD]), "0 URIs"),
    "the common name": (certificate(dns=["a.example"], common_name=GOOD), "0 URIs"),
    "an https URI": (certificate("https://cluster.local/ns/default/sa/client"), "does not begin with spiffe://"),
    "the trust domain's": (certificate("spiffe://cluster.local"), "no path"),
    "query": (certificate(GOOD + "?x=1"), "query"),
    "fragment": (certificate(GOOD + "#x"), "fragment"),
    "port": (certificate("spiffe://cluster.local:8080/ns/d/sa/c"), "port"),
    "userinfo": (certificate("spiffe://u@cluster.local/ns/d/sa/c"), "userinfo"),
    "upper case": (certificate("spiffe://Cluster.local/ns/d/sa/c"), "character in its trust domain"),
    "scheme in upper case": (certificate("SPIFFE://cluster.local/ns/d/sa/c"), "does not begin"),
    "no trust domain": (certificate("spiffe:///ns/d/sa/c"), "no trust domain"),
    "trailing slash": (certificate(GOOD + "/"), "slash"),
    "empty segment": (certificate("spiffe://cluster.local/ns//sa/c"), "empty path segment"),
    "dot segment": (certificate("spiffe://cluster.local/ns/../sa/c"), "'.' or '..'"),
    "percent": (certificate("spiffe://cluster.local/ns/d/sa/%63"), "percent"),
    "NUL": (certificate(GOOD + "\0.evil"), "character in its path"),
    "too long": (certificate("spiffe://cluster.local/" + "a" * 2100), "2048"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_certificate_that_breaks_a_must_identifies_nobody_and_says_why(name: str) -> None:
    der, why = BROKEN[name]
    assert identity_of(der) is None
    assert identity_of(pem(der)) is None
    assert why in why_no_identity(der)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        "",
        b"\x30",
        b"\x30\x82\xff\xff",
        b"garbage",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----",
        "\ud800",
        certificate(GOOD)[:-1],
        certificate(GOOD) + b"\0",
    ],
)
def test_what_is_no_certificate_identifies_nobody(data: bytes | str) -> None:
    assert identity_of(data) is None
    assert "is not a valid certificate" in why_no_identity(data)


def test_a_name_that_is_not_ascii_identifies_nobody() -> None:
    """The library does not make such a certificate, so a byte of one is changed: its signature is not our question."""
    der = certificate(GOOD).replace(b"sa/client", b"sa/cli\xe9nt")
    assert identity_of(der) is None


def test_an_extension_given_twice_identifies_nobody() -> None:
    """Which of two basicConstraints counts? Neither."""
    filler = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.99"), b"\x30\x00")
    der = certificate(GOOD, extra=[filler])
    twice = der.replace(b"\x06\x03\x55\x1d\x63", b"\x06\x03\x55\x1d\x13")
    assert twice != der
    assert identity_of(twice) is None


def test_what_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_certificate: object) -> None:
        raise AssertionError

    monkeypatch.setattr(peer_certificate, "_remembered", never)
    assert identity_of(b"\x30" * (LONGEST + 1)) is None
    assert "longer than" in why_no_identity("x" * (LONGEST + 1))


def test_the_same_certificate_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    load = x509.load_der_x509_certificate

    def counted(data: bytes) -> x509.Certificate:
        nonlocal read
        read += 1
        return load(data)

    monkeypatch.setattr(x509, "load_der_x509_certificate", counted)
    der = certificate(GOOD)
    copies = [bytes(bytearray(der)) for _ in range(10)]
    assert {str(identity_of(copy)) for copy in copies} == {GOOD}
    assert read == 1


def test_no_more_certificates_are_remembered_than_said() -> None:
    for number in range(peer_certificate.REMEMBERED + 50):
        identity_of(f"garbage {number}")
    assert peer_certificate._remembered.cache_info().currsize <= peer_certificate.REMEMBERED


@pytest.fixture
def made() -> list[bytes]:
    return [certificate(GOOD) for _ in range(3)]


@pytest.fixture
def without_cryptography(made: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = builtins.__import__

    def refusing(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refusing)
    peer_certificate.installed.cache_clear()
    yield
    peer_certificate.installed.cache_clear()


@pytest.mark.usefixtures("without_cryptography")
def test_without_the_library_nobody_has_an_identity_and_the_log_says_once_what_to_install(
    made: list[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "meshlib.security"):
        for der in made:
            assert identity_of(der) is None
            assert "sidecarless[security]" in why_no_identity(der)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "pip install 'sidecarless[security]'" in said[0]
