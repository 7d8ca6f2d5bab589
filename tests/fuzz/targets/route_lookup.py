"""Which rule a request takes: the index against a slow, plain reading of the match blocks, written down a second time here."""

from __future__ import annotations

from collections.abc import Sequence

import re2

from meshlib.engine.plain_request import PlainRequest
from meshlib.policy.http_match import HttpMatch
from meshlib.policy.rule_index import LINEAR, RuleIndex
from meshlib.policy.string_match import StringMatcher
from tests.fuzz.raw_input import RawInput

PATHS = ("/", "/a", "/A", "/a/b", "/a/b/", "/ab", "/\u00e9", "", "/a%2Fb", "/A/b")
REGEXES = ("/a.*", "/[ab]", ".*", "/(a|b)/.*", "(?i)/A", "\u00e9|/\u00e9", "a|", "/a/?")
WORDS = ("", "a", "A", "b", "a,b", "\u00e9", "x.test", "GET", "get", "https")
NAMES = ("h", "k", ":method", ":path", ":authority")


def run(data: bytes) -> None:
    raw = RawInput(data)
    count = raw.below(30) if raw.flag() else raw.below(LINEAR)
    rules = [[block(raw) for _ in range(raw.below(4))] for _ in range(count)]
    compiled = [[match.compile() for match in matches] for matches in rules]
    index = RuleIndex(compiled)
    for _ in range(1 + raw.below(6)):
        view = PlainRequest(
            word(raw), raw.pick(("http", "https")), word(raw), path(raw) + raw.pick(("", "?a=b&a=c", "?A", "?a")),
            {raw.pick(NAMES[:2]): word(raw) for _ in range(raw.below(3))},
        )  # fmt: skip
        wanted = plain(rules, view)
        assert index.find(view) == wanted
        rule, position = index.find_match(view)
        assert rule == wanted
        if wanted >= 0 and rules[wanted]:
            assert position == next(n for n, match in enumerate(rules[wanted]) if holds(match, view))
            assert compiled[wanted][position].why_not(view) is None


def word(raw: RawInput) -> str:
    return raw.pick(WORDS) if raw.byte() & 3 else raw.text()


def path(raw: RawInput) -> str:
    return raw.pick(PATHS) if raw.byte() & 3 else raw.text().partition("?")[0].partition("#")[0]


def matcher(raw: RawInput, *, of_path: bool = False) -> StringMatcher:
    kind = raw.pick(("exact", "prefix", "regex", "present") if not of_path else ("exact", "prefix", "regex"))
    if kind == "regex":
        return StringMatcher(kind, raw.pick(REGEXES))
    return StringMatcher(kind, path(raw) if of_path else word(raw), of_path and raw.flag())


def block(raw: RawInput) -> HttpMatch:
    asked = raw.byte()
    return HttpMatch(
        uri=matcher(raw, of_path=True) if asked & 1 else None,
        method=matcher(raw) if asked & 2 else None,
        scheme=matcher(raw) if asked & 4 else None,
        authority=matcher(raw) if asked & 8 else None,
        headers=tuple((raw.pick(NAMES), matcher(raw)) for _ in range(asked >> 4 & 1)),
        without_headers=tuple((raw.pick(NAMES[:2]), matcher(raw)) for _ in range(asked >> 5 & 1)),
        query_params=tuple((raw.pick(("a", "A")), matcher(raw)) for _ in range(asked >> 6 & 1)),
    )


# -- the plain reading ------------------------------------------------------------------------------------------------


def plain(rules: Sequence[Sequence[HttpMatch]], view: PlainRequest) -> int:
    for number, matches in enumerate(rules):
        if not matches or any(holds(match, view) for match in matches):
            return number
    return -1


def holds(match: HttpMatch, view: PlainRequest) -> bool:
    pseudo = {":method": view.method, ":path": view.full_path, ":authority": view.authority, ":scheme": view.scheme}
    for condition, text in (
        (match.method, view.method),
        (match.scheme, view.scheme),
        (match.uri, view.path),
        (match.authority, view.authority),
    ):
        if condition is not None and not fits(condition, text):
            return False
    for name, condition in match.headers:
        found = pseudo[name] if name in pseudo else view.header(name)
        if found is None or not fits(condition, found):
            return False
    for name, condition in match.without_headers:
        found = view.header(name)
        if found is not None if condition.kind == "present" else fits(condition, found or ""):
            return False
    query = [pair.partition("=") for pair in view.query.split("&")]
    for name, condition in match.query_params:
        values = [value for key, _, value in query if key == name]
        if not values or not fits(condition, values[0]):
            return False
    return True


def fits(condition: StringMatcher, text: str) -> bool:
    """On bytes, as Envoy compares."""
    data = text.encode("latin-1")
    wanted = condition.value.encode("utf-8", "surrogatepass")
    if condition.kind == "present":
        return True
    if condition.kind == "regex":
        return re2.fullmatch(condition.value.encode(), data) is not None
    if condition.ignore_case:
        data, wanted = data.lower(), wanted.lower()
    return data == wanted if condition.kind == "exact" else data.startswith(wanted)
