"""Finds the first rule that matches, at a cost that does not grow with the number of rules.

Every match block is filed under an indexable condition, the first that few others share, or else the one that fewest do: an
exact path, a path prefix, an exact header or authority, a segment that a regex path must have (``regex_segments.py``). A regex
path that has nothing which few share goes into an RE2 set; else it is a method, else "always". What a look-up tries is what
shares the condition with the rule that it finds: with rules that differ in one condition it is one rule, whatever their number;
of n rules that differ only in two conditions together it is the square root of n.
A request gathers the few candidates that its path and headers point to and tries them in order. The order of rules decides,
never how specific they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from meshlib.policy.http_match import CompiledMatch, HttpMatch, RequestView
from meshlib.policy.regex import compile_set, wire
from meshlib.policy.regex_segments import required_segments

Place = tuple[str, str]
"""A table of ``PATHS``, or the name of a header, and the key there."""
PATHS = {
    ":exact": "_exact",
    ":exact-lower": "_exact_lower",
    ":prefix": "_prefix",
    ":prefix-lower": "_prefix_lower",
    ":segment": "_segments",
}
"""The tables of paths; no header is called so."""
LINEAR = 8
"""Up to this many blocks, trying them one after another is faster than the index (measured: cross-over 8 to 12)."""


class RuleIndex:
    """``rules``: the match blocks of each rule; a rule without blocks matches everything."""

    __slots__ = (
        "_always",
        "_by_value",
        "_exact",
        "_exact_lower",
        "_linear",
        "_match_regexes",
        "_prefix",
        "_prefix_lengths",
        "_prefix_lower",
        "_prefix_lower_lengths",
        "_read",
        "_regex_positions",
        "_segments",
        "_sole",
        "_table",
        "_tests",
    )

    def __init__(self, rules: Sequence[Sequence[CompiledMatch]], take_turns: Callable[[], None] = lambda: None) -> None:
        """``take_turns`` is called now and then while many rules are filed."""
        table: list[tuple[int, int, CompiledMatch | None]] = []
        for rule, matches in enumerate(rules):
            take_turns()
            if not matches:
                table.append((rule, -1, None))
                break  # a catch-all: nothing after it is ever reached
            table.extend((rule, position, match) for position, match in enumerate(matches))
        take_turns()
        self._table = tuple(table)
        self._read: frozenset[str] | None = None
        self._linear = len(table) <= LINEAR
        self._sole: Callable[[RequestView], bool] | None = None
        """The test of the first rule where that is all there is to ask, as the second one takes whatever it does not."""
        if self._linear:
            self._tests = tuple((rule, match and (match.sole or match)) for rule, _, match in table)
            if len(table) == 2 and table[1][2] is None:
                self._sole = self._tests[0][1]
        else:
            self._build(take_turns)

    def find(self, view: RequestView) -> int:
        """The first rule that matches, -1 when none does."""
        sole = self._sole
        if sole is not None:  # half of the steps of what follows
            return 0 if sole(view) else 1
        if self._linear:
            for rule, test in self._tests:
                if test is None or test(view):
                    return rule
            return -1
        return self.find_match(view)[0]

    def find_match(self, view: RequestView) -> tuple[int, int]:
        """The rule and which of its blocks; (-1, -1) when none matches; the block is -1 for a rule without blocks."""
        table = self._table
        if self._linear:
            for rule, position, match in table:
                if match is None or match(view):
                    return rule, position
            return -1, -1
        for candidate in self._candidates(view):
            rule, position, match = table[candidate]
            if match is None or match(view):
                return rule, position
        return -1, -1

    def reads(self, header: str) -> bool:
        """Whether any rule looks at this header (in lower case)."""
        read = self._read
        if read is None:
            settings = [match.settings for _, _, match in self._table if match is not None]
            read = self._read = frozenset(
                name for each in settings for name, _ in (*each.headers, *each.without_headers)
            )
        return header in read

    # -- the index --------------------------------------------------------------------------------------------------

    def _build(self, take_turns: Callable[[], None]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._exact_lower: dict[str, list[int]] = {}
        self._prefix: dict[str, list[int]] = {}
        self._prefix_lower: dict[str, list[int]] = {}
        self._segments: dict[str, list[int]] = {}
        by_value: dict[str, dict[str, list[int]]] = {}
        self._always: list[int] = []
        regexes: list[str] = []
        self._regex_positions: list[int] = []
        shared: Counter[Place] = Counter()
        places_of: list[Sequence[Place]] = []
        for _, _, match in self._table:
            take_turns()
            places_of.append(_places(match.settings) if match is not None else ())
            shared.update(places_of[-1])
        for number, ((_, _, match), places) in enumerate(zip(self._table, places_of, strict=True)):
            take_turns()
            place = places[0] if places else None
            if place is not None and shared[place] > LINEAR:  # one path of many rules, say, that headers tell apart
                place = min(places, key=shared.__getitem__)
            uri = None if match is None else match.settings.uri
            if uri is not None and uri.kind == "regex" and (place is None or shared[place] > LINEAR):
                regexes.append(uri.value)
                self._regex_positions.append(number)
            elif place is not None:
                kind, key = place
                table = getattr(self, PATHS[kind]) if kind in PATHS else by_value.setdefault(kind, {})
                table.setdefault(key, []).append(number)
            elif match is not None and match.settings.method is not None and match.settings.method.kind == "exact":
                values = by_value.setdefault(":method", {})
                values.setdefault(wire(match.settings.method.value), []).append(number)
            else:
                self._always.append(number)
        take_turns()
        self._prefix_lengths = sorted({len(p) for p in self._prefix})
        self._prefix_lower_lengths = sorted({len(p) for p in self._prefix_lower})
        self._by_value: tuple[tuple[str, Callable[[RequestView], str | None], dict[str, list[int]]], ...] = tuple(
            (name, _reader(name), values) for name, values in by_value.items()
        )
        self._match_regexes = compile_set(regexes, take_turns) if regexes else None

    def _candidates(self, view: RequestView) -> Iterator[int] | list[int]:
        path = view.path
        lists = [self._always]
        found = self._exact.get(path)
        if found is not None:
            lists.append(found)
        size = len(path)
        for length in self._prefix_lengths:
            if length > size:
                break
            found = self._prefix.get(path[:length])
            if found is not None:
                lists.append(found)
        if self._exact_lower or self._prefix_lower:
            lower = path.lower()
            found = self._exact_lower.get(lower)
            if found is not None:
                lists.append(found)
            for length in self._prefix_lower_lengths:
                if length > size:
                    break
                found = self._prefix_lower.get(lower[:length])
                if found is not None:
                    lists.append(found)
        if self._segments:
            lists += map(self._segments.__getitem__, self._segments.keys() & path.split("/"))
        for name, read, values in self._by_value:
            value = read(view)
            if value is not None:
                found = values.get(value)
                if found is not None:
                    lists.append(found)
                if "," in value and not name.startswith(":"):  # perhaps repeated: each value counts
                    lists += [values[one] for one in dict.fromkeys(view.header_values(name) or ()) if one in values]
        if self._match_regexes is not None:
            positions = self._regex_positions
            found = [positions[i] for i in self._match_regexes(path)]
            if found:
                found.sort()
                lists.append(found)
        if len(lists) == 1:
            return self._always
        if len(lists) == 2 and not self._always:
            return lists[1]
        merged: list[int] = []
        for part in lists:
            merged += part
        merged.sort()  # runs of sorted lists: timsort merges them in linear time
        return merged


def _places(settings: HttpMatch) -> Sequence[Place]:
    """Where a block may be filed, each a condition that it has; the cheapest to look up first."""
    uri, found = settings.uri, []
    if uri is not None and (uri.kind == "exact" or (uri.kind == "prefix" and len(uri.value) > 1)):
        value = wire(uri.value)
        found.append((f":{uri.kind}-lower", value.lower()) if uri.ignore_case else (f":{uri.kind}", value))
    for name, matcher in settings.headers:
        if matcher.kind == "exact" and not name.startswith(":"):
            found.append((name, wire(matcher.value)))
    if settings.authority is not None and settings.authority.kind == "exact":
        found.append((":authority", wire(settings.authority.value)))
    if uri is not None and uri.kind == "regex":
        found += [(":segment", segment) for segment in required_segments(uri.value)]
    return found


def _reader(name: str) -> Callable[[RequestView], str | None]:
    if name == ":authority":
        return lambda view: view.authority
    if name == ":method":
        return lambda view: view.method
    return lambda view: view.header(name)
