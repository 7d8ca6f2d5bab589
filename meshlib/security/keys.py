"""Private and public keys of certificates: which kinds we make, certify and sign with, and how they are written.
(``private_key.py`` reads them.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.security.private_key import load_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey
    PublicKey = EllipticCurvePublicKey | RSAPublicKey

RSA_BITS = 2048
"""Of RSA keys that we make, and the fewest of one that we certify."""
MOST_RSA_BITS = 8192
"""Go refuses certificates of longer ones."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Of EC keys that we certify. Envoy takes P-256 always, the others in newer versions; Ed25519 never."""


def new_key(*, rsa: bool = False) -> PrivateKey:
    """A new key: EC P-256, or RSA of 2048 bits."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys

    return rsa_keys.generate_private_key(65537, RSA_BITS) if rsa else ec.generate_private_key(ec.SECP256R1())


def usable(public: object) -> PublicKey:
    """``public``, where it is a key that we certify. Raises ValueError with what is wrong with it."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(public, EllipticCurvePublicKey):
        if public.curve.name not in CURVES:
            raise ValueError(f"an EC key on {public.curve.name} is not certified; use EC P-256")
        return public
    if isinstance(public, RSAPublicKey):
        if not RSA_BITS <= public.key_size <= MOST_RSA_BITS:
            raise ValueError(
                f"an RSA key of {public.key_size} bits is not certified; use EC P-256, or RSA of {RSA_BITS} to "
                f"{MOST_RSA_BITS} bits"
            )
        if public.public_numbers().e < 65537:
            raise ValueError("an RSA key whose exponent is less than 65537 is not certified; use EC P-256")
        return public
    raise ValueError(f"a key of the kind {type(public).__name__} is not certified; use EC P-256 or RSA")


def digest_for(key: PrivateKey) -> SHA256 | SHA384 | SHA512:
    """The digest of signatures by this key: as strong as the key is."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    if isinstance(key, EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384() if key.curve.key_size <= 384 else hashes.SHA512()
    return hashes.SHA256()


def key_pem(key: PrivateKey) -> bytes:
    """PKCS#8, not encrypted: what OpenSSL, Envoy and Go read."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_key(text: bytes) -> PrivateKey:
    """A private key in PEM that an authority may sign with. Raises ValueError, without a byte of it: ``Unusable`` for what is
    not one (``private_key.load_key``), and as ``usable``."""
    found = load_key(text)
    usable(found.public_key())
    return found  # type: ignore[return-value]  # what ``usable`` takes the public half of
