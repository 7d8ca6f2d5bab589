"""Gateway (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.notices import Notice
from meshlib.resources.types import UInt32, names
from meshlib.resources.validation import gateway as rules


class ServersPort(Model):
    """``spec.servers.port`` of Gateway."""

    name: str
    number: UInt32
    protocol: str
    target_port: UInt32 | None = None


class TlsCertificate(Model):
    """``spec.servers.tls.tlsCertificates`` of Gateway."""

    ca_certificates: str | None = None
    private_key: str | None = None
    server_certificate: str | None = None


class Tls(Model):
    """``spec.servers.tls`` of Gateway."""

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
    tls_certificates: list[TlsCertificate] | None = None
    verify_certificate_hash: list[str] | None = None
    verify_certificate_spki: list[str] | None = None


class Server(Model):
    """``spec.servers`` of Gateway."""

    hosts: list[str]
    port: ServersPort
    bind: str | None = None
    default_endpoint: str | None = None
    name: str | None = None
    tls: Tls | None = None


class GatewaySpec(Model):
    """``spec`` of Gateway."""

    selector: dict[str, str] | None = None
    servers: list[Server] | None = None


class Gateway(Resource):
    """Istio's Gateway."""

    kind: Literal["Gateway"]
    spec: GatewaySpec
    status: Any = None

    def refusals(self) -> Iterator[Notice]:
        """See ``validation/gateway.py``."""
        return rules.refusals(self)

    def notices(self) -> list[Notice]:
        """What Istio warns of, beside old spellings."""
        return [*super().notices(), *rules.warnings(self)]
