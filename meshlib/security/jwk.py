"""JSON Web Keys (RFC 7517, 7518, 8037): those that verify signatures, each with the algorithms that it is for.

Which keys count is Envoy's ``jwt_authn`` opinion, or stricter: a key whose ``use`` or ``key_ops`` say that it is for something
else, or that is too short for its algorithm, is left out, and ``KeySet.unusable`` says why. Algorithms follow from the key; a
token can only choose among what its key is for.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from meshlib.security.base64url import NotBase64Url, decode_of_key
from meshlib.security.strict_json import Json, NotJson, loads

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

Verify: TypeAlias = Callable[[bytes, bytes], bool]
"""Whether a signature, the first argument, is this key's of the second."""

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384
EXPONENTS = (3, 65537)
"""Envoy takes no others."""
CURVES = {"P-256": ("ES256", 32), "P-384": ("ES384", 48), "P-521": ("ES512", 66)}
HASHES = {"256": 32, "384": 48, "512": 64}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS = frozenset((*RSA_ALGORITHMS, "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA"))
MISSING = "verifying tokens needs the library cryptography: pip install 'sidecarless[security]'"


class BadKeys(ValueError):
    """The document is not a key set. No part of it is in the message: it may hold secrets."""


class BadKey(ValueError):
    """Why a key is not used."""


class Key:
    """A key that verifies: ``kid`` ("" when it has none) and, by algorithm, what does it. ``algorithm`` is its own ``alg``, ""
    when it does not say. ``ed25519``: whether it is such a key."""

    __slots__ = ("algorithm", "by_algorithm", "ed25519", "kid")

    def __init__(self, kid: str, by_algorithm: Mapping[str, Verify], algorithm: str = "") -> None:
        self.kid = kid
        self.by_algorithm = by_algorithm
        self.algorithm = algorithm
        self.ed25519 = "EdDSA" in by_algorithm

    def __repr__(self) -> str:
        return f"<Key {self.kid!r} for {', '.join(self.by_algorithm)}>"


class KeySet:
    """The keys of an issuer that can be used, in their order; ``unusable``: (position, why) of the others."""

    __slots__ = ("keys", "unusable")

    def __init__(self, keys: Sequence[Key], unusable: Sequence[tuple[int, str]] = ()) -> None:
        self.keys = tuple(keys)
        self.unusable = tuple(unusable)

    def of(self, kid: str, algorithm: str) -> list[Key]:
        """The keys that a token with this ``kid`` ("": any) and algorithm may be of, as Envoy looks for them: keys that do not
        say of themselves which they are for are for every one."""
        return [
            key for key in self.keys if (not kid or not key.kid or key.kid == kid) and key.algorithm in ("", algorithm)
        ]

    def knows(self, kid: str) -> bool:
        """Whether a token with this ``kid`` ("": none) could be of one of the keys."""
        return not kid or any(not key.kid or key.kid == kid for key in self.keys)

    def __repr__(self) -> str:
        return f"<KeySet {list(self.keys)}>"


NO_KEYS = KeySet(())


def key_set(content: bytes) -> KeySet:
    """The keys of a JSON Web Key Set, ``{"keys": [...]}``. Raises ``BadKeys``; ``ImportError`` where cryptography is
    missing."""
    why = ""
    document: Json = None
    try:
        document = loads(content)
    except NotJson:
        why = "it is not JSON, or has a member twice"
    if not why and not isinstance(document, dict):
        why = 'it is not an object {"keys": [...]}'
    entries = document.get("keys") if isinstance(document, dict) else None
    if not why and not isinstance(entries, list):
        why = "it has no list of keys"
    if why:
        raise BadKeys(why)
    assert isinstance(entries, list)
    return _keys(entries)


def _keys(entries: list[Json]) -> KeySet:
    keys, unusable = [], []
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise BadKey("it is not an object")
            keys.append(key_of(entry))
        except BadKey as error:
            unusable.append((position, str(error)))
    return KeySet(keys, unusable)


def key_of(entry: Mapping[str, Json]) -> Key:
    """The key that a JWK describes. Raises ``BadKey``."""
    kty = entry.get("kty")
    make = _KINDS.get(kty) if isinstance(kty, str) else None
    if make is None:
        raise BadKey("its kty is not one of RSA, EC, OKP, oct")
    kid, algorithm = _optional(entry, "kid"), _optional(entry, "alg")
    use = _optional(entry, "use")
    if use not in ("", "sig"):
        raise BadKey("its use is not sig")
    operations = entry.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise BadKey("its key_ops do not have verify")
    found = make(entry)
    if algorithm:
        if algorithm not in found:
            raise BadKey("its alg is not one of " + ", ".join(found))
        found = {algorithm: found[algorithm]}
    return Key(kid, found, algorithm)


def _rsa(entry: Mapping[str, Json]) -> dict[str, Verify]:
    modulus, exponent = (int.from_bytes(_bytes(entry, name), "big") for name in ("n", "e"))
    if exponent not in EXPONENTS:
        raise BadKey("its e is neither 3 nor 65537")
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise BadKey(f"it has {modulus.bit_length()} bits; {MIN_RSA_BITS} are the least for signatures (RFC 7518)")
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    key = None
    with suppress(ValueError):
        key = RSAPublicNumbers(exponent, modulus).public_key() if modulus % 2 else None
    if key is None:
        raise BadKey("its n and e are not a key")
    return {algorithm: _rsa_verify(key, algorithm) for algorithm in RSA_ALGORITHMS}


def _rsa_verify(key: RSAPublicKey, algorithm: str) -> Verify:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import padding

    digest = _hash(algorithm)
    # RFC 7518: the salt of PS* is as long as the hash
    shape = padding.PKCS1v15() if algorithm[0] == "R" else padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    check = key.verify

    def verify(signature: bytes, signed: bytes) -> bool:
        try:
            check(signature, signed, shape, digest)
        except InvalidSignature:
            return False
        return True

    return verify


def _hash(algorithm: str) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    return {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]


def _ec(entry: Mapping[str, Json]) -> dict[str, Verify]:
    curve = entry.get("crv")
    if not isinstance(curve, str) or curve not in CURVES:
        raise BadKey("its crv is not one of " + ", ".join(CURVES))
    algorithm, size = CURVES[curve]
    x, y = _bytes(entry, "x"), _bytes(entry, "y")
    if max(len(x.lstrip(b"\0")), len(y.lstrip(b"\0"))) > size:
        raise BadKey(f"its x and y are not a point on {curve}")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curves[curve])
    key = None
    with suppress(ValueError):
        key = numbers.public_key()
    if key is None:
        raise BadKey(f"its x and y are not a point on {curve}")
    check, kind = key.verify, ec.ECDSA(_hash(algorithm))

    def verify(signature: bytes, signed: bytes) -> bool:
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        try:
            check(encode_dss_signature(r, s), signed, kind)
        except InvalidSignature:
            return False
        return True

    return {algorithm: verify}


def _okp(entry: Mapping[str, Json]) -> dict[str, Verify]:
    if entry.get("crv") != "Ed25519":
        raise BadKey("its crv is not Ed25519")
    x = _bytes(entry, "x")
    if len(x) != 32:
        raise BadKey("its x does not have 32 bytes")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    check = Ed25519PublicKey.from_public_bytes(x).verify

    def verify(signature: bytes, signed: bytes) -> bool:
        try:
            check(signature, signed)
        except InvalidSignature:
            return False
        return True

    return {"EdDSA": verify}


def _oct(entry: Mapping[str, Json]) -> dict[str, Verify]:
    secret = _bytes(entry, "k")
    found = {f"HS{bits}": _hmac(secret, f"sha{bits}") for bits, size in HASHES.items() if len(secret) >= size}
    if not found:
        raise BadKey(f"it has {len(secret)} bytes; 32 are the least for HS256 (RFC 7518)")
    return found


def _hmac(secret: bytes, digest: str) -> Verify:
    def verify(signature: bytes, signed: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(secret, signed, digest), signature)

    return verify


_KINDS: Mapping[str, Callable[[Mapping[str, Json]], dict[str, Verify]]] = {
    "RSA": _rsa,
    "EC": _ec,
    "OKP": _okp,
    "oct": _oct,
}


def _optional(entry: Mapping[str, Json], name: str) -> str:
    found = entry.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise BadKey(f"its {name} is not a text")
    return found


def _bytes(entry: Mapping[str, Json], name: str) -> bytes:
    found = entry.get(name)
    if not isinstance(found, str):
        raise BadKey(f"it has no {name}")
    try:
        return decode_of_key(found)
    except NotBase64Url:
        raise BadKey(f"its {name} is not base64url") from None
