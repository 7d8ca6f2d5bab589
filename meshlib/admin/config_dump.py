"""``/config_dump``: the configuration in force, in the shape of Envoy's page of that name, and the resources it was made of.

It is written piece by piece: a mesh of ten thousand services has a dump of a hundred megabytes.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from meshlib.admin.dumped_clusters import cluster, endpoints
from meshlib.admin.dumped_routes import virtual_hosts
from meshlib.admin.page import JSON, Page
from meshlib.admin.redacted import redacted

if TYPE_CHECKING:
    from meshlib.admin.seen import Seen
    from meshlib.compiler.routes import PortTable
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.resources.base import Resource

ENVOY = "type.googleapis.com/envoy.admin.v3."
OURS = "meshlib.dev/v1."
REDACTED = base64.b64encode(b"[redacted]").decode()
"""What Envoy shows of a private key."""


def config_dump_page(seen: Seen) -> Page:
    """Of the snapshot that calls are made with now."""
    return Page(_pieces(seen), JSON)


def _pieces(seen: Seen) -> Iterator[bytes]:
    live = seen.core.live
    yield b'{"configs": [\n'
    yield _text({"@type": f"{ENVOY}BootstrapConfigDump", "bootstrap": {"node": _node(seen)}})
    if live is not None:
        snapshot = live.snapshot
        clusters = snapshot.clusters.values()
        version = snapshot.version
        yield from _list(
            "ClustersConfigDump",
            "dynamic_active_clusters",
            ({"version_info": version, "cluster": {"@type": _CLUSTER, **cluster(spec)}} for spec in clusters),
            version,
        )
        yield from _list(
            "EndpointsConfigDump",
            "dynamic_endpoint_configs",
            (
                {"version_info": version, "endpoint_config": {"@type": _ASSIGNMENT, **endpoints(spec)}}
                for spec in clusters
                if spec.resolution != "passthrough"
            ),
        )
        yield from _routes(snapshot)
        yield b",\n" + _text({"@type": f"{ENVOY}SecretsConfigDump", "dynamic_active_secrets": _secrets(seen)})
        yield b",\n" + _text({"@type": f"{OURS}InboundDump", **seen.status().get("inbound", {})})
        yield from _list(f"{OURS}ResourcesDump", "resources", map(_resource, seen.resources), version, ours=True)
    yield b"]}\n"


_CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def _list(kind: str, name: str, items: Iterable[object], version: str = "", *, ours: bool = False) -> Iterator[bytes]:
    head = {"@type": kind if ours else f"{ENVOY}{kind}", **({"version_info": version} if version else {})}
    yield f",\n{json.dumps(head)[:-1]}, {json.dumps(name)}: [".encode()
    for number, item in enumerate(items):
        yield (b",\n" if number else b"\n") + _text(item)
    yield b"]}"


def _routes(snapshot: Snapshot) -> Iterator[bytes]:
    """A route configuration for each port, named as istiod names them; where https URLs go otherwise, another."""
    tables = [(str(port), table) for port, table in snapshot.ports.items()]
    tables += [
        (f"https:{port}", table) for port, table in snapshot.tls_ports.items() if table is not snapshot.ports.get(port)
    ]
    yield f',\n{{"@type": "{ENVOY}RoutesConfigDump", "dynamic_route_configs": ['.encode()
    for number, (name, table) in enumerate(tables):
        yield b"," if number else b""
        yield from _route_config(name, table, snapshot.version)
    yield b"]}"


def _route_config(name: str, table: PortTable, version: str) -> Iterator[bytes]:
    head = {"@type": _ROUTES, "name": name}
    yield f'\n{{"version_info": {json.dumps(version)}, "route_config": {json.dumps(head)[:-1]}, "virtual_hosts": ['.encode()
    for number, host in enumerate(virtual_hosts(table)):
        yield (b",\n" if number else b"\n") + _text(host)
    yield b"]}}"


def _secrets(seen: Seen) -> list[dict[str, Any]]:
    identity = seen.core.identity
    current = None if identity is None else identity.latest
    if current is None:
        return []
    svid = current.svid
    chain, roots = base64.b64encode(svid.chain_pem).decode(), base64.b64encode(current.bundles.pem.encode()).decode()
    shown = {"certificate_chain": {"inline_bytes": chain}, "private_key": {"inline_bytes": REDACTED}}
    issued = datetime.datetime.fromtimestamp(svid.not_before, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    common = {"version_info": str(current.version), "last_updated": issued}
    return [
        {"name": "default", **common, "secret": {"@type": _SECRET, "name": "default", "tls_certificate": shown}},
        {
            "name": "ROOTCA",
            **common,
            "secret": {
                "@type": _SECRET,
                "name": "ROOTCA",
                "validation_context": {"trusted_ca": {"inline_bytes": roots}},
            },
        },
    ]


def _node(seen: Seen) -> dict[str, Any]:
    workload = seen.workload
    metadata = {"NAME": workload.name, "NAMESPACE": workload.namespace, "LABELS": dict(workload.labels)}
    return {"id": f"meshlib~{workload.name}.{workload.namespace}", "cluster": workload.cluster, "metadata": metadata}


def _resource(resource: Resource) -> dict[str, Any]:
    origin = resource.origin
    return {
        "id": resource.id,
        "file": f"{origin.file}:{origin.line}" if origin.line else origin.file,
        "resource": redacted(resource.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)),
    }


def _text(value: object) -> bytes:
    return json.dumps(value).encode("ascii")
