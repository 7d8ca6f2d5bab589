"""Who asks for a certificate: by the certificate of the connection or by a token, never by what the request says (as istiod's
authenticators)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.ca.folders import BadStore, read_secret
from meshlib.policy.spiffe_id import SCHEME
from meshlib.security import peer_certificate
from meshlib.security.certificate_forms import workload_of
from meshlib.security.jwk import BadKeys, KeySet, key_set
from meshlib.security.jws import TokenRefused
from meshlib.security.jwt import Jwt, wanted_audiences

if TYPE_CHECKING:
    from meshlib.policy.spiffe_id import SpiffeId

BEARER = "Bearer "
SERVICE_ACCOUNT = "system:serviceaccount:"
AUDIENCE = "istio-ca"

ByToken = Callable[[str, float], str]
"""The SPIFFE ID of a token's holder, now; raises ValueError, with the reason, for one that is not valid."""


class UnknownCaller(Exception):
    """A caller who cannot be authenticated. The reason is for the server's log; the caller is told no more than that."""


def caller(
    leaf: bytes | None, authorizations: Sequence[str], by_token: ByToken | None, trust_domain: str, now: float
) -> SpiffeId:
    """The caller's SPIFFE ID. ``leaf``: the certificate (DER) that the connection has shown, verified by its handshake; else
    he has a token. Raises ``UnknownCaller``."""
    why = "no certificate and no bearer token"
    if leaf is not None:
        found = peer_certificate.identity_of(leaf)
        if found is None:
            why = f"the certificate {peer_certificate.why_no_identity(leaf)}"
        elif found.trust_domain != trust_domain:
            why = f"the certificate is of the trust domain {found.trust_domain}"
        else:
            return found
    tokens = [each.removeprefix(BEARER) for each in authorizations if each.startswith(BEARER)]
    if len(tokens) == 1 and by_token is not None:
        try:
            return workload_of(by_token(tokens[0], now), trust_domain)
        except ValueError as error:
            why = str(error)
    elif tokens:
        why = "several tokens" if by_token is not None else "a token, and no issuer of tokens is configured"
    raise UnknownCaller(why)


def of_kubernetes(keys: KeySet, issuer: str, audiences: Sequence[str], trust_domain: str) -> ByToken:
    """JWTs of service accounts, signed by one of ``keys``: of this issuer, for one of these audiences, with an end; the subject
    is ``system:serviceaccount:<namespace>:<service account>``."""
    wanted = wanted_audiences(audiences)
    if not wanted or not issuer:
        raise ValueError("an issuer of tokens needs its name and the audience that its tokens are for")

    def identity(token: str, now: float) -> str:
        try:
            found = Jwt(token)
            found.check(issuer, wanted, now)
            found.verify(keys)
        except TokenRefused as error:
            raise ValueError(f"the token is refused: {error}") from None
        if found.expires is None:
            raise ValueError("the token never expires")
        if not found.subject.startswith(SERVICE_ACCOUNT):
            raise ValueError("the token is not that of a service account")
        parts = found.subject.removeprefix(SERVICE_ACCOUNT).split(":")
        if len(parts) != 2 or not all(parts):
            raise ValueError("the token's subject is not system:serviceaccount:<namespace>:<service account>")
        return f"{SCHEME}{trust_domain}/ns/{parts[0]}/sa/{parts[1]}"

    return identity


def of_list(by_digest: Mapping[bytes, str]) -> ByToken:
    """Tokens that are known by their SHA-256, as a development's stand-in for TokenReview."""

    def identity(token: str, _now: float) -> str:
        found = by_digest.get(hashlib.sha256(token.encode()).digest())
        if found is None:
            raise ValueError("the token is not in the list")
        return found

    return identity


def read_keys(file: Path) -> KeySet:
    """Of a JSON Web Key Set. Raises ``BadStore``."""
    try:
        found = key_set(file.read_bytes())
    except OSError as error:
        raise BadStore(f"{file} cannot be read: {error.strerror}") from error
    except BadKeys as error:
        raise BadStore(f"{file} is not a valid JSON Web Key Set: {error}") from None
    if not found.keys:
        raise BadStore(f"{file} has no key that can be used")
    return found


def read_list(file: Path, trust_domain: str) -> Mapping[bytes, str]:
    """``{"<token>": "spiffe://..."}`` in JSON, readable by its owner alone. Raises ``BadStore`` without a byte of a token."""
    text = read_secret(file)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not all(isinstance(each, str) for each in document.values()):
        raise BadStore(f'{file} is not a valid list of tokens: write {{"<token>": "spiffe://<trust domain>/..."}}')
    for number, each in enumerate(document.values(), 1):
        try:
            workload_of(each, trust_domain)
        except ValueError as error:
            raise BadStore(f"{file}: entry {number}: {error}") from None
    if any(not token for token in document):
        raise BadStore(f"{file} has an empty token")
    return {hashlib.sha256(token.encode()).digest(): identity for token, identity in document.items()}
