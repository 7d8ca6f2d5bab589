"""What clients of a gateway would not take of a server's certificate though TLS can be ended with it, why no client of it could
show one, and what to do about a certificate that TLS cannot be ended with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.security.chain import parsed
from meshlib.security.pem import CERTIFICATE, REVOCATIONS, Block, Unusable, blocks, pem_of, without_accents
from meshlib.security.svid import when
from meshlib.security.svid_rules import is_authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509

    from meshlib.compiler.gateway_model import KeyPair

_CERTIFICATES = (CERTIFICATE, "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
"""All that OpenSSL takes for one."""
_PRIVATE_KEY = "PRIVATE KEY"
_TOGETHER = "give the two that were made together (openssl pkey -pubout and openssl x509 -pubkey show the same then)"


def of_server(pairs: Sequence[KeyPair], names: Sequence[str], now: float) -> Iterator[str]:
    """Sentences about certificates that clients will refuse. ``names``: the server names that they are shown for, empty: any;
    ``now`` in seconds since the epoch."""
    for pair in pairs:
        leaf = next(iter(_certificates(pair.certificate)), None)
        if leaf is None:
            continue
        yield from (f"clients will refuse its certificate, which {why}" for why in _dates(leaf, now))
        if names and not any(_is_for(leaf, name) for name in names):
            shown = ", ".join(_names(leaf)) or "no name"
            yield f"clients will refuse its certificate, which is for {shown} and not for {', '.join(names)}"
        if not _is_for_servers(leaf):
            yield "clients will refuse its certificate, whose extended key usage is not serverAuth"


def of_clients(ca: bytes, crl: bytes, now: float) -> Iterator[str]:
    """Sentences about roots and revocation lists by which no client at all is let in."""
    found = _certificates(ca)
    roots = [root for root in found if root is not None]
    if len(roots) < len(found):  # what cannot be read here may be a good one to OpenSSL
        roots = []
    if roots and all(root.not_valid_after_utc.timestamp() < now for root in roots):
        yield "every client's certificate is refused: all roots that it is verified by have expired"
    lists = _revocations(crl)
    for each in lists:
        until = each.next_update_utc
        if until is not None and until.timestamp() < now:
            said = f"{each.issuer.rfc4514_string()} was to be replaced by {when(until.timestamp())}"
            yield f"clients' certificates are refused: the revocation list of {said}"
    if roots and lists and not {each.issuer for each in lists} & {root.subject for root in roots}:
        issuers = ", ".join(sorted({each.issuer.rfc4514_string() for each in lists}))
        said = f"the revocation list is of {issuers}, and none is of a root"
        yield f"clients' certificates that a root has issued are refused: {said}"


def remedy(pair: KeyPair) -> str:
    """What OpenSSL's error about a pair means, and what to do; "" when that is not known. ``pair`` has contents."""
    if b"ENCRYPTED" in pair.key or b"ENCRYPTED" in pair.certificate:
        return (
            "the private key is encrypted, and nobody is asked for a passphrase: openssl pkey -in FILE -out FILE.plain"
        )
    try:
        shown = _of(pair.certificate, "the certificate")
        keys = _of(pair.key, "the private key") if pair.key else shown
    except Unusable as error:
        return str(error)
    why = _mistaken(shown, keys)
    if why:
        return why
    chain = _certificates(pair.certificate)
    key = _public(keys)
    if chain[0] is None:
        return "the first certificate cannot be read; write it again: openssl x509 -in FILE -text shows a good one"
    if key is None:
        return "the private key cannot be read; write it again: openssl pkey -in FILE -noout says nothing of a good one"
    if _key_of(chain[0]) == key:
        return ""
    if any(each is not None and _key_of(each) == key for each in chain[1:]):
        return "the chain begins with another certificate: put the server's own first, the intermediates behind it"
    if is_authority(chain[0]):
        return f"the certificate is that of an authority, and the private key is not its own; {_TOGETHER}"
    return f"the private key is not that of the certificate; {_TOGETHER}"


def _mistaken(shown: Sequence[Block], keys: Sequence[Block]) -> str:
    """Why the blocks of a certificate and of a key are not those; "" when they are."""
    certified = any(block.label in _CERTIFICATES for block in shown)
    keyed = any(_is_key(block) for block in keys)
    if not certified and not keyed and any(_is_key(b) for b in shown) and any(b.label in _CERTIFICATES for b in keys):
        return "the certificate and the private key are swapped: give each where the other is"
    if not certified:
        return f"the certificate has no block {CERTIFICATE}, but {_labels(shown)}: give the certificate that was issued"
    if not keyed:
        return f"the private key has no block {_PRIVATE_KEY}, but {_labels(keys)}: give the key of the certificate"
    return ""


def why_none(pem: bytes, label: str) -> str:
    """Why OpenSSL finds no block ``label`` (a certificate's or a revocation list's) in a text, and what to do."""
    try:
        found = _of(pem, "the revocation list" if label == REVOCATIONS else "the certificate")
    except Unusable as error:
        return f"the text {error.why}; {error.remedy}"
    if not any(block.label in (_CERTIFICATES if label == CERTIFICATE else (label,)) for block in found):
        return f"the text has no block {label}, but {_labels(found)}: give one that has"
    return f"a block {label} is not valid; write it again"


def _of(text: bytes, part: str) -> list[Block]:
    return blocks(without_accents(text), part)


def _is_key(block: Block) -> bool:
    return block.label.endswith(_PRIVATE_KEY)


def _labels(found: Sequence[Block]) -> str:
    return ", ".join(dict.fromkeys(block.label for block in found))


def _certificates(text: bytes) -> list[x509.Certificate | None]:
    """None stands for one that cannot be read."""
    try:
        return [parsed(block.content) for block in _of(text, "the certificate") if block.label in _CERTIFICATES]
    except Unusable:
        return []


def _revocations(text: bytes) -> list[x509.CertificateRevocationList]:
    if not text:
        return []
    from cryptography import x509

    try:
        return [x509.load_der_x509_crl(b.content) for b in _of(text, "the list") if b.label == REVOCATIONS]
    except ValueError:  # Unusable is one, too
        return []


def _dates(leaf: x509.Certificate, now: float) -> Iterator[str]:
    since, until = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if until < now:
        yield f"has expired on {when(until)} (now: {when(now)})"
    elif now < since:
        yield f"is not valid before {when(since)} (now: {when(now)})"


def _names(leaf: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def _is_for(leaf: x509.Certificate, name: str) -> bool:
    """Whether it is for some server that ``name`` stands for: it may begin with ``*.``, as those of certificates."""
    wanted = name.lower().rstrip(".")
    first, _, parent = wanted.partition(".")
    known = {each.lower() for each in _names(leaf)}
    if first == "*" and any(each.endswith(f".{parent}") for each in known):
        return True
    return wanted in known or f"*.{parent}" in known


def _is_for_servers(leaf: x509.Certificate) -> bool:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return Usage.SERVER_AUTH in usages or Usage.ANY_EXTENDED_KEY_USAGE in usages


def _key_of(certificate: x509.Certificate) -> bytes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, ValueError):
        return None


def _public(found: Sequence[Block]) -> bytes | None:
    """Of the first private key. No error of it is told: it might hold the key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    block = next(block for block in found if _is_key(block))
    try:
        key = load_pem_private_key(pem_of(block.content, block.label).encode(), None).public_key()
    except (UnsupportedAlgorithm, ValueError, TypeError):  # TypeError: it is encrypted
        return None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
