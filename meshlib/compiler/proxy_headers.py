"""``proxyHeaders`` of MeshConfig and of a workload's annotation, as its proxy acts on them: the annotation's fields count
before those of MeshConfig, each by itself, as protobuf merges messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.policy.forwarded_client_cert import CertDetails, ForwardClientCert
from meshlib.policy.sidecar_headers import DEFAULT, ProxyHeaders

if TYPE_CHECKING:
    from meshlib.resources.proxy_headers import Disabled, SetClientCertDetails
    from meshlib.resources.proxy_headers import ProxyHeaders as Written


def compile_proxy_headers(written: Sequence[Written | None]) -> ProxyHeaders:
    """Of all that is written, what counts most last."""
    found = DEFAULT
    for each in written:
        if each is not None:
            found = _with(found, each)
    return found


def _with(found: ProxyHeaders, written: Written) -> ProxyHeaders:
    mode = written.forwarded_client_cert
    if mode is not None and mode != "UNDEFINED":
        found = replace(found, client_cert=ForwardClientCert(mode))
    if written.set_current_client_cert_details is not None:
        found = replace(found, details=_details(found.details, written.set_current_client_cert_details))
    found = replace(
        found,
        debug=_enabled(found.debug, written.envoy_debug_headers),
        request_id=_enabled(found.request_id, written.request_id),
        attempt_count=_enabled(found.attempt_count, written.attempt_count),
    )
    port = written.x_forwarded_port
    if port is not None and port.enabled is not None:
        found = replace(found, forwarded_port=port.enabled)
    host = written.x_forwarded_host
    if host is not None and host.enabled is not None:
        found = replace(found, forwarded_host=host.enabled)
    server = written.server
    if server is not None and (server.disabled is not None or server.value):
        found = replace(found, server="" if server.disabled else server.value or DEFAULT.server)
    return found


def _enabled(found: bool, written: Disabled | None) -> bool:
    return found if written is None or written.disabled is None else not written.disabled


def _details(found: CertDetails, written: SetClientCertDetails) -> CertDetails:
    said = {
        name: value
        for name in ("subject", "cert", "chain", "dns", "uri")
        if (value := getattr(written, name)) is not None
    }
    return replace(found, **said)
