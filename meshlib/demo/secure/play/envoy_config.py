"""An Envoy as a sidecar of one workload: its certificate by SDS from the folder that our CA writes, and peers judged by Envoy's
own SPIFFE validator against our bundle. It follows both while it runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TYPES = "type.googleapis.com/envoy.extensions"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
PEER = "x-envoy-saw-peer"
"""A header of responses of the inbound listener: the URI SAN that Envoy has verified."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """A listener in plain text for Envoy's own workload, and where it leads: over mTLS to ``server`` (its SPIFFE ID); ``sni``
    as Istio's sidecars have it."""

    port: int
    upstream: int
    server: str
    sni: str = "outbound_.80_._.server.default.svc.cluster.local"
    alpn: Sequence[str] = ("istio-http/1.1", "istio", "http/1.1")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """``svid``: the folder of its certificate, as ``meshlib ca issue`` writes it. ``inbound``: the port that wants mTLS;
    ``application``: the port of what it stands before, None: Envoy responds itself, with who called."""

    svid: Path
    trust_domain: str
    admin: int
    inbound: int
    application: int | None = None
    outbound: Sequence[Outbound] = ()


def write(folder: Path, sidecar: Sidecar, bundle: str) -> Path:
    """The files of an Envoy in ``folder``; the path of its bootstrap."""
    write_bundle(folder, sidecar.trust_domain, bundle)
    certificate = {
        "certificate_chain": {"filename": str(sidecar.svid / "cert.pem")},
        "private_key": {"filename": str(sidecar.svid / "key.pem")},
        "watched_directory": {"path": str(sidecar.svid)},
    }
    _write(folder / "svid.json", _secret("svid", tls_certificate=certificate))
    bootstrap = folder / "envoy.json"
    _write(bootstrap, _bootstrap(folder, sidecar))
    return bootstrap


def write_bundle(folder: Path, trust_domain: str, bundle: str) -> None:
    """The roots to trust from now on; an Envoy that runs takes them up."""
    validator = {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            "trust_domains": [{"name": trust_domain, "trust_bundle": {"inline_string": bundle}}],
        },
    }
    context = {"custom_validator_config": validator}
    _write(folder / "bundle.json", _secret("bundle", validation_context=context))


def _secret(name: str, **what: Any) -> dict[str, Any]:
    return {"resources": [{"@type": SECRET, "name": name, **what}]}


def _write(file: Path, document: dict[str, Any]) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(document, indent=1))
    os.replace(beside, file)


def _bootstrap(folder: Path, sidecar: Sidecar) -> dict[str, Any]:
    listeners = [_inbound(folder, sidecar)]
    clusters = []
    for place, each in enumerate(sidecar.outbound):
        clusters.append(_cluster(f"out-{place}", each.upstream, tls=_upstream(folder, each)))
        routes = [{"match": {"prefix": "/"}, "route": {"cluster": f"out-{place}", "timeout": "10s"}}]
        listeners.append(_listener(f"out-{place}", each.port, {"filters": [_http(routes)]}))
    if sidecar.application is not None:
        clusters.append(_cluster("application", sidecar.application))
    return {
        "node": {"id": "sidecar", "cluster": "bookinfo"},
        "admin": {"address": _address(sidecar.admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _inbound(folder: Path, sidecar: Sidecar) -> dict[str, Any]:
    if sidecar.application is None:
        route: dict[str, Any] = {"direct_response": {"status": 200, "body": {"inline_string": "Envoy\n"}}}
    else:
        route = {"route": {"cluster": "application", "timeout": "10s"}}
    peer = {"header": {"key": PEER, "value": "%DOWNSTREAM_PEER_URI_SAN%"}}
    routes = [{"match": {"prefix": "/"}, "response_headers_to_add": [peer], **route}]
    context = {
        "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _common(folder, ("h2", "http/1.1")),
    }
    chain = {"filters": [_http(routes)], "transport_socket": {"name": "tls", "typed_config": context}}
    return _listener("inbound", sidecar.inbound, chain)


def _upstream(folder: Path, outbound: Outbound) -> dict[str, Any]:
    """As istiod has it of ISTIO_MUTUAL: the server is one of these identities, by its URI SAN."""
    common = _common(folder, outbound.alpn)
    sds = common.pop("validation_context_sds_secret_config")
    names = [{"san_type": "URI", "matcher": {"exact": outbound.server}}]
    common["combined_validation_context"] = {
        "default_validation_context": {"match_typed_subject_alt_names": names},
        "validation_context_sds_secret_config": sds,
    }
    return {
        "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": outbound.sni,
        "common_tls_context": common,
    }


def _common(folder: Path, alpn: Sequence[str]) -> dict[str, Any]:
    return {
        "alpn_protocols": list(alpn),
        "tls_certificate_sds_secret_configs": [_sds(folder, "svid")],
        "validation_context_sds_secret_config": _sds(folder, "bundle"),
    }


def _sds(folder: Path, name: str) -> dict[str, Any]:
    source = {"path": str(folder / f"{name}.json"), "watched_directory": {"path": str(folder)}}
    return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


def _cluster(name: str, port: int, tls: dict[str, Any] | None = None) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    made: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return made if tls is None else {**made, "transport_socket": {"name": "tls", "typed_config": tls}}


def _listener(name: str, port: int, chain: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "address": _address(port), "filter_chains": [chain]}


def _http(routes: list[dict[str, Any]]) -> dict[str, Any]:
    router = {"@type": f"{TYPES}.filters.http.router.v3.Router"}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "sidecar",
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"uri": True},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
