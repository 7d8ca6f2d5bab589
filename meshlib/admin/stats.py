"""``/stats``: what is counted, as lines; ``/stats/prometheus``: the metrics of the mesh's registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.admin.page import JSON, TEXT, Page, json_list
from meshlib.telemetry.exposition import exposition

if TYPE_CHECKING:
    from meshlib.admin.seen import Seen


def stats_page(seen: Seen, *, as_json: bool) -> Page:
    """The numbers of ``mesh.status()``, each a line: ``path: value``, as in Envoy's page of that name."""
    numbers = _numbers("", _without_lists(seen.status()))
    if as_json:
        items = ({"name": name, "value": value} for name, value in numbers)
        return Page(json_list('{"stats": [', items, "]}\n"), JSON)
    return Page((f"{name}: {value}\n".encode() for name, value in numbers), TEXT)


def prometheus_page(seen: Seen, accept: str = "") -> Page:
    """The text format of Prometheus, or of OpenMetrics where ``accept`` asks for it; made piece by piece."""
    found = exposition(seen.registry, accept)
    return Page(found.pieces, found.content_type)


def _without_lists(status: Mapping[str, object]) -> dict[str, object]:
    """Clusters by name, so that their numbers have one."""
    found = {name: value for name, value in status.items() if name != "problems"}
    clusters = found.pop("clusters", ())
    if isinstance(clusters, Sequence):
        found["cluster"] = {
            each["name"]: {name: value for name, value in each.items() if name not in ("name", "port", "events")}
            for each in clusters
        }
    return found


def _numbers(before: str, value: object) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, bool):
        yield before, int(value)
    elif isinstance(value, int | float):
        yield before, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(f"{before}.{name}" if before else str(name), inner)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for number, inner in enumerate(value):
            at = str(inner.get("address", number)) if isinstance(inner, Mapping) else str(number)
            yield from _numbers(f"{before}.{at}" if before else at, inner)
