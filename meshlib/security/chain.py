"""Whether one of some roots vouches for a leaf: the path of RFC 5280 between them, as X.509-SVID demands it.

A TLS handshake tells that a chain is good, but not whose root it ends at; and a root vouches for its own trust domain only.
So the path is looked for here, among the roots of the leaf's trust domain alone. What a certificate demands and this does not
know (a critical extension, a constraint on names of another kind) refuses.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from meshlib.policy.spiffe_id import SCHEME

if TYPE_CHECKING:
    from cryptography import x509

DEEPEST = 8
"""Certificates between leaf and root."""
MOST_LOOKS = 64
"""Signatures that are checked for one leaf at most: strangers choose what is in a chain."""


class Path(NamedTuple):
    """From a leaf to a root. ``not_before`` and ``not_after``: when all of its certificates are valid, in seconds since the
    epoch. ``signers``: the intermediates in DER, from the leaf's issuer up."""

    not_before: float
    not_after: float
    signers: tuple[bytes, ...]


@functools.lru_cache(1024)
def parsed(der: bytes) -> x509.Certificate | None:
    """The certificate, None when it is not valid."""
    from cryptography import x509

    found: x509.Certificate | None
    try:
        found = x509.load_der_x509_certificate(der)
        found.extensions  # noqa: B018 (read lazily: what is malformed in them raises here)
    except Exception:  # noqa: BLE001 (whatever a stranger's bytes bring about)
        found = None
    return found


def find_path(
    leaf: x509.Certificate, signers: Iterable[bytes], roots: Sequence[bytes], now: float | None = None
) -> Path | str:
    """The path from ``leaf`` over some of ``signers`` (DER, in any order) to one of ``roots``, that is valid ``now`` (None:
    whenever); or why there is none, as the end of a sentence about the leaf."""
    known = [found for found in map(parsed, dict.fromkeys(signers)) if found is not None]
    anchors = [found for found in map(parsed, roots) if found is not None]
    return _Search(leaf, known, anchors, now).run()


class _Search:
    def __init__(
        self, leaf: x509.Certificate, known: list[x509.Certificate], anchors: list[x509.Certificate], now: float | None
    ) -> None:
        self.leaf = leaf
        self.known = known
        self.anchors = anchors
        self.now = now
        self.looks = 0
        self.why = ""

    def run(self) -> Path | str:
        found = self._above([self.leaf])
        if found is not None:
            return found
        issuer = self.leaf.issuer.rfc4514_string()
        return self.why or f"is issued by {issuer!r}, which is not a root of its trust domain and not in its chain"

    def _above(self, path: list[x509.Certificate]) -> Path | None:
        lowest = path[-1]
        for anchor in self.anchors:
            if anchor == lowest or self._issued(lowest, anchor):
                whole = path if anchor == lowest else [*path, anchor]
                found = self._judged(whole)
                if found is not None:
                    return found
        if len(path) > DEEPEST:
            return None
        for signer in self.known:
            if signer in path or signer in self.anchors or not self._issued(lowest, signer):
                continue
            found = self._above([*path, signer])
            if found is not None:
                return found
            issuer = signer.issuer.rfc4514_string()
            self.why = self.why or (
                f"chains to an intermediate that was issued by {issuer!r}, which is not a root of its trust domain"
            )
        return None

    def _issued(self, subject: x509.Certificate, issuer: x509.Certificate) -> bool:
        if subject.issuer != issuer.subject or self.looks >= MOST_LOOKS:
            return False
        self.looks += 1
        try:
            subject.verify_directly_issued_by(issuer)
        except Exception:  # noqa: BLE001 (a signature that is not valid, a key that cannot sign so, ...)
            self.why = self.why or f"is not signed by the {issuer.subject.rfc4514_string()!r} that is known"
            return False
        return True

    def _judged(self, path: list[x509.Certificate]) -> Path | None:
        why = _why_not(path)
        if why:
            self.why = why
            return None
        begin = max(each.not_valid_before_utc.timestamp() for each in path)
        end = min(each.not_valid_after_utc.timestamp() for each in path)
        if self.now is not None and not begin <= self.now <= end:
            self.why = (
                "has a certificate in its chain that has expired"
                if self.now > end
                else ("has a certificate in its chain that is not yet valid")
            )
            return None
        from cryptography.hazmat.primitives.serialization import Encoding

        return Path(begin, end, tuple(each.public_bytes(Encoding.DER) for each in path[1:-1]))


def _why_not(path: Sequence[x509.Certificate]) -> str:
    """What in a path whose signatures are good forbids it; "" when nothing does."""
    intermediates = 0
    for place, each in enumerate(path[1:], 1):
        what = "the root" if place == len(path) - 1 else "an intermediate"
        why = why_no_authority(each)
        if why:
            return f"has a chain in which {what} {why}"
        from cryptography import x509

        limit = each.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if limit is not None and intermediates > limit:
            return (
                f"has a chain that is too long: {what} allows {limit} intermediates below it (pathLenConstraint), "
                f"and there {'is' if intermediates == 1 else 'are'} {intermediates}"
            )
        if each.subject != each.issuer:
            intermediates += 1
        for constraint in each.extensions:
            if isinstance(constraint.value, x509.NameConstraints) and not _allowed(constraint.value, path[:place]):
                return f"has names that {what} must not sign for (nameConstraints)"
    return _unknown_demand(path[0])


def why_no_authority(certificate: x509.Certificate) -> str:
    """Why a certificate cannot sign others, as the end of a sentence; "" when it can."""
    from cryptography import x509

    found = [each.value for each in certificate.extensions if isinstance(each.value, x509.BasicConstraints)]
    if not found or not found[0].ca:
        return "is not the certificate of an authority (basicConstraints has no cA=true)"
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and not value.key_cert_sign:
            return "must not sign certificates (keyUsage has no keyCertSign)"
        elif isinstance(value, x509.ExtendedKeyUsage) and not _PURPOSES & {each.dotted_string for each in value}:
            return "signs for neither clients nor servers (extendedKeyUsage)"
        elif isinstance(value, x509.SubjectAlternativeName):
            for uri in value.get_values_for_type(x509.UniformResourceIdentifier):
                if uri.startswith(SCHEME) and "/" in uri[len(SCHEME) :]:
                    return "has the SPIFFE ID of a workload, which must not sign certificates"
    return _unknown_demand(certificate)


_PURPOSES = frozenset(("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"))
"""serverAuth, clientAuth, any."""
_UNDERSTOOD = frozenset(
    (
        "2.5.29.15",  # keyUsage
        "2.5.29.17",  # subjectAltName
        "2.5.29.19",  # basicConstraints
        "2.5.29.30",  # nameConstraints
        "2.5.29.32",  # certificatePolicies: any policy will do
        "2.5.29.37",  # extendedKeyUsage
    )
)


def _unknown_demand(certificate: x509.Certificate) -> str:
    for extension in certificate.extensions:
        if extension.critical and extension.oid.dotted_string not in _UNDERSTOOD:
            return f"has a critical extension that is not understood ({extension.oid.dotted_string})"
    return ""


def _allowed(constraints: x509.NameConstraints, below: Sequence[x509.Certificate]) -> bool:
    """Whether the names of all certificates below keep to the constraints."""
    from cryptography import x509

    excluded = constraints.excluded_subtrees or ()
    permitted = constraints.permitted_subtrees or ()
    for each in below:
        try:
            names = list(each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except x509.ExtensionNotFound:
            names = []
        for name in names:
            if any(_within(name, tree, unknown=True) for tree in excluded):
                return False
            alike = [tree for tree in permitted if type(tree) is type(name)]
            if alike and not any(_within(name, tree, unknown=False) for tree in alike):
                return False
        if any(isinstance(tree, x509.DirectoryName) for tree in (*excluded, *permitted)) and list(each.subject):
            return False  # of names of this kind nothing is understood
    return True


def _within(name: x509.GeneralName, tree: x509.GeneralName, *, unknown: bool) -> bool:
    """``unknown``: what counts for kinds of names that are not understood."""
    from cryptography import x509

    if type(name) is not type(tree):
        return False
    if isinstance(name, x509.UniformResourceIdentifier) and isinstance(tree, x509.UniformResourceIdentifier):
        return _host_within(urlsplit(name.value).hostname or "", tree.value, subdomains=False)
    if isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName):
        return _host_within(name.value, tree.value, subdomains=True)
    if isinstance(name, x509.IPAddress) and isinstance(tree, x509.IPAddress):
        network = tree.value
        if isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
            return name.value in network
    return unknown


def _host_within(host: str, tree: str, *, subdomains: bool) -> bool:
    host, tree = host.lower(), tree.lower()
    if tree.startswith("."):
        return host.endswith(tree)
    return host == tree or (subdomains and (not tree or host.endswith(f".{tree}")))
