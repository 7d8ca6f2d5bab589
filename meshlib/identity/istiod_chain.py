"""What is asked of istiod, and whether what it gives may be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SCHEME
from meshlib.security import strict_json
from meshlib.security.base64url import decode
from meshlib.security.pem import blocks
from meshlib.security.svid import PART as CERTIFICATE
from meshlib.security.svid import read_svid
from meshlib.security.trust_bundles import TrustBundles, read_roots

if TYPE_CHECKING:
    from meshlib.security.svid import Svid

SERVICE_ACCOUNT = "system:serviceaccount:"
LONGEST_TOKEN = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)


def bearer(text: bytes) -> str:
    """The token of a file. Raises ValueError without a byte of it."""
    if len(text) > LONGEST_TOKEN:
        raise ValueError(f"is longer than {LONGEST_TOKEN} bytes")
    try:
        found = text.decode("ascii").strip()
    except UnicodeDecodeError:
        found = "\n"
    if not found:
        raise ValueError("is empty")
    if _TOKEN.fullmatch(found) is None:
        raise ValueError("is not a valid bearer token: it has characters that are not allowed in one")
    return found


def asked_name(token: str, trust_domain: str) -> str:
    """The SPIFFE ID that the request has for a name: that of the service account which a Kubernetes token says it is of, and ""
    when it says none. It is a courtesy: istiod goes by the token that it has verified."""
    try:
        claims = strict_json.loads(decode(token.split(".")[1]))
        subject = claims["sub"] if isinstance(claims, dict) else ""
    except (LookupError, ValueError):
        return ""
    if not isinstance(subject, str) or not subject.startswith(SERVICE_ACCOUNT):
        return ""
    namespace, _, account = subject.removeprefix(SERVICE_ACCOUNT).partition(":")
    return f"{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}" if namespace and account else ""


def key_and_request(name: str) -> tuple[bytes, bytes]:
    """A new key (P-256; PKCS#8 in PEM) and a certificate signing request of it (PEM), with ``name`` for its URI."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if name:
        request = request.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=True
        )
    made = request.sign(key, hashes.SHA256())
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        made.public_bytes(Encoding.PEM),
    )


def judged(chain: Sequence[str], key: bytes, trust_domain: str, now: float) -> tuple[Svid, TrustBundles]:
    """The SVID and the roots of a response; the last element of its chain has the root, or several. ``trust_domain``: whose it
    must be. Raises ValueError with the reason when it may not be used."""
    if len(chain) < 2:
        raise ValueError(f"the chain has {len(chain)} elements, where a certificate and its root are expected")
    *shown, last = chain
    for each in shown:
        blocks(each.encode(), CERTIFICATE)
    bundles = TrustBundles({trust_domain: read_roots(last.encode(), now)})
    return read_svid("\n".join(shown).encode(), key, now=now, bundles=bundles), bundles
