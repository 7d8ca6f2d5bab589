"""A real Envoy that answers 64 bytes by itself, in plain text and over mTLS: a server whose own part costs little."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.certificates import CLIENT
from benchmarks.free_ports import free_port
from benchmarks.processes import envoy_by

_TYPES = "type.googleapis.com/envoy.extensions"
PLAIN, MTLS, FULL = "plain", "mtls", "full"
"""Its ports; ``full`` is mTLS without sessions."""


@contextlib.contextmanager
def answering(folder: Path) -> Iterator[dict[str, int]]:
    """Its ports; the folder has what ``write_certificates`` wrote. Raises RuntimeError when it does not start."""
    ports = {name: free_port() for name in (PLAIN, MTLS, FULL)}
    listeners = [_listener(port, {} if name == PLAIN else _tls(folder, name == FULL)) for name, port in ports.items()]
    with envoy_by({"static_resources": {"listeners": listeners}}, ports[FULL]):
        yield ports


def _listener(port: int, tls: dict[str, Any]) -> dict[str, Any]:
    answer = {"status": 200, "body": {"inline_string": "x" * 64}}
    connections = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "answering",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": answer}],
                }
            ]
        },
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [manager], **tls}],
    }


def _tls(folder: Path, full: bool) -> dict[str, Any]:
    chain = {"certificate_chain": {"filename": f"{folder}/cert.pem"}, "private_key": {"filename": f"{folder}/key.pem"}}
    bundle = {"name": "cluster.local", "trust_bundle": {"filename": f"{folder}/bundle.pem"}}
    validator = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
        "trust_domains": [bundle],
    }
    common = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [chain],
        "validation_context": {
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": CLIENT}}],
            "custom_validator_config": {"name": "envoy.tls.cert_validator.spiffe", "typed_config": validator},
        },
    }
    context = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": common,
        "disable_stateless_session_resumption": full,
        "disable_stateful_session_resumption": full,
    }
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}
