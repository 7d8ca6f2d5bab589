"""What is scraped, in the text formats of Prometheus and of OpenMetrics, piece by piece.

prometheus_client makes one string of a whole registry: with many series that holds an event loop for seconds. Here the series
of our tables are written from their numbers, some at a time, and each piece is ready within a fraction of a millisecond.
Families of other collectors are rendered by prometheus_client, each in one go. The bytes are prometheus_client's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.registry import Collector

PIECE = 1 << 15
"""Characters after which a piece ends."""


class Exposition(NamedTuple):
    """A scrape: its Content-Type, and its bytes, which are made as they are asked for."""

    content_type: str
    pieces: Iterator[bytes]


def exposition(registry: CollectorRegistry | None = None, accept: str = "", names: Sequence[str] = ()) -> Exposition:
    """All metrics of a registry (None: prometheus_client's own), in the format that the ``Accept`` header asks for, as
    prometheus_client would decide: OpenMetrics where it is accepted, else Prometheus' text format. ``names``: only samples of
    these names (the parameter ``name[]`` of a scrape).

    With PROMETHEUS_MULTIPROC_DIR the scrape has the metrics of all processes that write there.

    A collector that raises does so from the piece that it is asked for: whoever has sent none yet responds with an error,
    others break off, so that nobody takes half a scrape for a whole one.
    """
    from prometheus_client import REGISTRY
    from prometheus_client.exposition import choose_encoder

    from meshlib.telemetry.tables import written_elsewhere

    read: Collector = registry or REGISTRY
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and written_elsewhere():
        read = _of_all_processes(folder)
        if names:
            read = _Named(read, frozenset(names))
    elif names:
        read = read.restricted_registry(names)  # type: ignore[attr-defined]  # of every registry
    encode, content_type = choose_encoder(accept)
    return Exposition(
        content_type, _pieces(_text(read, encode, content_type.startswith("application/openmetrics-text")))
    )


def _of_all_processes(folder: str) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    found = CollectorRegistry()
    MultiProcessCollector(found, folder)  # type: ignore[no-untyped-call]
    return found


class _Named:
    """A registry with the samples of some names. (That of prometheus_client finds none where nothing says beforehand what there
    is, as in the files of several processes.)"""

    def __init__(self, registry: Collector, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterable[Metric]:
        from prometheus_client import Metric

        for family in self._registry.collect():
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                found = Metric(family.name, family.documentation, family.type, family.unit)
                found.samples = samples
                yield found


class _One:
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


END = b"# EOF\n"


def _text(registry: Collector, encode: Callable[[_One], bytes], openmetrics: bool) -> Iterator[str]:
    from meshlib.telemetry.table_families import TableFamily

    for family in registry.collect():
        if isinstance(family, TableFamily):
            yield from family.text(openmetrics)
        else:
            text = encode(_One(family))
            yield (text.removesuffix(END) if openmetrics else text).decode()
    if openmetrics:
        yield END.decode()


def _pieces(texts: Iterator[str]) -> Iterator[bytes]:
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(held).encode()
            held.clear()
            size = 0
    if held:
        yield "".join(held).encode()
