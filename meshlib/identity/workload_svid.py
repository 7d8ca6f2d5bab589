"""Which certificate of a response of the Workload API is ours, and whether it may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SpiffeId, why_not
from meshlib.security.der import split
from meshlib.security.pem import Unusable, pem_of
from meshlib.security.svid import read_svid
from meshlib.security.trust_bundles import TrustBundles, read_roots

if TYPE_CHECKING:
    from meshlib.security.svid import Svid
    from meshlib.security.workload_messages import X509Svid, X509SvidResponse


def chosen(response: X509SvidResponse, hint: str, now: float) -> tuple[Svid, TrustBundles]:
    """The first certificate of a response, which is the default, or the first of this hint, with the roots of its trust domain
    and of those federated with it. Raises ValueError with the reason when it may not be used: then nothing of it is."""
    if not response.svids:
        raise ValueError("the response has no certificate")
    if any(response.crl):
        raise ValueError("it has certificate revocation lists, which are not enforced here: serve it without them")
    ours = _of_hint(response, hint)
    named = SpiffeId.parse(ours.spiffe_id)
    if named is None:
        raise ValueError(f"{ours.spiffe_id!r} is not a valid SPIFFE ID: it {why_not(ours.spiffe_id)}")
    by_domain = {_trust_domain(name): _roots(raw, name) for name, raw in response.federated.items()}
    own = named.trust_domain
    if own in by_domain:
        raise ValueError(f"its own trust domain {own} is among those federated with it")
    by_domain[own] = _roots(ours.bundle, own)
    bundles = TrustBundles(by_domain)
    chain = "".join(map(pem_of, _split(ours.chain, "the certificate"))).encode()
    svid = read_svid(chain, pem_of(ours.key, "PRIVATE KEY").encode(), now=now, bundles=bundles)
    if svid.identity != named:
        raise ValueError(f"the certificate is of {svid.identity}, where the response says {named}")
    return svid, bundles


def _of_hint(response: X509SvidResponse, hint: str) -> X509Svid:
    if not hint:
        return response.svids[0]
    for each in response.svids:
        if each.hint == hint:
            return each
    hints = ", ".join(repr(each.hint) for each in response.svids)
    raise ValueError(f"no certificate has the hint {hint!r}; there are {hints}")


def _trust_domain(name: str) -> str:
    found = SpiffeId.parse(name)
    if found is None or found.path:
        why = why_not(name) or "has a path"
        raise ValueError(f"a federated bundle is of {name!r}, which is not a valid trust domain: it {why}")
    return found.trust_domain


def _roots(raw: bytes, whose: str) -> tuple[bytes, ...]:
    """Roots whose dates are not looked at: of several trust domains one may have let its own expire."""
    what = f"the bundle of {whose}"
    ders = _split(raw, what)
    if not ders:
        raise ValueError(f"{what} is empty")
    try:
        return read_roots("".join(map(pem_of, ders)).encode())
    except Unusable as error:
        raise ValueError(f"{what} {error.why}; {error.remedy}") from None


def _split(raw: bytes, what: str) -> tuple[bytes, ...]:
    try:
        return split(raw)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None
