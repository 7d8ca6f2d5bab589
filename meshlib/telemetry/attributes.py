"""The values of the attributes that expressions in CEL read (``policy/cel_attributes.py`` has their names): Envoy's, out of the
entry of a call. What is not known of a call is not there, as in Envoy: reading it is an error, ``has()`` says so.

``source`` is who called and ``destination`` what was called, ``upstream`` the endpoint. Of a call made, its program is the
source, whose address nobody knows, and the destination's port is that of the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from meshlib.policy.grpc_status import grpc_of_http
from meshlib.policy.secret_queries import header_shown, without_secrets

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry
    from meshlib.workload import Workload

FLAGS = (
    *("LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH"),
    *("DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO"),
)
"""By the bit of ``response.flags`` that stands for it, from the lowest."""
_BITS = {flag: 1 << bit for bit, flag in enumerate(FLAGS)}
INBOUND, OUTBOUND = 1, 2
"""Envoy's numbers of directions."""
CALLS: Mapping[tuple[str, str], str] = {
    ("request", "time"): "timestamp",
    ("request", "duration"): "duration",
    ("response", "backend_latency"): "duration",
}
"""Attributes that are a time: their values are texts, of which these functions make one."""


class Facts:
    """What an expression is evaluated with: the ``entry`` of a call, of which ``outbound`` says whether it was made, the
    workload's own ``node``, and of its metrics the ``labels``, {} where nobody has made them. ``hides``: what it comes to is
    shown, so that headers and parameters of queries which open doors (Authorization, say) have no value."""

    __slots__ = ("entry", "hides", "labels", "node", "outbound")

    def __init__(
        self,
        entry: Entry,
        node: Mapping[str, object],
        outbound: bool,
        labels: Mapping[str, str] | None = None,
        hides: bool = False,
    ) -> None:
        self.hides = hides
        self.entry = entry
        self.node = node
        self.outbound = outbound
        self.labels = labels or {}


Value = Callable[[Facts], object]
"""None: it is not there."""


def node_of(workload: Workload) -> Mapping[str, object]:
    """What Envoy would know of itself beside this workload."""
    region, _, rest = workload.locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return {
        "id": f"sidecar~{workload.address}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local",
        "cluster": f"{workload.labels.get('app', workload.name)}.{workload.namespace}",
        "metadata": {
            "NAME": workload.name,
            "NAMESPACE": str(workload.namespace),  # CEL takes no class of its own
            "WORKLOAD_NAME": workload.name,
            "SERVICE_ACCOUNT": str(workload.service_account),
            "CLUSTER_ID": workload.cluster,
            "LABELS": dict(workload.labels),
        },
        "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
    }


def text(wire: str | None) -> str | None:
    """A wire string (bytes read as latin-1) as a text."""
    if wire is None or wire.isascii():
        return wire
    try:
        return wire.encode("latin-1").decode()
    except UnicodeError:
        return wire


def headers(keys: Sequence[str] | None, of: Callable[[Facts, str], str | None]) -> Value:
    """A map of headers; where ``keys`` are not None just those, which is all that an expression reads."""

    def some(facts: Facts) -> dict[str, str]:
        names = (
            keys if keys is not None else _all_names(facts)
        )  # by the keys as they are spelled: Envoy's map has no case
        found = {name: text(of(facts, name.lower())) for name in names}
        return {
            name: header_shown(name.lower(), value) if facts.hides else value
            for name, value in found.items()
            if value is not None
        }

    return some


def _all_names(facts: Facts) -> Sequence[str]:
    raw = getattr(facts.entry.request, "headers", ())
    return list(dict.fromkeys(name.decode("latin-1").lower() for name, _ in raw))


def request_header(facts: Facts, name: str) -> str | None:
    """``name`` in lower case; Envoy's pseudo headers are among them."""
    if name.startswith(":"):
        known = {":path": facts.entry.path, ":method": facts.entry.method, ":authority": facts.entry.authority,
                 ":scheme": facts.entry.scheme}.get(name)  # fmt: skip
        return None if known is None else known()
    return facts.entry.header(name)


def response_header(facts: Facts, name: str) -> str | None:
    """``name`` in lower case."""
    return facts.entry.response_header(name)


def trailer(facts: Facts, name: str) -> str | None:
    """``name`` in lower case."""
    return facts.entry.trailer(name)


def _request_size(facts: Facts) -> int | None:
    written = facts.entry.header("content-length")
    if written:
        return int(written) if written.isascii() and written.isdigit() else None
    return facts.entry.request_bytes()


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _path(facts: Facts) -> str:
    path = text(facts.entry.path()) or ""
    return without_secrets(path) if facts.hides else path


def _query(facts: Facts) -> str:
    return _path(facts).partition("?")[2].partition("#")[0]


def _referer(facts: Facts) -> str | None:
    url = text(facts.entry.header("referer"))
    return without_secrets(url) if url and facts.hides else url


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{max(seconds, 0.0):.9f}s"


def _flags(facts: Facts) -> int:
    return sum(_BITS.get(flag, 0) for flag in set(facts.entry.flags.split(",")))


def _latency(facts: Facts) -> str | None:
    """None where no byte of a response has come."""
    began, details = facts.entry.sent_at(), facts.entry.details() or ""
    if began is None or details == "response_timeout" or details.startswith(_NO_RESPONSE):
        return None
    return _seconds(facts.entry.ended - began)


_NO_RESPONSE = "upstream_reset_before_response_started"


def _port(address: str | None) -> int | None:
    port = (address or "").rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() and address != port else None


def _service_port(facts: Facts) -> int | None:
    """Envoy's names of clusters have it: ``outbound|9080|v1|reviews...``."""
    parts = (facts.entry.cluster() or "").split("|")
    return int(parts[1]) if facts.outbound and len(parts) > 1 and parts[1].isdigit() else _port(facts.entry.local())


def _mutual(facts: Facts) -> bool:
    return not facts.outbound and bool(getattr(facts.entry.request, "mutual", False))


def _peer(side: str) -> Callable[[Facts], dict[str, object] | None]:
    """The other workload, as the labels of metrics have it."""
    names = {
        "workload": f"{side}_workload",
        "namespace": f"{side}_workload_namespace",
        "cluster": f"{side}_cluster",
        "service": f"{side}_canonical_service",
        "revision": f"{side}_canonical_revision",
        "app": f"{side}_app",
        "version": f"{side}_version",
        "identity": f"{side}_principal",
        "name": f"{side}_workload",
    }

    def found(facts: Facts) -> dict[str, object] | None:
        if facts.outbound != (side == "destination"):
            return None
        known = {key: facts.labels.get(label, "") for key, label in names.items()}
        return {key: value for key, value in known.items() if value and value != "unknown"}

    return found


def _grpc_status(facts: Facts) -> int | None:
    """As Envoy's, also of what is no gRPC: without one it is that which stands for the response's code."""
    entry = facts.entry
    if entry.grpc is not None:
        return entry.grpc
    return grpc_of_http(entry.status) if entry.status else None


VALUES: Mapping[tuple[str, str], Value] = {
    ("request", "path"): lambda f: _path(f) or None,
    ("request", "url_path"): lambda f: _path(f).partition("?")[0],
    ("request", "host"): lambda f: text(f.entry.authority()),
    ("request", "scheme"): lambda f: f.entry.scheme(),
    ("request", "method"): lambda f: f.entry.method(),
    ("request", "referer"): _referer,
    ("request", "useragent"): lambda f: text(f.entry.header("user-agent")),
    ("request", "id"): lambda f: text(f.entry.header("x-request-id")),
    ("request", "time"): lambda f: datetime.fromtimestamp(f.entry.wall, UTC).isoformat().replace("+00:00", "Z"),
    ("request", "protocol"): lambda f: f.entry.protocol(),
    ("request", "query"): _query,
    ("request", "size"): _request_size,
    ("request", "total_size"): lambda f: _sum(f.entry.request_bytes(), f.entry.request_head_bytes()),
    ("request", "headers_bytes"): lambda f: f.entry.request_head_bytes(),
    ("request", "duration"): lambda f: _seconds(f.entry.ended - f.entry.started),
    ("response", "code"): lambda f: f.entry.status or None,
    ("response", "code_details"): lambda f: f.entry.details(),
    ("response", "flags"): _flags,
    ("response", "grpc_status"): _grpc_status,
    ("response", "size"): lambda f: f.entry.response_bytes(),
    ("response", "total_size"): lambda f: _sum(
        f.entry.response_bytes(), f.entry.response_head_bytes(), f.entry.trailer_bytes()
    ),
    ("response", "headers_bytes"): lambda f: f.entry.response_head_bytes(),
    ("response", "backend_latency"): _latency,
    ("source", "address"): lambda f: f.entry.remote(),
    ("source", "port"): lambda f: _port(f.entry.remote()),
    ("destination", "address"): lambda f: f.entry.local(),
    ("destination", "port"): _service_port,
    ("connection", "mtls"): _mutual,
    ("connection", "requested_server_name"): lambda f: f.entry.server_name() or "",
    ("connection", "uri_san_peer_certificate"): lambda f: f.entry.peer_uri(),
    ("upstream", "address"): lambda f: f.entry.upstream(),
    ("upstream", "port"): lambda f: _port(f.entry.upstream()),
    ("upstream", "local_address"): lambda f: f.entry.upstream_local(),
    ("upstream", "transport_failure_reason"): lambda f: f.entry.transport_failure() or "",
    ("upstream", "request_attempt_count"): lambda f: f.entry.attempts() or 0,
    ("xds", "cluster_name"): lambda f: f.entry.cluster(),
    ("xds", "route_name"): lambda f: f.entry.route() or "",
    ("xds", "listener_direction"): lambda f: OUTBOUND if f.outbound else INBOUND,
    ("xds", "node"): lambda f: f.node,
}
"""By object and field; headers, trailers and whole objects are made by those below."""

HEADERS: Mapping[tuple[str, str], Callable[[Facts, str], str | None]] = {
    ("request", "headers"): request_header,
    ("response", "headers"): response_header,
    ("response", "trailers"): trailer,
}
OBJECTS: Mapping[str, Value] = {
    "node": lambda f: f.node,
    "upstream_peer": _peer("destination"),
    "downstream_peer": _peer("source"),
    "filter_state": lambda f: {
        key: found
        for key, side in (("upstream_peer", "destination"), ("downstream_peer", "source"))
        if (found := _peer(side)(f)) is not None
    },
}
