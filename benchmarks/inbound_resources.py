"""What a service that protects itself has: twenty rules, tokens, and a caller with a certificate and a token."""

from __future__ import annotations

import base64
import datetime
import functools
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

ISSUER = "https://idp.example.com"
PRINCIPAL = "cluster.local/ns/shop/sa/web"
FAR = 4_000_000_000


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwks() -> str:
    numbers = _key().public_key().public_numbers()
    x, y = (_encoded(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": x, "y": y}]})


@functools.cache
def token() -> str:
    """Of ``ISSUER``, valid for long."""
    head = _encoded(json.dumps({"alg": "ES256", "kid": "one", "typ": "JWT"}).encode())
    body = _encoded(json.dumps({"iss": ISSUER, "sub": "ann", "exp": FAR, "groups": ["staff"]}).encode())
    r, s = utils.decode_dss_signature(_key().sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
    return f"{head}.{body}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@functools.cache
def certificate() -> str:
    """The caller's, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
    uri = x509.UniformResourceIdentifier(f"spiffe://{PRINCIPAL}")
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _policy(name: str, action: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": action, "rules": rules},
    }


def twenty_rules() -> list[dict[str, Any]]:
    """A RequestAuthentication, five rules that deny and fifteen that allow, of which the last lets ``/hello`` in."""
    denied = [{"to": [{"operation": {"paths": [f"/admin/{n}/*"], "methods": ["POST", "PUT"]}}]} for n in range(5)]
    allowed: list[dict[str, Any]] = [
        {
            "from": [{"source": {"principals": [f"cluster.local/ns/shop/sa/other-{n}"]}}],
            "to": [{"operation": {"paths": [f"/api/v{n}/*"], "methods": ["GET"]}}],
        }
        for n in range(14)
    ]
    allowed.append(
        {
            "from": [{"source": {"principals": [PRINCIPAL], "requestPrincipals": [f"{ISSUER}/*"]}}],
            "to": [{"operation": {"paths": ["/hello"], "methods": ["GET"]}}],
            "when": [{"key": "request.auth.claims[groups]", "values": ["staff"]}],
        }
    )
    return [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "RequestAuthentication",
            "metadata": {"name": "users", "namespace": "default"},
            "spec": {"jwtRules": [{"issuer": ISSUER, "jwks": _jwks(), "forwardOriginalToken": True}]},
        },
        _policy("deny", "DENY", denied),
        _policy("allow", "ALLOW", allowed),
    ]
