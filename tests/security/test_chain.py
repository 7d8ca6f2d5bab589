"""A path leads from a leaf to a root, or there is a sentence that says what is missing."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.security.authority import Authority
from meshlib.security.chain import find_path, parsed

NOW = 1_790_000_000.0
ID = "spiffe://cluster.local/ns/default/sa/reviews"
ROOT = Authority.root("cluster.local", NOW)
BETWEEN = ROOT.intermediate(NOW)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def leaf(authority: Authority, **more: float) -> x509.Certificate:
    found = parsed(authority.issue(ID, NOW, dns=["reviews.default.svc"], **more).leaf)
    assert found is not None
    return found


def utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


class Ca:
    """One with extensions of the test's choice."""

    def __init__(
        self,
        name: str,
        parent: Ca | None = None,
        *,
        ca: bool | None = True,
        path_length: int | None = None,
        signs: bool = True,
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
        life: tuple[float, float] = (-60, 86400),
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.parent = parent
        built = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name if parent is None else parent.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(utc(NOW + life[0]))
            .not_valid_after(utc(NOW + life[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.KeyUsage(not signs, *[False] * 4, signs, signs, False, False), critical=True)
        )
        if ca is not None:
            built = built.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
        for value, critical in extra:
            built = built.add_extension(value, critical)
        self.certificate = built.sign(self.key if parent is None else parent.key, hashes.SHA256())
        self.der = der(self.certificate)

    def leaf(self) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(ID), x509.DNSName("a.test")])
        return Ca("leaf", self, ca=False, signs=False, extra=[(names, True)]).certificate


def test_a_leaf_of_a_root_needs_nobody_between() -> None:
    found = find_path(leaf(ROOT), (), [ROOT.root_der], NOW)
    assert not isinstance(found, str)
    assert found.signers == ()
    assert found.not_after == NOW + 86400


def test_intermediates_are_found_in_any_order_among_others() -> None:
    other = Authority.root("cluster.local", NOW).intermediate(NOW)
    shown = [other.root_der, der(other.certificate), b"garbage", ROOT.root_der, der(BETWEEN.certificate)]
    found = find_path(leaf(BETWEEN), shown, [ROOT.root_der], NOW)
    assert not isinstance(found, str)
    assert found.signers == (der(BETWEEN.certificate),)


def test_an_intermediate_that_is_trusted_ends_the_path() -> None:
    assert not isinstance(find_path(leaf(BETWEEN), (), [der(BETWEEN.certificate)], NOW), str)


def test_a_path_is_valid_as_long_as_all_of_it() -> None:
    short = ROOT.intermediate(NOW, ttl=600)
    found = find_path(leaf(short), [der(short.certificate)], [ROOT.root_der])
    assert not isinstance(found, str)
    assert found.not_after == NOW + 600


def test_the_key_counts_and_not_the_name() -> None:
    """A root of the same name, as everybody can make one."""
    forged = Authority.root("cluster.local", NOW)
    assert "not a root of its trust domain" in str(find_path(leaf(forged), [forged.root_der], [ROOT.root_der], NOW))


NO_SIGNER = Ca("top")
NARROW = Ca("narrow", path_length=0)


def between(parent: Ca | None = None, **more: object) -> Ca:
    return Ca("between", parent or NO_SIGNER, **more)  # type: ignore[arg-type]


def constraints(permitted: Sequence[x509.GeneralName] = (), excluded: Sequence[x509.GeneralName] = ()) -> object:
    return x509.NameConstraints(permitted or None, excluded or None)


URI = x509.UniformResourceIdentifier
REFUSED = {
    "no authority": (between(ca=False), "cA=true"),
    "no basicConstraints": (between(ca=None), "cA=true"),
    "no keyCertSign": (between(signs=False), "keyCertSign"),
    "a root that allows none between": (between(NARROW), "allows 0 intermediates"),
    "expired": (between(life=(-200, -10)), "has expired"),
    "not yet valid": (between(life=(100, 200)), "not yet valid"),
    "a critical extension that nobody knows": (
        between(extra=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]),
        "1.2.3.4",
    ),
    "a workload's SPIFFE ID": (between(extra=[(x509.SubjectAlternativeName([URI(ID)]), False)]), "of a workload"),
    "for mail alone": (
        between(extra=[(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)]),
        "neither clients nor servers",
    ),
    "only for other trust domains": (between(extra=[(constraints([URI("other.example")]), True)]), "nameConstraints"),
    "not for this trust domain": (between(extra=[(constraints((), [URI("cluster.local")]), True)]), "nameConstraints"),
    "not for these hosts": (between(extra=[(constraints((), [x509.DNSName("test")]), True)]), "nameConstraints"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_no_path(name: str) -> None:
    middle, why = REFUSED[name]
    assert middle.parent is not None
    found = find_path(middle.leaf(), [middle.der], [middle.parent.der], NOW)
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    "tree",
    [URI("cluster.local"), URI(".local"), x509.DNSName("a.test"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))],
)
def test_names_that_are_allowed_are(tree: x509.GeneralName) -> None:
    middle = between(extra=[(constraints([tree]), True)])
    assert not isinstance(find_path(middle.leaf(), [middle.der], [NO_SIGNER.der], NOW), str)


def test_many_intermediates_of_one_name_end_the_search() -> None:
    many = [between() for _ in range(100)]
    wanted = Ca("between", Ca("elsewhere"))
    assert isinstance(find_path(wanted.leaf(), [each.der for each in many], [NO_SIGNER.der], NOW), str)
