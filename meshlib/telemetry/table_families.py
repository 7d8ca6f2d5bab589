"""Families of our tables, as prometheus_client's collectors return them: samples for whoever reads those, and the text of the
exposition formats made straight from the numbers, which costs a fraction of what formatting samples does (row scrape of the
benchmarks). Imports prometheus_client: for scrapes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from prometheus_client import Metric
from prometheus_client.samples import Exemplar as ClientsExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
Exemplar = tuple[Mapping[str, str], float, float]
"""Labels (a trace's id), the value observed, and when (seconds since 1970)."""
as_text: Callable[[float], str] = floatToGoString
EXACT = 999_999
"""The largest whole number that is written with all its digits."""


class Counted(Protocol):
    """A series that counts."""

    began: float
    """Seconds since 1970."""

    def counted(self) -> float: ...


class Observed(Counted, Protocol):
    """A series of a histogram."""

    def read(self) -> tuple[list[int], float, list[Exemplar | None] | None]: ...


class Written(NamedTuple):
    """One series as text."""

    samples: str
    created: str
    """The sample that says when it began, "" when it is not shown. Prometheus' text format has those of a family at its end."""


class TableFamily(Metric):
    """A family whose samples are made when somebody reads them. ``created``: they say when their series began."""

    def __init__(self, name: str, documentation: str, kind: str, names: Sequence[str], created: bool) -> None:
        self._made: list[Sample] | None = None
        super().__init__(name, documentation, kind)
        self._names = names
        self._created = created

    @property
    def samples(self) -> list[Sample]:  # an attribute there
        """All samples of the family, as of the first time that somebody asks."""
        if self._made is None:
            self._made = list(self._samples())
        return self._made

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self._made = samples or None

    def text(self, openmetrics: bool) -> Iterator[str]:
        """The family in OpenMetrics or in Prometheus' text format, a few lines at a time."""
        name, documentation = self.name, self.documentation.replace("\\", "\\\\").replace("\n", "\\n")
        shown = f"{name}_total" if self.type == "counter" and not openmetrics else name
        if openmetrics:
            documentation = documentation.replace('"', '\\"')
        kind = "untyped" if self.type == "unknown" and not openmetrics else self.type
        yield f"# HELP {shown} {documentation}\n# TYPE {shown} {kind}\n"
        last: list[str] = []
        for samples, created in self._written(openmetrics):
            yield samples
            if openmetrics:
                yield created
            elif created:
                last.append(created)
        if last:
            yield f"# HELP {name}_created {documentation}\n# TYPE {name}_created gauge\n"
            yield from last

    def _samples(self) -> Iterable[Sample]:
        raise NotImplementedError

    def _written(self, openmetrics: bool) -> Iterator[Written]:
        raise NotImplementedError


class CountFamily(TableFamily):
    """A counter. ``others`` are series with labels of other names (tags that were added or removed)."""

    def __init__(
        self,
        name: str,
        documentation: str,
        names: Sequence[str],
        series: Iterable[tuple[Labels, Counted]],
        created: bool,
        others: Sequence[tuple[Labels, Sequence[tuple[Labels, Counted]]]] = (),
    ) -> None:
        super().__init__(name.removesuffix("_total"), documentation, "counter", names, created)
        self._groups: list[tuple[Sequence[str], Iterable[tuple[Labels, Counted]]]] = [(names, series), *others]

    def _samples(self) -> Iterable[Sample]:
        total, began = f"{self.name}_total", f"{self.name}_created"
        for names, rows in self._groups:
            for values, series in rows:
                labels = dict(zip(names, values, strict=True))
                yield Sample(total, labels, series.counted())
                if self._created:
                    yield Sample(began, labels, series.began)

    def _written(self, openmetrics: bool) -> Iterator[Written]:
        total, began = f"{self.name}_total", f"{self.name}_created"
        for names, rows in self._groups:
            text_of = LabelText(names)
            for values, series in rows:
                before, after = text_of.around(values, "")
                labels = f"{{{before or after}}} " if names else " "
                created = f"{began}{labels}{as_text(series.began)}\n" if self._created else ""
                yield Written(f"{total}{labels}{number(series.counted())}\n", created)


class HistogramFamily(TableFamily):
    """A histogram: of each series the number of observations in each bucket, and their sum."""

    def __init__(
        self,
        name: str,
        documentation: str,
        names: Sequence[str],
        bounds: Sequence[float],
        series: Iterable[tuple[Labels, Observed]],
        created: bool,
        others: Sequence[tuple[Labels, Sequence[tuple[Labels, Observed]]]] = (),
    ) -> None:
        super().__init__(name, documentation, "histogram", names, created)
        self._bounds = [*map(as_text, bounds), "+Inf"]
        self._groups: list[tuple[Sequence[str], Iterable[tuple[Labels, Observed]]]] = [(names, series), *others]

    def _samples(self) -> Iterable[Sample]:
        for names, rows in self._groups:
            for values, series in rows:
                yield from self._samples_of(dict(zip(names, values, strict=True)), series)

    def _samples_of(self, labels: dict[str, str], series: Observed) -> Iterable[Sample]:
        name = self.name
        counts, total, exemplars = series.read()
        up_to = list(accumulate(counts))
        for at, (bound, count) in enumerate(zip(self._bounds, up_to, strict=True)):
            kept = None if exemplars is None else exemplars[at]
            exemplar = None if kept is None else ClientsExemplar(dict(kept[0]), *kept[1:])
            yield Sample(f"{name}_bucket", {**labels, "le": bound}, float(count), None, exemplar)
        yield Sample(f"{name}_count", labels, float(up_to[-1]))
        yield Sample(f"{name}_sum", labels, total)
        if self._created:
            yield Sample(f"{name}_created", labels, series.began)

    def _written(self, openmetrics: bool) -> Iterator[Written]:
        for names, rows in self._groups:
            text_of = LabelText(names)
            for values, series in rows:
                yield self._written_of(text_of.around(values, "le"), series, openmetrics)

    def _written_of(self, labels_around: tuple[str, str], series: Observed, openmetrics: bool) -> Written:
        name, bounds = self.name, self._bounds
        before, after = labels_around
        counts, total, exemplars = series.read()
        head = f'{name}_bucket{{{before}{"," if before else ""}le="'
        tail = f'"{"," if after else ""}{after}}} '
        up_to = list(accumulate(counts))
        if exemplars is None or not openmetrics:
            lines = [f"{head}{bound}{tail}{number(count)}\n" for bound, count in zip(bounds, up_to, strict=True)]
        else:
            each = zip(bounds, up_to, exemplars, strict=True)
            lines = [f"{head}{bound}{tail}{number(count)}{shown(kept)}\n" for bound, count, kept in each]
        whole = f"{before}{',' if before and after else ''}{after}"
        labels = f"{{{whole}}} " if whole else " "
        lines.append(f"{name}_count{labels}{number(up_to[-1])}\n{name}_sum{labels}{as_text(total)}\n")
        created = f"{name}_created{labels}{as_text(series.began)}\n" if self._created else ""
        return Written("".join(lines), created)


class LabelText:
    """Labels as text, in the order that the formats have them: by name. Values that were written before are known."""

    __slots__ = ("_known", "_names", "_order")

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._order = sorted(range(len(names)), key=names.__getitem__)
        self._known: list[dict[str, str]] = [{} for _ in names]

    def around(self, values: Labels, name: str) -> tuple[str, str]:
        """Those before the label ``name``, and those after it."""
        parts: list[str] = []
        split = 0
        for at in self._order:
            value, known = values[at], self._known[at]
            text = known.get(value)
            if text is None:
                text = known[value] = f'{self._names[at]}="{escaped(value)}"'
            if self._names[at] < name:
                split += 1
            parts.append(text)
        return ",".join(parts[:split]), ",".join(parts[split:])


def escaped(value: str) -> str:
    """A label's value between its quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(count: float) -> str:
    """A count as the formats have it."""
    return f"{count}.0" if type(count) is int and count <= EXACT else as_text(count)


def shown(exemplar: Exemplar | None) -> str:
    """What follows a sample of OpenMetrics."""
    if exemplar is None:
        return ""
    labels, value, at = exemplar
    text = ",".join(f'{name}="{escaped(value)}"' for name, value in sorted(labels.items()))
    return f" # {{{text}}} {as_text(value)} {at}"
