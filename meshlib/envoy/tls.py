"""TLS to endpoints as Envoy's transport sockets, and the certificates of the mesh as Envoy's secrets.

Files are read here and handed over as bytes, so that what Envoy has is what was looked at. What cannot be read or used gives no
socket at all: calls that need it are not made.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.envoy.values import ADS, Json, typed

if TYPE_CHECKING:
    from meshlib.compiler.routes import TlsSettings
    from meshlib.identity.credentials import Credentials

OWN, ROOTS = "default", "ROOTCA"
"""Secrets, by Istio's names: our certificate, and whom we trust."""
TLS12 = {"tls_minimum_protocol_version": "TLSv1_2"}


class NoTls(Exception):
    """The TLS that a resource asks for cannot be had; says why."""


@dataclass(slots=True)
class Files:
    """Reads files, and remembers which."""

    read: dict[str, bytes | None] = field(default_factory=dict)

    def content(self, path: str) -> str:
        """In base64. Raises ``NoTls``."""
        try:
            with open(path, "rb") as file:
                found = self.read[path] = file.read()
        except OSError as error:
            self.read[path] = None
            raise NoTls(f"{path}: {error.strerror or error}") from error
        return base64.b64encode(found).decode()


def mutual_socket(settings: TlsSettings, http2: bool) -> Json:
    """mTLS of the mesh: our certificate and roots are secrets, which rotate without the socket."""
    version = "h2" if http2 else "http/1.1"
    common: Json = {
        "tls_params": TLS12,
        "alpn_protocols": [f"istio-{version}", "istio", version],
        **secret_config(settings.subject_alt_names),
    }
    return _socket(settings.sni, common)


def secret_config(allowed: Sequence[str]) -> Json:
    """Of a CommonTlsContext: our certificate, and peers' by our roots, one of whose identities has to be ``allowed`` (none:
    any)."""
    names = [san(name) for name in allowed]
    return {
        "tls_certificate_sds_secret_configs": [{"name": OWN, "sds_config": ADS}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names} if names else {},
            "validation_context_sds_secret_config": {"name": ROOTS, "sds_config": ADS},
        },
    }


def socket_of(settings: TlsSettings, http2: bool, host: str | None, files: Files) -> Json:
    """TLS of a DestinationRule. ``host``: the name that is asked for where it names no other; None: that of each request, which
    Envoy verifies too (``auto_san_validation``). Raises ``NoTls``."""
    common: Json = {"tls_params": TLS12, "alpn_protocols": ["h2", "http/1.1"] if http2 else ["http/1.1"]}
    certificate = _certificate(settings, files)
    if certificate:
        common["tls_certificates"] = [certificate]
    if not settings.insecure_skip_verify:
        common["validation_context"] = _validation(settings, host, files)
    return _socket(settings.sni or host or "", common)


def _socket(sni: str, common: Json) -> Json:
    context = typed("transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=common)
    if sni:
        context["sni"] = sni
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _certificate(settings: TlsSettings, files: Files) -> Json:
    if settings.certificate_pem:
        return {"certificate_chain": _bytes(settings.certificate_pem), "private_key": _bytes(settings.key_pem)}
    if settings.client_certificate:
        key = settings.private_key or settings.client_certificate
        return {
            "certificate_chain": {"inline_bytes": files.content(settings.client_certificate)},
            "private_key": {"inline_bytes": files.content(key)},
        }
    return {}


def _validation(settings: TlsSettings, host: str | None, files: Files) -> Json:
    if settings.credential:
        if not settings.ca_pem:
            raise NoTls(f"{settings.credential} has no roots to verify servers by")
        made: Json = {"trusted_ca": _bytes(settings.ca_pem)}
        if settings.crl_pem:
            made["crl"] = _bytes(settings.crl_pem)
    else:
        made = {"trusted_ca": {"inline_bytes": files.content(settings.ca_certificates or _system_roots())}}
        if settings.ca_crl:
            made["crl"] = {"inline_bytes": files.content(settings.ca_crl)}
    if "crl" in made:
        made["only_verify_leaf_cert_crl"] = True
    names = [san(name) for name in settings.subject_alt_names]
    name = settings.sni or host
    if not names and name:
        names = [san(name)]
    if names:
        made["match_typed_subject_alt_names"] = names
    return made


def _system_roots() -> str:
    paths = ssl.get_default_verify_paths()
    if not paths.cafile:
        raise NoTls("this machine has no file of roots; give tls.caCertificates")
    return paths.cafile


def san(name: str) -> Json:
    """A SubjectAltNameMatcher: a URI, an address or a DNS name."""
    kind = "URI" if "://" in name else "DNS"
    if kind == "DNS" and _is_ip(name):
        kind = "IP_ADDRESS"
    return {"san_type": kind, "matcher": {"exact": name}}


def _is_ip(name: str) -> bool:
    from meshlib.registry.names import is_ip

    return is_ip(name)


def _bytes(content: bytes) -> Json:
    return {"inline_bytes": base64.b64encode(content).decode()}


def secrets_of(credentials: Credentials | None) -> list[Json]:
    """Our certificate and roots, each root for its own trust domain alone; none without an identity."""
    if credentials is None:
        return []
    from meshlib.security.pem import pem_of

    svid, bundles = credentials.svid, credentials.bundles
    domains = [
        {
            "name": domain,
            "trust_bundle": _bytes("".join(pem_of(root) for root in bundles.roots_of(domain)).encode()),
        }
        for domain in sorted(bundles.trust_domains)
    ]
    validator = typed("transport_sockets.tls.v3.SPIFFECertValidatorConfig", trust_domains=domains)
    return [
        {
            "name": OWN,
            "tls_certificate": {"certificate_chain": _bytes(svid.chain_pem), "private_key": _bytes(svid.key_pem)},
        },
        {
            "name": ROOTS,
            "validation_context": {
                "custom_validator_config": {"name": "envoy.tls.cert_validator.spiffe", "typed_config": validator}
            },
        },
    ]
