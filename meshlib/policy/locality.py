"""Locality (DestinationRule ``loadBalancer.localityLbSetting``): which priority and which share an endpoint's place gives it.

Istio's rules: ``distribute`` gives weights to places and leaves out the others; else, when outlier detection can tell
that a place is bad, near endpoints go before far ones (``failover`` names the region that is next), and
``failoverPriority`` counts how many labels, in order, an endpoint shares with the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
SUBZONE_LABEL = "topology.istio.io/subzone"
NETWORK_LABEL = "topology.istio.io/network"


@dataclass(frozen=True, slots=True)
class LocalitySettings:
    """``distribute``: (from, ((to, weight), ...)); ``failover``: (from region, to region); ``failover_priority``: labels,
    or ``label=value`` where the value replaces the client's own."""

    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is, and what it weighs."""

    locality: str  # region/zone/subzone
    labels: Mapping[str, str]
    weight: int = 1
    network: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """For each endpoint its priority (0 first) and its group, one group a locality and priority; None: left out.
    ``weights`` by group."""

    priorities: tuple[int | None, ...]
    groups: tuple[int, ...]
    weights: tuple[float, ...]

    def of(self, position: int) -> tuple[int, int]:
        """Priority and group of an endpoint that is not left out."""
        return self.priorities[position] or 0, self.groups[position]


def place(
    endpoints: Sequence[Place],
    client: Place,
    settings: LocalitySettings | None,
    failover: bool,
) -> Placement:
    """Priorities and groups of a cluster's endpoints as ``client`` sees them. ``settings`` None: locality is turned off;
    ``failover``: whether endpoints may go into other priorities at all (outlier detection is on)."""
    shares: dict[str, float] | None = None
    priorities: list[int | None] = [0] * len(endpoints)
    if settings is not None:
        if settings.distribute:
            shares = _shares(endpoints, client, settings.distribute)
            if shares is not None:
                priorities = [0 if e.locality in shares else None for e in endpoints]
        elif failover:
            priorities = list(_compacted(_ranks(endpoints, client, settings)))
    keys: dict[tuple[int, str], int] = {}
    groups = []
    weights: list[float] = []
    for endpoint, priority in zip(endpoints, priorities, strict=True):
        key = (priority or 0, endpoint.locality if settings is not None else "")
        if key not in keys:
            keys[key] = len(weights)
            weights.append(0.0)
        groups.append(keys[key])
        if shares is None:
            weights[keys[key]] += endpoint.weight
        else:
            weights[keys[key]] = shares.get(endpoint.locality, 0.0)
    return Placement(tuple(priorities), tuple(groups), tuple(weights))


def covers(pattern: str, locality: str) -> bool:
    """Whether ``region/zone/subzone``, any part of which may be ``*`` or left out from the right, names this locality."""
    wanted, have = _split(pattern), _split(locality)
    if wanted[0] not in ("*", have[0]):
        return False
    return all(want in ("*", "", part) for want, part in zip(wanted[1:], have[1:], strict=True))


def _split(locality: str) -> tuple[str, str, str]:
    parts = [*locality.split("/"), "", ""]
    return parts[0], parts[1], parts[2]


def _shares(
    endpoints: Sequence[Place], client: Place, distribute: Sequence[tuple[str, tuple[tuple[str, int], ...]]]
) -> dict[str, float] | None:
    """Weight by locality: of the first ``from`` that names the client. A ``to`` that covers several localities is shared
    out by the weight of their endpoints. None: no ``from`` is about this client."""
    for source, targets in distribute:
        if not covers(source, client.locality):
            continue
        sizes: dict[str, float] = {}
        for endpoint in endpoints:
            sizes[endpoint.locality] = sizes.get(endpoint.locality, 0.0) + endpoint.weight
        left = dict(sizes)
        shares: dict[str, float] = {}
        for pattern, weight in targets:
            matched = [locality for locality in left if covers(pattern, locality)]
            total = sum(left[locality] for locality in matched)
            for locality in matched:
                shares[locality] = weight * left.pop(locality) / total
        return shares
    return None


def _ranks(endpoints: Sequence[Place], client: Place, settings: LocalitySettings) -> list[int]:
    by_labels = [_label_rank(e, client, settings.failover_priority) for e in endpoints]
    if settings.failover_priority and not settings.failover:
        return by_labels
    by_place = [_place_rank(e.locality, client.locality, settings.failover) for e in endpoints]
    return [5 * labels + place for labels, place in zip(by_labels, by_place, strict=True)]


def _place_rank(locality: str, client: str, failover: Sequence[tuple[str, str]]) -> int:
    there, here = _split(locality), _split(client)
    if there[0] == here[0]:
        return 2 if there[1] != here[1] else 1 if there[2] != here[2] else 0
    for source, target in failover:
        if source == here[0]:
            return 3 if there[0] == target else 4
    return 3


def _label_rank(endpoint: Place, client: Place, priority: Sequence[str]) -> int:
    for position, label in enumerate(priority):
        name, given, value = label.partition("=")
        wanted = value if given else _label(client, name)
        if wanted is None or _label(endpoint, name) != wanted:
            return len(priority) - position
    return 0


def _label(place: Place, name: str) -> str | None:
    """A label; those of topology may also come from where the endpoint is."""
    found = place.labels.get(name)
    if found is not None:
        return found
    if name == NETWORK_LABEL:
        return place.network or None
    for position, topology in enumerate((REGION_LABEL, ZONE_LABEL, SUBZONE_LABEL)):
        if name == topology:
            return _split(place.locality)[position] or None
    return None


def _compacted(ranks: Sequence[int]) -> list[int]:
    """The same order without gaps: 0, 1, 2 ..."""
    order = {rank: position for position, rank in enumerate(sorted(set(ranks)))}
    return [order[rank] for rank in ranks]
