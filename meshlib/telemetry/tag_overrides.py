"""What Telemetries change about Istio's metrics: metrics that are off, labels that are removed, added or made by an expression.

``Metrics`` and ``InboundMetrics`` ask it for the series of a call. Expressions are evaluated for every call, and their values
are a part of what a series is looked up by; all else is decided once a series.

Values come from requests, so they are bounded: of an expression the first ``MOST`` that are seen have series of their own, all
others are ``other``; a long one is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshlib.clock import SystemClock
from meshlib.policy.telemetry_settings import AS_ISTIO, TAGS
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.label_sets import cleaned

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.inbound import InboundCall
    from meshlib.policy.telemetry_settings import MetricOverride, MetricSettings
    from meshlib.telemetry.access_log.entry import Entry
    from meshlib.telemetry.cel import Expression
    from meshlib.telemetry.tables import Calls, CallsByLabels, Count, CountedCalls, CountsByNames
    from meshlib.workload import Workload

Labels = tuple[str, ...]
MOST = 1000
"""Values of an expression that have series of their own."""
LONGEST = 256
"""Characters of a value."""
OTHER = "other"
today = SystemClock().time
CallIn = TypeVar("CallIn", contravariant=True)


class EntryOf(Protocol[CallIn]):
    """What makes the entry of a call that is over since a time."""

    def __call__(self, call: CallIn, now: float, /) -> Entry: ...


class Nothing:
    """A series of a metric that is off."""

    __slots__ = ()

    def observe(self, milliseconds: float, /) -> None:
        """Not recorded."""

    def inc(self, amount: float = 1, /) -> None:
        """Not recorded."""


NOTHING = Nothing()


class Both:
    """The two metrics of a call that are otherwise one series: how many, and how long they took."""

    __slots__ = ("_count", "durations")

    def __init__(self, count: Count, durations: Calls) -> None:
        self._count = count
        self.durations = durations

    def observe(self, milliseconds: float, /) -> None:
        """One call has ended."""
        self._count.inc()
        self.durations.observe(milliseconds)


class _Recipe:
    """The labels of one metric: their names, and where each value comes from, Istio's labels or, below 0, expressions."""

    __slots__ = ("_sources", "names")

    def __init__(self, names: Sequence[str], override: MetricOverride, expressions: Mapping[str, int]) -> None:
        tags = {tag.name: tag.expression for tag in override.tags}
        found: list[tuple[str, int]] = []
        for at, name in enumerate(names):
            if name not in tags:
                found.append((name, at))
            elif tags[name]:
                found.append((name, -1 - expressions[tags[name]]))
        # a label of Istio's that this metric does not have is not added, as in Envoy
        found += [(name, -1 - expressions[text]) for name, text in tags.items() if text and name not in TAGS]
        self.names = tuple(name for name, _ in found)
        self._sources = tuple(at for _, at in found)

    def values(self, labels: Labels, values: Labels) -> Labels:
        """Of Istio's labels, and of the values of expressions, as every scrape can have them."""
        return tuple(cleaned(labels[at] if at >= 0 else values[-1 - at]) for at in self._sources)


class AsTheyAre:
    """Nothing is overridden."""

    __slots__ = ()

    def calls(self, table: CountedCalls, labels: Labels, _values: Labels) -> Calls:
        """As ``TagOverrides``'."""
        return table.labels(*labels)

    def sizes(self, _metric: str, table: CallsByLabels, labels: Labels, _values: Labels) -> Calls:
        """As ``TagOverrides``'."""
        return table.labels(*labels)

    def messages(self, _metric: str, table: CountsByNames, labels: Labels, _values: Labels) -> Count:
        """As ``TagOverrides``'."""
        return table.labels(*labels)

    def counts(self, _metric: str, table: CountsByNames, _names: Labels, labels: Labels, _values: Labels) -> Count:
        """As ``TagOverrides``'."""
        return table.labels(*labels)


AS_THEY_ARE = AsTheyAre()


class TagOverrides(Generic[CallIn]):
    """Those of one direction. ``entry`` is what expressions read of a call. ``overflowed`` counts values that had no place."""

    __slots__ = (
        "_disabled",
        "_entry",
        "_expressions",
        "_node",
        "_of",
        "_outbound",
        "_peers",
        "_recipes",
        "_seen",
        "overflowed",
    )

    def __init__(
        self, settings: MetricSettings, node: Mapping[str, object], outbound: bool, entry: EntryOf[CallIn]
    ) -> None:
        from meshlib.policy.cel_syntax import cel_references
        from meshlib.telemetry.attributes import OBJECTS
        from meshlib.telemetry.cel import compiled

        texts = dict.fromkeys(t.expression for o in settings.overrides.values() for t in o.tags if t.expression)
        self._expressions: list[Expression] = [compiled(text) for text in texts]
        self._of = settings.of
        self._disabled = settings.disabled
        self._node = node
        self._outbound = outbound
        self._entry = entry
        self._peers = any(path[0] in OBJECTS for text in texts for path in cel_references(text))
        self._recipes: dict[tuple[str, Labels], _Recipe] = {}
        self._seen: list[set[str]] = [set() for _ in texts]
        self.overflowed = 0

    @property
    def evaluates(self) -> bool:
        """Whether anything is to be evaluated of each call."""
        return bool(self._expressions)

    def values(self, call: CallIn, now: float, labels: Callable[[CallIn], Labels], counts: bool = True) -> Labels:
        """The values of all expressions for a call that is over since ``now``; ``labels`` makes Istio's. ``counts``: so are
        values that have no place, and expressions that come to an error, as this call is asked about for the first time."""
        if not self._expressions:
            return ()
        from meshlib.telemetry.attributes import Facts

        known = dict(zip(TAGS, labels(call), strict=True)) if self._peers else {}
        facts = Facts(self._entry(call, now), self._node, self._outbound, known, hides=True)
        return tuple(
            self._bounded(n, expression.label(facts, counts), counts) for n, expression in enumerate(self._expressions)
        )

    def _bounded(self, n: int, value: str, counts: bool) -> str:
        seen = self._seen[n]
        if len(value) > LONGEST:
            value = value[:LONGEST]
        if value not in seen:
            if len(seen) >= MOST:
                if counts:
                    self.overflowed += 1
                    dropped.add("metric_tag_values")
                return OTHER
            seen.add(value)
        return value

    # -- series -------------------------------------------------------------------------------------------------------

    def calls(self, table: CountedCalls, labels: Labels, values: Labels) -> Calls:
        """Where a call is counted, and timed."""
        counted, timed = self._change("requests_total"), self._change("request_duration_milliseconds")
        if counted is AS_ISTIO and timed is AS_ISTIO:
            return table.labels(*labels)
        count: Count = NOTHING
        times: Calls = NOTHING
        if counted is not None:
            recipe = self._recipe("requests_total", TAGS)
            count = table.counted(recipe.names, recipe.values(labels, values))
        if timed is not None:
            recipe = self._recipe("request_duration_milliseconds", TAGS)
            times = table.timed(recipe.names, recipe.values(labels, values))
        return Both(count, times)

    def sizes(self, metric: str, table: CallsByLabels, labels: Labels, values: Labels) -> Calls:
        """Where bytes are counted: ``request_bytes`` or ``response_bytes``."""
        change = self._change(metric)
        if change is None:
            return NOTHING
        if change is AS_ISTIO:
            return table.labels(*labels)
        recipe = self._recipe(metric, TAGS)
        return table.timed(recipe.names, recipe.values(labels, values))

    def messages(self, metric: str, table: CountsByNames, labels: Labels, values: Labels) -> Count:
        """Where messages of gRPC are counted: ``request_messages_total`` or ``response_messages_total``, which have just the
        first of Istio's labels."""
        return self.counts(metric, table, TAGS[: len(labels)], labels, values)

    def counts(self, metric: str, table: CountsByNames, names: Labels, labels: Labels, values: Labels) -> Count:
        """Where something is counted by ``labels`` of these ``names``, some of Istio's."""
        change = self._change(metric)
        if change is None:
            return NOTHING
        if change is AS_ISTIO:
            return table.labels(*labels)
        recipe = self._recipe(metric, names)
        return table.counted(recipe.names, recipe.values(labels, values))

    def _change(self, metric: str) -> MetricOverride | None:
        """None: it is off."""
        change = self._of(metric)
        return None if self._disabled or change.disabled else change

    def _recipe(self, metric: str, names: Labels) -> _Recipe:
        found = self._recipes.get((metric, names))
        if found is None:
            numbered = {expression.text: n for n, expression in enumerate(self._expressions)}
            found = self._recipes[metric, names] = _Recipe(names, self._of(metric), numbered)
        return found


def overrides_of(
    settings: MetricSettings, workload: Workload, outbound: bool, entry: EntryOf[CallIn]
) -> TagOverrides[CallIn] | None:
    """What these settings change; None: nothing, which costs a call nothing."""
    if not settings.disabled and not settings.overrides:
        return None
    from meshlib.telemetry.attributes import node_of

    return TagOverrides(settings, node_of(workload), outbound, entry)


def made(call: Call, now: float) -> Entry:
    """What expressions read of a call that was made."""
    from meshlib.telemetry.access_log.made import MadeEntry

    return MadeEntry(call, now, today(), None, False)


def served(call: InboundCall, now: float) -> Entry:
    """What expressions read of a call that was served."""
    from meshlib.telemetry.access_log.served import ServedEntry

    return ServedEntry(call, now, today(), None, False)
