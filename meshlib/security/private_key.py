"""Private keys as files have them: PKCS#8, PKCS#1 or SEC 1 ("EC PRIVATE KEY") in PEM. Whatever key meshlib is given is
read here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.security.pem import Unusable, blocks

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PART = "the key"
LABELS = frozenset(("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"))
SHORTEST_RSA = 2048
"""Bits: what OpenSSL (security level 2) and BoringSSL demand."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Those that TLS has suites for everywhere."""


def read_key(text: bytes, certificate: x509.Certificate) -> bytes:
    """The key as PKCS#8 in PEM, not encrypted. Raises ``Unusable`` for what is not a key, is encrypted, is too weak for TLS, or
    is not the key of ``certificate``."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = load_key(text)
    _must_suit_tls(key)
    if _public(key) != _encoded(certificate.public_key()):
        raise Unusable(
            PART,
            "is not the key of the certificate",
            "give the two that were made together (openssl pkey -pubout and openssl x509 -pubkey show the same then)",
        )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(text: bytes) -> PrivateKeyTypes:
    """The only private key of a text. Raises ``Unusable``, which holds nothing of it, for what has none, several, one that is
    encrypted or damaged."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    found = blocks(text, PART)
    for block in found:
        if block.label == "ENCRYPTED PRIVATE KEY" or "ENCRYPTED" in block.headers:
            raise Unusable(
                PART,
                "is encrypted",
                "meshlib does not ask for passphrases; decrypt it with openssl pkey -in FILE -out FILE.plain",
            )
        if block.label == "OPENSSH PRIVATE KEY":
            raise Unusable(PART, "is one of OpenSSH", "convert it: ssh-keygen -p -m PKCS8 -f FILE")
    keys = [block for block in found if block.label in LABELS]
    if not keys:
        labels = ", ".join(dict.fromkeys(block.label for block in found))
        raise Unusable(PART, f"has no private key, but: {labels}", "give the file with -----BEGIN PRIVATE KEY-----")
    if len(keys) > 1:
        raise Unusable(PART, f"has {len(keys)} private keys", "leave the one that belongs to the certificate")
    key: PrivateKeyTypes | None
    try:
        key = load_der_private_key(keys[0].content, None)
    except Exception:  # noqa: BLE001 (whatever the library says of it: it is said below, where no error holds the key)
        key = None
    if key is None:
        raise Unusable(PART, f"is not a valid {keys[0].label}", "write it again, or make a new one: openssl genpkey")
    return key


def _must_suit_tls(key: PrivateKeyTypes) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < SHORTEST_RSA:
            raise Unusable(
                PART,
                f"is an RSA key of {key.key_size} bits, which TLS libraries refuse",
                f"make one of {SHORTEST_RSA} bits or more, or EC P-256",
            )
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in CURVES:
            raise Unusable(PART, f"is on the curve {key.curve.name}, which TLS has no suite for", "use P-256")
    elif not isinstance(key, ed25519.Ed25519PrivateKey):
        raise Unusable(PART, "is neither EC, RSA nor Ed25519", "make one that TLS can use: EC P-256")


def _public(key: PrivateKeyTypes) -> bytes:
    return _encoded(key.public_key())


def _encoded(public: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return found
