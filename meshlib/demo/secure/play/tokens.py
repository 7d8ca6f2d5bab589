"""An issuer of tokens, as an identity provider is one: ES256, one key, made for one run."""

from __future__ import annotations

import base64
import json
from typing import Any

ISSUER = "https://idp.bookinfo.test"
AUDIENCE = "bookinfo"
LIFE = 3600


class Issuer:
    """``jwks`` are its public keys."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self) -> str:
        """The public key, as RequestAuthentication takes it inline."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "EC",
            "crv": "P-256",
            "kid": "demo",
            "alg": "ES256",
            "use": "sig",
            "x": _encoded(numbers.x.to_bytes(32, "big")),
            "y": _encoded(numbers.y.to_bytes(32, "big")),
        }
        return json.dumps({"keys": [key]})

    def token(self, subject: str, now: float, **claims: Any) -> str:
        """A token of ``subject``, valid for an hour."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        issued = int(now)
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": issued, "exp": issued + LIFE, **claims}
        head = {"alg": "ES256", "kid": "demo", "typ": "JWT"}
        text = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(body).encode())}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
