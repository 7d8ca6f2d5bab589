"""What is wrong with the address that a call names, in a sentence: for explain, and for the error of a call that failed by it.

Nothing here is asked on the way of a call that succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.compiler.snapshot import split_authority
from meshlib.engine.outcome import Failure, Outcome
from meshlib.registry.lack import UNDEFINED, no_endpoints
from meshlib.registry.names import resolve

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.call import Call

UNREGISTERED = "the host is not in the registry"
_NOT_CONNECTED = (Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT)
_PLAIN = frozenset(("http", "http2", "grpc", "grpc-web"))
_SHOWN = 3
HTTP_PORT = 80
"""Of the hosts that VirtualServices alone have."""
SPEAKS_NO_TLS = "does not speak TLS: it responds in plain text"
_NO_TLS = (SPEAKS_NO_TLS, "WRONG_VERSION_NUMBER")
"""What is said of handshakes with servers that speak none, the latter by gRPC's core."""


def why_unknown(snapshot: Snapshot, dialled: str, scheme: str) -> str:
    """Why what a URL names is outside the mesh: the port is not one of its own, the host is of another namespace, or this
    client does not see it at all."""
    near = _near(snapshot, dialled, scheme)
    if near:
        return near
    said = f"{UNREGISTERED}, or {snapshot.sidecar} does not show it" if snapshot.sidecar else UNREGISTERED
    return "; ".join(filter(None, (said, _meant_in_full(snapshot, dialled))))


def _near(snapshot: Snapshot, dialled: str, scheme: str) -> str:
    """What there is that has nearly this address; "" when nothing has."""
    name, port = split_authority(dialled)
    tables = snapshot.tls_ports if scheme == "https" else snapshot.ports
    known = sorted(number for number, table in tables.items() if _is_known(snapshot, table.find(name)))
    if known:
        port = port or (443 if scheme == "https" else 80)
        return f"{name} has port{'s' * (len(known) > 1)} {', '.join(map(str, known))}, not {port}"
    if "." in name or not name:
        return ""
    own = snapshot.workload.namespace
    namespaces = sorted(
        {
            found.split(".")[1]
            for table in tables.values()
            for found in table.names
            if found.startswith(f"{name}.") and found.split(".", 3)[2:3] == ["svc"]
        }
    )
    if not namespaces or own in namespaces:
        return ""
    more = f" and {len(namespaces) - _SHOWN} more" if len(namespaces) > _SHOWN else ""
    first = namespaces[0]
    return (
        f"{name} exists in {', '.join(namespaces[:_SHOWN])}{more}; did you forget -n {first}? (this workload is in {own}: "
        f"Workload(namespace={first!r}), or write {name}.{first})"
    )


def _meant_in_full(snapshot: Snapshot, dialled: str) -> str:
    """Of a short name for which a VirtualService has rules, and which no service has: istiod gives short forms to services
    alone. "" of others."""
    name = split_authority(dialled)[0]
    host = resolve(name, snapshot.workload.namespace)
    brought = snapshot.ports[HTTP_PORT].names.get(host) if HTTP_PORT in snapshot.ports else None
    if host == name or brought is None or brought.registered or not brought.resource:
        return ""
    return (
        f"the rules of {brought.resource} are, as in Istio, for requests to exactly {host} on port {HTTP_PORT} "
        f"until a Service or ServiceEntry defines it"
    )


def lack_of_unknown(snapshot: Snapshot, dialled: str) -> str:
    """Of a host outside the mesh that a VirtualService or DestinationRule names: nothing says where it is. "" of others."""
    name, port = split_authority(dialled)
    namespace = snapshot.workload.namespace
    host = resolve(name, namespace)
    if host not in snapshot.named or _is_defined(snapshot, host):
        return ""
    brought = snapshot.ports[HTTP_PORT].names.get(host) if HTTP_PORT in snapshot.ports else None
    for rule in brought.rules if brought is not None else ():
        for destination in rule.destinations:
            if destination.host == host and destination.lack is not None:
                return str(destination.lack)  # which may name a subset
    return str(no_endpoints(host, namespace, UNDEFINED, port=port))


def _is_defined(snapshot: Snapshot, host: str) -> bool:
    tables = (*snapshot.ports.values(), *snapshot.tls_ports.values())
    return any((vhost := table.names.get(host)) is not None and vhost.registered for table in tables)


def _is_known(snapshot: Snapshot, vhost: VirtualHost | None) -> bool:
    return vhost is not None and not snapshot.is_unknown(vhost)


def takes_no_tls(cluster: Cluster, dialled: str, scheme: str) -> str:
    """Of an https URL that leads to a port which is declared to be plain text: that sentence; "" of others."""
    if (
        scheme != "https"
        or cluster.protocol not in _PLAIN
        or cluster.tls is not None
        or cluster.resolution == "passthrough"
    ):
        return ""
    name = split_authority(dialled)[0]
    return (
        f"port {cluster.port} of {name} takes plain text (its protocol is {cluster.protocol}), not TLS: write "
        f"http://{name}:{cluster.port}, or declare the port https"
    )


def connect_detail(outcome: Outcome, call: Call) -> str:
    """The detail of a call's failure, with what is wrong with its address where that is why it made no connection."""
    detail = outcome.detail
    if outcome.failure not in _NOT_CONNECTED:
        return detail
    record, request, snapshot = call.record, call.request, call.live.snapshot
    if snapshot.is_unknown(record.virtual_host):
        near = _near(snapshot, request.dialled, request.scheme)
        if not near:
            lack, full = lack_of_unknown(snapshot, request.dialled), _meant_in_full(snapshot, request.dialled)
            near = "; ".join(filter(None, (lack, full)))
            record.add_details({"lack": near})
        return "; ".join(filter(None, (detail, near)))
    destination = record.destination
    cluster = snapshot.clusters.get(destination.cluster) if destination is not None else None
    if cluster is None or not any(said in detail for said in _NO_TLS):
        return detail
    return takes_no_tls(cluster, request.dialled, request.scheme) or detail
