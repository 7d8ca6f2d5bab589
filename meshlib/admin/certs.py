"""``/certs``: the certificates that the process shows and trusts, as on Envoy's admin page of that name. No key is there."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from meshlib.admin.page import Page, as_json
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from cryptography import x509

    from meshlib.admin.seen import Seen

DAY = 86400.0


def certs_page(seen: Seen) -> Page:
    """The SVID of the mesh's identity with the roots that it trusts, and ``files``: those that connections are made with."""
    core, now = seen.core, seen.core.clock.time()
    current = None if core.identity is None else core.identity.latest
    found: list[dict[str, object]] = []
    if current is not None:
        from meshlib.security.pem import CERTIFICATE, blocks

        chain = [
            block.content for block in blocks(current.svid.chain_pem, "the certificate") if block.label == CERTIFICATE
        ]
        roots = [
            _details(root, now, f"trust domain {domain}")
            for domain in sorted(current.bundles.trust_domains)
            for root in current.bundles.roots_of(domain)
        ]
        found.append({"ca_cert": roots, "cert_chain": [_details(der, now, "") for der in chain]})
    return as_json({"certificates": found, "files": core.certificates()})


def _details(der: bytes, now: float, path: str) -> dict[str, object]:
    from meshlib.security.chain import parsed

    certificate = parsed(der)
    if certificate is None:
        raise MeshError("a certificate that is in use cannot be read")
    until = certificate.not_valid_after_utc
    return {
        "path": path,
        "serial_number": format(certificate.serial_number, "x"),
        "subject_alt_names": _names(certificate),
        "days_until_expiration": str(max(0, int((until.timestamp() - now) // DAY))),
        "valid_from": _time(certificate.not_valid_before_utc),
        "expiration_time": _time(until),
    }


def _names(certificate: x509.Certificate) -> list[dict[str, str]]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [*({"uri": uri} for uri in uris), *({"dns": name} for name in names.get_values_for_type(x509.DNSName))]


def _time(at: datetime.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
