"""``tls`` of a Gateway's server, and of a Sidecar's ingress listener."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused, warned

if TYPE_CHECKING:
    from meshlib.resources.server_tls import ServerCertificate, ServerTls

_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")


def passes_through(tls: ServerTls) -> bool:
    """The connection is not decrypted here. PASSTHROUGH is what a ``tls`` without a mode means."""
    return tls is not None and tls.mode in (None, "PASSTHROUGH", "AUTO_PASSTHROUGH")


def server_tls(tls: ServerTls | None, loc: Loc) -> Iterator[Notice]:
    """Certificates from one source, and those that the mode needs."""
    if tls is None:
        return
    if tls.mode == "ISTIO_MUTUAL":
        yield from _mesh_certificates(tls, loc)
        return
    sources = [
        name
        for name, there in (
            ("serverCertificate", tls.server_certificate and tls.private_key),
            ("credentialName", tls.credential_name),
            ("credentialNames", tls.credential_names),
            ("tlsCertificates", tls.tls_certificates),
        )
        if there
    ]
    if len(sources) > 1:
        yield refused(
            "several-certificates",
            (*loc, sources[1]),
            f"certificates come from one source, and {' and '.join(sources)} are given",
            "keep one of them",
        )
    if tls.mode in _TERMINATING and (tls.credential_name or tls.credential_names):
        return
    if tls.mode in _TERMINATING:
        yield from _files(tls, loc)
    if tls.ca_crl:
        if tls.credential_name:
            yield refused(
                "crl-of-credential",
                (*loc, "caCrl"),
                "caCrl cannot be given together with credentialName",
                "put the list into the credential",
            )
        if tls.mode == "SIMPLE":
            yield refused(
                "crl-without-clients", (*loc, "caCrl"), "mode SIMPLE asks clients for no certificate", "leave caCrl out"
            )


def _mesh_certificates(tls: ServerTls, loc: Loc) -> Iterator[Notice]:
    given = (
        ("serverCertificate", tls.server_certificate),
        ("privateKey", tls.private_key),
        ("caCertificates", tls.ca_certificates),
        ("tlsCertificates", tls.tls_certificates),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
    )
    for name, value in given:
        if value:
            yield refused(
                "tls-files",
                (*loc, name),
                f"mode ISTIO_MUTUAL uses the mesh's own certificates, and {name} is given",
                "leave it out",
            )


def _files(tls: ServerTls, loc: Loc) -> Iterator[Notice]:
    mode = tls.mode
    if mode != "SIMPLE" and not tls.ca_certificates:
        yield refused("tls-files", loc, f"mode {mode} needs the CA of its clients", "caCertificates, or credentialName")
    pairs: list[tuple[Loc, ServerTls | ServerCertificate]]
    if tls.tls_certificates:
        pairs = [((*loc, "tlsCertificates", index), pair) for index, pair in enumerate(tls.tls_certificates)]
    else:
        pairs = [(loc, tls)]
    for where, pair in pairs:
        for name, file in (("serverCertificate", pair.server_certificate), ("privateKey", pair.private_key)):
            if not file:
                yield refused("tls-files", where, f"mode {mode} needs {name}", f"add {name}, or use credentialName")


KNOWN_CIPHERS = frozenset(
    f"{exchange}{cipher}"
    for exchange, ciphers in (
        ("ECDHE-ECDSA-", ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")),
        ("ECDHE-RSA-", ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")),
        ("", ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA")),
    )
    for cipher in ciphers
)


def server_tls_warnings(tls: ServerTls | None, loc: Loc) -> Iterator[Notice]:
    """Ciphers that Istio leaves out, old versions without ciphers for them, certificates that are not read."""
    if tls is None:
        return
    if tls.min_protocol_version in ("TLSV1_0", "TLSV1_1") and not tls.cipher_suites:
        yield warned(
            "no-ciphers",
            (*loc, "minProtocolVersion"),
            f"{tls.min_protocol_version} needs ciphers that are not among those by default",
            "name cipherSuites for it, or leave minProtocolVersion out",
        )
    seen: set[str] = set()
    for index, cipher in enumerate(tls.cipher_suites or ()):
        if cipher not in KNOWN_CIPHERS and cipher[:1].isalnum() and cipher != "ALL":
            yield warned(
                "unknown-cipher",
                (*loc, "cipherSuites", index),
                f"Istio does not know the cipher {cipher} and leaves it out",
                f"for example {min(KNOWN_CIPHERS)}",
            )
        elif cipher in seen:
            yield warned("duplicate-cipher", (*loc, "cipherSuites", index), f"{cipher} is there twice", "remove one")
        seen.add(cipher)
    if tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        yield from _unread_certificates(tls, loc)
    if tls.mode in _TERMINATING and len(tls.tls_certificates or ()) > 2:
        yield warned(
            "many-certificates", (*loc, "tlsCertificates"), "two certificates at most are served", "one RSA, one ECDSA"
        )


def _unread_certificates(tls: ServerTls, loc: Loc) -> Iterator[Notice]:
    given = (
        ("serverCertificate", tls.server_certificate),
        ("privateKey", tls.private_key),
        ("caCertificates", tls.ca_certificates),
        ("caCrl", tls.ca_crl),
        ("tlsCertificates", tls.tls_certificates),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
    )
    for name, value in given:
        if value:
            yield warned(
                "unread-certificate",
                (*loc, name),
                f"mode {tls.mode} reads no certificates",
                "leave it out, or choose the mode that ends TLS here (SIMPLE)",
            )
