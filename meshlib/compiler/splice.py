"""One snapshot out of another: a part of it, compiled as it was and as it is now, taken out and put in.

What a part gives for other hosts than its own is left alone. Where names meet those of other hosts, ``NotApart`` is raised: who
gets them is a matter of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from meshlib.changes import Dependents
from meshlib.compiler.routes import PortTable
from meshlib.pace import take_turns

if TYPE_CHECKING:
    from meshlib.compiler.resilience import Resilience
    from meshlib.compiler.routes import Cluster, Destination, L4Host, VirtualHost
    from meshlib.compiler.snapshot import Snapshot

V = TypeVar("V")


class NotApart(Exception):
    """The part does not stand apart from the rest."""


class Leads:
    """Where virtual hosts lead: ``uses`` counts by cluster the virtual hosts (and tls and tcp rules) that have it as a
    destination; ``readers`` tells from a host whose rules lead there. Kept from one snapshot to the next."""

    def __init__(self) -> None:
        self.uses: Counter[str] = Counter()
        self.readers: Dependents[str, str] = Dependents()

    def add(
        self,
        ports: Mapping[int, PortTable],
        tls_ports: Mapping[int, PortTable],
        l4: Mapping[tuple[str, int], L4Host],
        hosts: Collection[str] | None = None,
    ) -> None:
        """What these have for some hosts (None: for all)."""
        read: dict[str, dict[str, None]] = {}
        for host, destinations in _destinations(ports, tls_ports, l4, hosts):
            take_turns()
            for cluster in {d.cluster for d in destinations if d.cluster}:
                self.uses[cluster] += 1
            for other in {d.host for d in destinations}:
                if other != host:
                    read.setdefault(host, {})[other] = None
        for host in read if hosts is None else hosts:
            self.readers.read(host, read.get(host, ()))

    def remove(self, snapshot: Snapshot, hosts: Collection[str]) -> set[str]:
        """The opposite; gives the clusters that nothing leads to any more."""
        gone = set()
        for _, destinations in _destinations(snapshot.ports, snapshot.tls_ports, snapshot.l4, hosts):
            for cluster in {d.cluster for d in destinations if d.cluster}:
                self.uses[cluster] -= 1
                if not self.uses[cluster]:
                    del self.uses[cluster]
                    gone.add(cluster)
        return gone


def _destinations(
    ports: Mapping[int, PortTable],
    tls_ports: Mapping[int, PortTable],
    l4: Mapping[tuple[str, int], L4Host],
    hosts: Collection[str] | None,
) -> Iterator[tuple[str, list[Destination]]]:
    """(host, all that its virtual host, or its tls and tcp rules, lead to)."""
    seen: set[int] = set()
    for tables in (ports, tls_ports):
        for table in tables.values():
            for vhost in table.virtual_hosts():
                if id(vhost) in seen or (hosts is not None and vhost.host not in hosts):
                    continue
                seen.add(id(vhost))
                targets = [d for rule in vhost.rules for d in rule.destinations]
                yield vhost.host, targets + [m.destination for rule in vhost.rules for m in rule.mirrors]
    for (host, _), found in l4.items():
        if hosts is None or host in hosts:
            yield host, [d for rule in (*found.tls, *found.tcp) for d in rule.destinations]


def fallback_clusters(policies: Mapping[str, Resilience]) -> set[str]:
    """The clusters that fallbacks lead to."""
    fallbacks = [policy.fallback for policy in policies.values() if policy.fallback is not None]
    return {f.destination.cluster for f in fallbacks if f.destination is not None and f.destination.cluster}


def tables(
    last: Mapping[int, PortTable],
    before: Mapping[int, PortTable],
    now: Mapping[int, PortTable],
    hosts: Collection[str],
    unknown: Iterable[VirtualHost],
    contested: Collection[str],
) -> dict[int, PortTable]:
    """``last`` without what ``before`` has for the hosts, and with what ``now`` has. ``unknown``: what names outside the mesh
    get; ``contested``: names that more than one host could have had."""
    made = dict(last)
    strangers = set(map(id, unknown))
    for port in before.keys() | now.keys():
        old, new, there = before.get(port), now.get(port), last.get(port)
        if any(table is not None and table.rest is not None for table in (old, new, there)):
            raise NotApart(f"connections to port {port} that nothing else tells apart")
        both = []
        for kind in ("names", "wildcards"):
            out, in_ = (
                {} if table is None else _of_hosts(getattr(table, kind), hosts, strangers) for table in (old, new)
            )
            both.append(_replaced({} if there is None else getattr(there, kind), out, in_, hosts, contested))
        if there is not None and both[0] is there.names and both[1] is there.wildcards:
            continue
        made[port] = PortTable(both[0], both[1])
    return made


def _of_hosts(names: Mapping[str, VirtualHost], hosts: Collection[str], strangers: set[int]) -> dict[str, VirtualHost]:
    if any(id(vhost) in strangers for vhost in names.values()):
        raise NotApart("names that are there and outside the mesh")
    return {name: vhost for name, vhost in names.items() if vhost.host in hosts}


def _replaced(
    there: Mapping[str, VirtualHost],
    out: Mapping[str, VirtualHost],
    in_: Mapping[str, VirtualHost],
    hosts: Collection[str],
    contested: Collection[str],
) -> Mapping[str, VirtualHost]:
    if not out and not in_:
        return there
    made = dict(there)
    for name in (*out, *in_):
        owner = there.get(name)
        if name in contested or (owner is not None and owner.host not in hosts):
            raise NotApart(f"the name {name}")
    for name in out:
        made.pop(name, None)
    made.update(in_)
    return made


def clusters(
    last: Snapshot, now: Snapshot, leads: Leads, gone: Iterable[str], touched: Collection[str]
) -> dict[str, Cluster]:
    """The clusters of ``last`` without those that are ``gone``, and with those of ``now`` that something leads to. Of hosts
    that are not ``touched`` they stay as they are."""
    made = dict(last.clusters)
    for key in gone:
        if key not in leads.uses:
            made.pop(key, None)
    for key, cluster in now.clusters.items():
        if key in leads.uses and (cluster.host in touched or key not in made):
            old = last.clusters.get(key)
            made[key] = old if old is not None and old.same_as(cluster) else cluster
    return made


def by_host(
    last: Mapping[tuple[str, int], V],
    before: Mapping[tuple[str, int], V],
    now: Mapping[tuple[str, int], V],
    hosts: Collection[str],
) -> Mapping[tuple[str, int], V]:
    """A map by host and port: without those of ``before``, with those of ``now``."""
    out = [key for key in before if key[0] in hosts]
    in_ = {key: value for key, value in now.items() if key[0] in hosts}
    if not out and not in_:
        return last
    made = dict(last)
    for key in out:
        made.pop(key, None)
    made.update(in_)
    return made
