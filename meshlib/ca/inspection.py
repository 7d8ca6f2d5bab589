"""What is in a file or folder of certificates: who, by whom, until when, which rules are broken, and who vouches for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.ca.folders import BadStore
from meshlib.ca.handed import BUNDLE, CERT, KEY
from meshlib.ca.ledger import Ledger
from meshlib.ca.rotation import ASKED, due
from meshlib.ca.state import FILE
from meshlib.ca.store import SIGNER, Store
from meshlib.policy.spiffe_id import SpiffeId
from meshlib.security.chain import find_path, parsed
from meshlib.security.issuers import signed_by, spoken_for
from meshlib.security.pem import CERTIFICATE, Unusable, blocks
from meshlib.security.private_key import read_key
from meshlib.security.svid import when
from meshlib.security.svid_rules import broken_by_authority, broken_by_leaf, is_authority, spiffe_uris

if TYPE_CHECKING:
    from cryptography import x509

    from meshlib.clock import Clock

DER = b"\x30"


@dataclass(slots=True)
class Look:
    """At one file. ``facts``: label and value. ``problems`` make it unusable, ``notes`` do not."""

    file: str
    title: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inspect(path: Path, clock: Clock, *, bundle: Path | None = None, key: Path | None = None) -> list[Look]:
    """A look at each file with certificates that ``path`` is or has: one file; the folder of an SVID; an authority with all
    that it has issued to files. ``bundle``: the roots that are asked to vouch (otherwise those beside the certificate);
    ``key``: to be the certificate's. Never raises for what is in the files: that is a problem."""
    if not path.exists():
        return [Look(str(path), problems=["does not exist"])]
    if path.is_dir():
        return list(_folder(path, clock, bundle, key))
    beside = path.parent / BUNDLE
    if bundle is None and beside.is_file() and beside != path:
        bundle = beside
    return [_file(path, clock.time(), bundle, key)]


def _folder(path: Path, clock: Clock, bundle: Path | None, key: Path | None) -> Iterator[Look]:
    if (path / FILE).is_file():
        yield from _store(path, clock)
    elif (path / CERT).exists():
        beside = path / BUNDLE
        yield _file(path / CERT, clock.time(), bundle or (beside if beside.exists() else None), key or path / KEY)
    else:
        yield Look(str(path), problems=[f"has neither a CA ({FILE}) nor a certificate ({CERT}); name the file itself"])


def _store(path: Path, clock: Clock) -> Iterator[Look]:
    now = clock.time()
    try:
        store = Store.open(path, clock)
        state = store.current().state
        coming = due(store)
        folders = [Path(each.folder) for each in Ledger.of(store.folder).entries.values()]
    except BadStore as error:
        yield Look(str(path), "a CA", problems=[f"cannot be used: {error}"])
        return
    facts = [("trust domain", state.trust_domain), ("change", f"{state.step}; next: {coming} ({ASKED[coming]})")]
    yield Look(str(store.folder), "a CA", facts)
    yield _file(store.folder / BUNDLE, now, None, None)
    for number in state.trusted:
        yield _file(store.place(number) / SIGNER, now, None, None)
    for folder in folders:
        if (folder / CERT).exists():
            yield _file(folder / CERT, now, folder / BUNDLE, folder / KEY)
        else:
            yield Look(str(folder), notes=["is gone; it was issued there"])


def _file(path: Path, now: float, bundle: Path | None, key: Path | None) -> Look:
    look = Look(str(path))
    found: list[x509.Certificate] = []
    for der in _ders(path, look):
        certificate = parsed(der)
        if certificate is None:
            look.problems.append("has a certificate that is not valid X.509")
        else:
            found.append(certificate)
    if not found:
        look.problems = look.problems or ["has no certificate"]
    elif all(map(is_authority, found)):
        _authorities(look, found, now)
    else:
        _svid(look, found, now, bundle, key)
    return look


def _ders(path: Path, look: Look) -> list[bytes]:
    try:
        text = path.read_bytes()
        if text.startswith(DER):
            return [text]
        found = blocks(text, "it")
    except OSError as error:
        look.problems.append(f"cannot be read: {error.strerror}")
        return []
    except Unusable as error:
        look.problems.append(f"{error.why}; {error.remedy}")
        return []
    ders = [block.content for block in found if block.label == CERTIFICATE]
    if not ders:
        look.problems.append(f"has no certificate, but: {', '.join(dict.fromkeys(block.label for block in found))}")
    return ders


def _svid(look: Look, found: list[x509.Certificate], now: float, bundle: Path | None, key: Path | None) -> None:
    leaf, behind = found[0], found[1:]
    if is_authority(leaf):
        look.problems.append("begins with an authority's certificate; put the leaf first, its intermediates behind it")
        leaf = next(each for each in found if not is_authority(each))
        behind = [each for each in found if each is not leaf]
    uris = spiffe_uris(leaf)
    look.title = f"the certificate of {uris[0][:200] if len(uris) == 1 else 'nobody'}"
    look.facts += _facts(leaf, now)
    look.problems += broken_by_leaf(leaf)
    for each in behind:
        look.facts.append(("then", f"{_name(each)}, {_span(each, now)}"))
        look.problems += [f"has an intermediate ({_name(each)}) that {broken}" for broken in broken_by_authority(each)]
        if each.subject == each.issuer:
            look.notes.append("has the root in its chain, which is not needed")
    _dated(look, leaf, now)
    _vouched(look, leaf, behind, bundle, now)
    if key is not None:
        _keyed(look, leaf, key)


def _authorities(look: Look, found: list[x509.Certificate], now: float) -> None:
    roots = [each for each in found if signed_by(each, each)]
    look.title = "roots" if len(roots) == len(found) else "an authority"
    for place, each in enumerate(found):
        look.facts += _facts(each, now)
        look.problems += [f"has a certificate ({_name(each)}) that {broken}" for broken in broken_by_authority(each)]
        _dated(look, each, now)
        above = found[place + 1] if place + 1 < len(found) else each
        if len(roots) != len(found) and not signed_by(each, above):
            look.problems.append(f"has a certificate ({_name(each)}) that is not signed by the one behind it")


def _facts(certificate: x509.Certificate, now: float) -> Iterator[tuple[str, str]]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = ", ".join(str(each.value)[:200] for each in found)
    except Exception:  # noqa: BLE001 (what cannot be read of it is a problem already)
        names = ""
    yield "names", names or "none"
    yield "subject", certificate.subject.rfc4514_string() or "none"
    yield "issued by", "itself" if certificate.subject == certificate.issuer else certificate.issuer.rfc4514_string()
    yield "valid", _span(certificate, now)
    yield "key", _kind(certificate)
    yield "serial", f"{certificate.serial_number:x}"


def _dated(look: Look, certificate: x509.Certificate, now: float) -> None:
    first, last = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    who = "" if not is_authority(certificate) else f" ({_name(certificate)})"
    if now > last:
        look.problems.append(f"has expired on {when(last)}{who}; issue a new one")
    elif now < first:
        look.problems.append(f"is not valid before {when(first)}{who}; check the clock of this machine")


def _vouched(
    look: Look, leaf: x509.Certificate, behind: list[x509.Certificate], bundle: Path | None, now: float
) -> None:
    """Whether a root of the bundle vouches: one of the leaf's own trust domain, over the intermediates that the file has."""
    from cryptography.hazmat.primitives.serialization import Encoding

    if bundle is None:
        look.notes.append("was not held against a bundle; name one with --bundle")
        return
    roots = Look(str(bundle))
    ders = _ders(bundle, roots)
    look.problems += [f"has no usable bundle: {bundle} {problem}" for problem in roots.problems]
    uris = spiffe_uris(leaf)
    identity = SpiffeId.parse(uris[0]) if len(uris) == 1 else None
    if not ders or identity is None:
        return
    own: list[bytes] = []
    foreign: list[bytes] = []
    for der in ders:
        root = parsed(der)
        if root is not None:
            (own if _speaks_for(root, identity.trust_domain) else foreign).append(der)
    found = find_path(leaf, [each.public_bytes(Encoding.DER) for each in behind], own, now)
    if not isinstance(found, str):
        look.facts.append(("chains to", f"a root in {bundle}"))
    elif not isinstance(find_path(leaf, [each.public_bytes(Encoding.DER) for each in behind], foreign, now), str):
        look.problems.append(f"chains to a root in {bundle} of a trust domain other than {identity.trust_domain}")
    else:
        look.problems.append(f"does not chain to any root in {bundle}: it {found}")


def _speaks_for(root: x509.Certificate, trust_domain: str) -> bool:
    """A root that does not say whose it is speaks for who has put it into the bundle."""
    try:
        return spoken_for(root, trust_domain) == trust_domain
    except ValueError:
        return False


def _keyed(look: Look, leaf: x509.Certificate, key: Path) -> None:
    try:
        read_key(key.read_bytes(), leaf)
    except OSError as error:
        look.problems.append(f"has no usable key: {key} cannot be read: {error.strerror}")
    except Unusable as error:
        look.problems.append(f"has no usable key: {key} {error.why}; {error.remedy}")
    else:
        look.facts.append(("private key", f"{key}, which is its own"))
        mode = key.stat().st_mode & 0o777
        if mode & 0o077:
            look.notes.append(f"has a private key that others may read (mode {mode:04o}); chmod 600 {key}")


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "no subject"


def _span(certificate: x509.Certificate, now: float) -> str:
    first, last = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    left = last - now
    much = (
        f"{left / 86400:.0f} days"
        if left >= 2 * 86400
        else f"{left / 3600:.1f} hours"
        if left >= 3600
        else f"{left:.0f} s"
    )
    return f"{when(first)} to {when(last)}" + (f", {much} left" if left > 0 else "")


def _kind(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        key = certificate.public_key()
    except Exception as error:  # noqa: BLE001 (a kind that cryptography does not know)
        return f"of a kind that cannot be read ({type(error).__name__})"
    if isinstance(key, EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return f"RSA {key.key_size} bits" if isinstance(key, RSAPublicKey) else type(key).__name__.removesuffix("PublicKey")
