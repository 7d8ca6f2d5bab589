"""Sets of label values, bounded: in number, in length, and to what a scrape can be written with."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence

from meshlib.policy.unsigned import unsigned
from meshlib.problems import MeshError
from meshlib.telemetry.dropped import dropped

log = logging.getLogger("meshlib.telemetry")

Labels = tuple[str, ...]

MOST_SERIES = 10_000
"""Label sets of one metric, unless ``VARIABLE`` says another number. More than that are counted together, as ``OTHER``."""
VARIABLE = "MESHLIB_METRIC_LABEL_SETS"
OTHER = "other"
KEPT = frozenset(("reporter", "request_protocol", "response_code", "connection_security_policy"))
"""Labels that keep their values then: they have few."""
LONGEST = 2048
"""Characters of a value; a SPIFFE ID has no more."""


def most_label_sets(said: str) -> int:
    """The number that an operator has said; MOST_SERIES of "". Raises ``MeshError`` for what is not a number from 1 on."""
    if not said:
        return MOST_SERIES
    number = unsigned(said)
    if not number:
        raise MeshError(f"{VARIABLE} must be a whole number from 1 on, such as {MOST_SERIES}, not {said!r}")
    return number


class LabelSets:
    """Those of one metric. ``folded`` counts the look-ups that found no room."""

    __slots__ = ("_full", "_kept", "_metric", "folded", "most")

    def __init__(self, metric: str, names: Sequence[str]) -> None:
        self._metric = metric
        self._kept = tuple(name in KEPT for name in names)
        self._full = False
        self.folded = 0
        self.most = most_label_sets(os.environ.get(VARIABLE, ""))

    def admit(self, labels: Labels, there: Collection[Labels]) -> Labels:
        """The labels that stand for ``labels``, which are not ``there``."""
        clean = tuple(map(cleaned, labels))
        count = len(there)
        if count < self.most or clean in there:
            return clean
        self.folded += 1
        dropped.add("metric_label_sets")
        if not self._full:
            self._full = True
            log.warning(
                "%s has %d label sets, as many as it may: further ones are counted as %r. What varies without bound (names of "
                "hosts, principals) does not belong into labels: remove that tag by a Telemetry resource; %s allows more",
                self._metric,
                count,
                OTHER,
                VARIABLE,
            )
        return tuple(value if kept else OTHER for value, kept in zip(clean, self._kept, strict=True))


class Admitted:
    """Which label sets there are of a metric that is kept elsewhere."""

    __slots__ = ("_there", "label_sets")

    def __init__(self, metric: str, names: Sequence[str]) -> None:
        self.label_sets = LabelSets(metric, names)
        self._there: set[Labels] = set()

    def of(self, labels: Labels) -> Labels:
        """The labels that stand for these."""
        if labels in self._there:
            return labels
        found = self.label_sets.admit(labels, self._there)
        self._there.add(found)
        return found


def cleaned(value: str) -> str:
    """A value that every scrape can have: text that is not Unicode is replaced, and what is too long is cut."""
    if len(value) > LONGEST:
        value = value[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
