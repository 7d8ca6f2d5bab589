"""X-Forwarded-Client-Cert: how an application behind a proxy is told whose certificate its caller has shown, as Envoy has it.

The header is a list of elements, one for each proxy on the way that has verified a certificate; an element is ``key=value``
pairs with ``;`` between them. What a caller sends in it is believed of nobody but those who have shown a certificate, and only
as far as the mode says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

HEADER = b"x-forwarded-client-cert"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class ForwardClientCert(Enum):
    """What becomes of the header, by Envoy's names (forward_client_cert_details)."""

    SANITIZE = "SANITIZE"
    """It is taken away."""
    FORWARD_ONLY = "FORWARD_ONLY"
    """Over mTLS it goes on as it came."""
    APPEND_FORWARD = "APPEND_FORWARD"
    """Over mTLS an element about the caller's certificate is added. Istio's, of sidecars."""
    SANITIZE_SET = "SANITIZE_SET"
    """Over mTLS that element takes its place. Istio's, of gateways."""
    ALWAYS_FORWARD_ONLY = "ALWAYS_FORWARD_ONLY"
    """It goes on as it came, whoever has sent it."""


@dataclass(frozen=True, slots=True)
class CertDetails:
    """Which parts of the caller's certificate an element has beside By and Hash (Istio's setCurrentClientCertDetails)."""

    subject: bool = True
    cert: bool = False
    chain: bool = False
    dns: bool = True
    uri: bool = True


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What one connection over mTLS has shown. ``by``: the URIs in our own certificate; ``sha256``: of the caller's, DER, in
    lower case hex; ``subject`` as RFC 2253 writes (and
    escapes) it; ``pem`` and ``chain_pem``: the caller's, and that with what stands behind it."""

    by: Sequence[str]
    sha256: str
    subject: str = ""
    uris: Sequence[str] = ()
    dns: Sequence[str] = ()
    pem: str = ""
    chain_pem: str = ""


def element(shown: ShownCertificate, details: CertDetails) -> bytes:
    """The element about this certificate."""
    parts = [f"By={_value(uri)}" for uri in shown.by]
    if shown.sha256:
        parts.append(f"Hash={shown.sha256}")
    if details.cert and shown.pem:
        parts.append(f'Cert="{_in_url(shown.pem)}"')
    if details.chain and shown.chain_pem:
        parts.append(f'Chain="{_in_url(shown.chain_pem)}"')
    if details.subject:
        parts.append(f'Subject="{_subject(shown.subject)}"')
    if details.uri:
        parts += [f"URI={_value(uri)}" for uri in shown.uris] or ["URI="]
    if details.dns:
        parts += [f"DNS={_value(name)}" for name in shown.dns]
    return ";".join(parts).encode("utf-8", "replace")


def forwarded(mode: ForwardClientCert, came: Sequence[bytes], mine: bytes | None) -> bytes | None:
    """The value of the header for the application, None: it has none. ``came``: the values that the request has; ``mine``: the
    element about its caller, None where that has shown no certificate."""
    if mode is ForwardClientCert.ALWAYS_FORWARD_ONLY:
        return _joined(came)
    if mode is ForwardClientCert.SANITIZE or mine is None:
        return None
    if mode is ForwardClientCert.FORWARD_ONLY:
        return _joined(came)
    if mode is ForwardClientCert.SANITIZE_SET:
        return mine
    return _joined([*came, mine])


def _joined(values: Sequence[bytes]) -> bytes | None:
    """As Envoy keeps one line of it: those that say something."""
    return b",".join([value for value in values if value]) if values else None


def _in_url(pem: str) -> str:
    return quote(pem, safe="-_.~")


def _subject(text: str) -> str:
    """Control characters as RFC 4514 writes any byte: what made the text leaves them as they are, and a line break in a
    certificate would end this header and begin others."""
    return _CONTROLS.sub(lambda found: f"\\{ord(found[0]):02X}", text)


def _value(text: str) -> str:
    """In double quotes where it has what separates pairs and elements (Envoy leaves such URIs and DNS names as they are, so
    that a certificate could write elements of its own). Control characters as in URLs."""
    text = _CONTROLS.sub(lambda found: f"%{ord(found[0]):02X}", text)
    if any(each in text for each in ',;="'):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
