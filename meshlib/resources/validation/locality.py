"""Localities of a DestinationRule: ``localityLbSetting`` and ``zoneAwareLbSetting``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import LocalityLbSetting, ZoneAwareLbSetting

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def locality_setting(setting: LocalityLbSetting | None, loc: Loc) -> Iterator[Notice]:
    """Either shares or failover; shares of 100 in all, for places that do not overlap."""
    if setting is None:
        return
    if setting.distribute and setting.failover:
        yield refused(
            "several-localities", (*loc, "failover"), "localityLbSetting has either distribute or failover", "keep one"
        )
        return
    if setting.failover and any(label in _TOPOLOGY for label in setting.failover_priority or ()):
        yield refused(
            "several-localities",
            (*loc, "failoverPriority"),
            "failover says where to go by region, and failoverPriority names labels of the topology",
            "keep one of them",
        )
        return
    for index, share in enumerate(setting.distribute or ()):
        yield from _shares(share.to or {}, (*loc, "distribute", index, "to"))
    yield from _distinct([share.from_ or "" for share in setting.distribute or ()], (*loc, "distribute"))
    yield from _failover(setting, loc)


def zone_aware_setting(setting: ZoneAwareLbSetting | None, loc: Loc) -> Iterator[Notice]:
    """Failover between regions; zones are Envoy's own business."""
    if setting is None:
        return
    for index, label in enumerate(setting.failover_priority or ()):
        if label in _TOPOLOGY:
            yield refused(
                "failover-label",
                (*loc, "failoverPriority", index),
                f"zoneAwareLbSetting goes by {label} already",
                "leave it out",
            )
    yield from _failover(setting, loc)


def _failover(setting: LocalityLbSetting | ZoneAwareLbSetting, loc: Loc) -> Iterator[Notice]:
    for index, step in enumerate(setting.failover or ()):
        there = (*loc, "failover", index)
        source, target = step.from_ or "", step.to or ""
        if source == target:
            yield refused(
                "failover-to-itself", there, f"failover goes from {source!r} to itself", "name another region"
            )
        for region in (source, target):
            if "/" in region or "*" in region:
                yield refused(
                    "failover-region",
                    there,
                    f"{region!r} is not a region",
                    "failover supports regions only, such as us-east",
                )


def _shares(to: dict[str, int], loc: Loc) -> Iterator[Notice]:
    total = sum(to.values())
    if total != 100 or not all(1 <= share <= 100 for share in to.values()):
        yield refused(
            "locality-weights",
            loc,
            f"the weights of distribute add up to {total}; they are 1..100 each and 100 together",
            "for example us-west/*: 80 and us-east/*: 20",
        )
        return
    yield from _distinct(sorted(to), loc)


def _distinct(localities: Sequence[str], loc: Loc) -> Iterator[Notice]:
    """``region``, ``region/zone``, ``region/zone/subzone``, with a * at the end at most; none within another."""
    seen: dict[str, dict[str, set[str]]] = {}
    for locality in localities:
        if "*" in locality and (locality.count("*") > 1 or not locality.endswith("*")):
            yield refused("bad-locality", loc, f"{locality!r} has a * that is not at its end", "for example us-west/*")
            return
        region, _, rest = locality.partition("/")
        zone, _, subzone = rest.partition("/")
        if "" in locality.split("/", 2):
            yield refused("bad-locality", loc, f"{locality!r} has an empty part", "write region/zone/subzone")
            return
        zones = seen.get(region)
        if "*" in seen or (zones is not None and (not zone or "*" in zones or _within(zones.get(zone), subzone))):
            yield refused("locality-overlap", loc, f"{locality!r} overlaps with one before it", "name each place once")
            return
        if not zone:
            seen[region] = {"*": {"*"}}
        else:
            seen.setdefault(region, {}).setdefault(zone, set()).add(subzone or "*")


def _within(subzones: set[str] | None, subzone: str) -> bool:
    return subzones is not None and (not subzone or "*" in subzones or subzone in subzones)
