"""``proxyHeaders`` of a proxy's settings, in MeshConfig's ``defaultConfig`` and in the annotation ``proxy.istio.io/config``."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.kubernetes import Loose
from meshlib.resources.types import names

_MODES = ("UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")


class Disabled(Loose):
    """``envoyDebugHeaders``, ``requestId``, ``attemptCount``."""

    disabled: bool | None = None


class Enabled(Loose):
    """``xForwardedHost``, ``xForwardedPort``."""

    enabled: bool | None = None


class ServerHeader(Disabled):
    """``server``."""

    value: str | None = None


class SetClientCertDetails(Loose):
    """``setCurrentClientCertDetails``."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class MetadataExchangeHeaders(Loose):
    """``metadataExchangeHeaders``."""

    mode: Annotated[Literal["UNDEFINED", "IN_MESH"], names("UNDEFINED", "IN_MESH")] | None = None


class ProxyHeaders(Loose):
    """Only what means something to a library, or to ``meshlib proxy``, and what a notice is about."""

    metadata_exchange_headers: MetadataExchangeHeaders | None = None

    forwarded_client_cert: (
        Annotated[
            Literal["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"],
            names(*_MODES),
        ]
        | None
    ) = None
    set_current_client_cert_details: SetClientCertDetails | None = None
    server: ServerHeader | None = None
    envoy_debug_headers: Disabled | None = None
    request_id: Disabled | None = None
    attempt_count: Disabled | None = None
    x_forwarded_host: Enabled | None = None
    x_forwarded_port: Enabled | None = None
