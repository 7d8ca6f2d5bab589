"""The first step of every call: virtual host and rule, as an ``Exchange`` that the exchange goes on to fill."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.snapshot import split_authority
from meshlib.engine.explanation import Exchange

if TYPE_CHECKING:
    from meshlib.compiler.routes import PortTable, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.live import Live
    from meshlib.policy.http_match import RequestView

MOST_KINDS = 1024
"""Kinds of requests whose rules are remembered."""
MOST_HOSTS = 4096


def route(snapshot: Snapshot, view: RequestView) -> Exchange:
    """Which rule the request takes (``rule_object`` None: none matches)."""
    vhost = snapshot.seen.get((view.dialled, view.authority, view.scheme)) or snapshot.virtual_host(
        view.dialled, view.scheme, view.authority
    )
    rule = vhost.single
    if rule is None:
        found = vhost.index.find(view)
        if found >= 0:
            rule = vhost.rules[found]
    return Exchange(vhost, rule, snapshot.version)


def route_again(live: Live, view: RequestView, alike: object, varying: str) -> Exchange:
    """``route`` of a request that differs from all others of the kind ``alike`` in nothing that rules can look at, except
    for the header ``varying``: which rule they take is looked up once."""
    found = live.taken.get(alike)
    if found is None:
        record = route(live.snapshot, view)
        vhost = record.virtual_host
        if vhost.single is not None or not vhost.index.reads(varying):
            if len(live.taken) >= MOST_KINDS:
                live.taken.clear()
            live.taken[alike] = vhost, record.rule_object, record.version
        return record
    return Exchange(*found)


def route_connection(snapshot: Snapshot, authority: str) -> Exchange:
    """Where a connection goes whose bytes nobody reads: to ``authority``, a host and port, as a sidecar forwards one whose
    server name (SNI) is that host. Needs a snapshot of ``https_rules="istio"``. HTTP that is told apart by its requests is
    none of them: its ports know no such connection, and it is as one to outside the mesh."""
    vhost = snapshot.virtual_host(authority, "https")
    if not (vhost.tcp or snapshot.is_unknown(vhost)):
        vhost = snapshot.passthrough if snapshot.allow_any else snapshot.blocked
    return Exchange(vhost, vhost.single or next(iter(vhost.rules), None), snapshot.version)


def route_in(table: PortTable | None, snapshot: Snapshot, view: RequestView) -> Exchange:
    """Which rule of these virtual hosts the request takes, its Host's port ignored. A host that is none of them, as all are to
    no table, is served by nobody. A final dot is a part of the name here, as in Envoy: a gateway gets no routes with it from
    istiod, as sidecars do."""
    vhost = host_in(table, view.authority)
    if vhost is None:
        return Exchange(snapshot.passthrough, None, snapshot.version)
    rule = vhost.single
    if rule is None:
        found = vhost.index.find(view)
        if found >= 0:
            rule = vhost.rules[found]
    return Exchange(vhost, rule, snapshot.version)


def host_in(table: PortTable | None, authority: str) -> VirtualHost | None:
    """The virtual host of ``route_in``."""
    return None if table is None else table.find(_host_of(authority))


def straight(snapshot: Snapshot, path: VirtualHost) -> Exchange:
    """The one rule of a virtual host that was compiled for a call of the mesh's own. Where a reload has taken its cluster away
    meanwhile, there is none."""
    rule = path.rules[0]
    destination = rule.destinations[0]
    if destination.cluster and destination.cluster not in snapshot.clusters:
        rule = replace(rule, destinations=(replace(destination, cluster="", missing="a reload has taken it away"),))
    return Exchange(path, rule, snapshot.version)


@functools.lru_cache(MOST_HOSTS)
def _host_of(authority: str) -> str:
    name = split_authority(authority)[0]
    return f"{name}." if authority.partition(":")[0][-1:] == "." else name
