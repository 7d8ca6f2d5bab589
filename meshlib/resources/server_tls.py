"""How a server speaks TLS: ``spec.servers[].tls`` of Gateway and ``spec.ingress[].tls`` of Sidecar."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model
from meshlib.resources.types import names


class ServerCertificate(Model):
    """An entry of ``tlsCertificates``."""

    ca_certificates: str | None = None
    private_key: str | None = None
    server_certificate: str | None = None


class ServerTls(Model):
    """``tls`` of a server or of an ingress listener."""

    ca_cert_credential_name: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    cipher_suites: list[str] | None = None
    credential_name: str | None = None
    credential_names: list[str] | None = None
    ecdh_curves: list[str] | None = None
    https_redirect: bool | None = None
    insecure_skip_verify: bool | None = None
    max_protocol_version: (
        Annotated[
            Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"],
            names("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
        ]
        | None
    ) = None
    min_protocol_version: (
        Annotated[
            Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"],
            names("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
        ]
        | None
    ) = None
    mode: (
        Annotated[
            Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"],
            names("PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"),
        ]
        | None
    ) = None
    private_key: str | None = None
    server_certificate: str | None = None
    subject_alt_names: list[str] | None = None
    tls_certificates: list[ServerCertificate] | None = None
    verify_certificate_hash: list[str] | None = None
    verify_certificate_spki: list[str] | None = None
