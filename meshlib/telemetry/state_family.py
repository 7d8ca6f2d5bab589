"""A family of state metrics as a scrape has it: its rows are made when they are rendered, some at a time, so that those of a
thousand clusters hold nobody. Imports prometheus_client: for scrapes only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from prometheus_client.samples import Sample

from meshlib.telemetry.table_families import LabelText, TableFamily, Written, as_text

Rows = Callable[[], Iterable[tuple[tuple[str, ...], float]]]
"""Values of labels, and a number."""


class StateFamily(TableFamily):
    """``name`` is as samples have it: a counter's ends in ``_total``. ``others`` are rows with labels of other names."""

    def __init__(
        self,
        name: str,
        documentation: str,
        kind: str,
        names: Sequence[str],
        rows: Rows,
        others: Sequence[tuple[Sequence[str], Rows]] = (),
    ) -> None:
        super().__init__(name.removesuffix("_total") if kind == "counter" else name, documentation, kind, names, False)
        self._name = name
        self._rows = rows
        self._groups = ((names, rows), *others)

    @property
    def has_rows(self) -> bool:
        """Whether there is anything to show."""
        return next(iter(self._rows()), None) is not None

    def _samples(self) -> Iterable[Sample]:
        for names, rows in self._groups:
            for values, number in rows():
                yield Sample(self._name, dict(zip(names, values, strict=True)), number)

    def _written(self, openmetrics: bool) -> Iterator[Written]:
        name = self._name
        for names, rows in self._groups:
            text_of = LabelText(names)
            for values, number in rows():
                before, after = text_of.around(values, "")
                yield Written(f"{name}{{{before or after}}} {as_text(number)}\n", "")


def chained(rows: Iterable[Rows]) -> Rows:
    """Those of several meshes."""
    kept = tuple(rows)
    return lambda: chain.from_iterable(each() for each in kept)
