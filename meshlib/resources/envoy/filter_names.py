"""Names that filters had before Envoy gave them families; they still match, and istiod warns of them."""

from __future__ import annotations

_HTTP = (
    "buffer",
    "cors",
    "csrf",
    "grpc_http1_bridge",
    "grpc_web",
    "gzip",
    "health_check",
    "ip_tagging",
    "lua",
    "router",
)
_NETWORK = ("client_ssl_auth", "http_connection_manager", "mongo_proxy", "ratelimit", "redis_proxy")
_LISTENER = ("http_inspector", "original_dst", "original_src", "proxy_protocol", "tls_inspector")

FORMER_NAMES = {
    **{f"envoy.{name}": f"envoy.filters.http.{name}" for name in (*_HTTP, "ext_authz", "fault", "squash")},
    "envoy.grpc_json_transcoder": "envoy.filters.http.grpc_json_transcoder",
    "envoy.http_dynamo_filter": "envoy.filters.http.dynamo",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    **{f"envoy.{name}": f"envoy.filters.network.{name}" for name in (*_NETWORK, "tcp_proxy")},
    **{f"envoy.listener.{name}": f"envoy.filters.listener.{name}" for name in _LISTENER},
}
"""The name of today, by the former one."""
