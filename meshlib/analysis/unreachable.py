"""Rules of a VirtualService that no request reaches, and matches that an earlier rule has already."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from meshlib.analysis.codes import INEFFECTIVE_MATCH, UNREACHABLE_RULE
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import VIRTUAL_SERVICE
from meshlib.resources.virtual_service import HttpMatchRequest

if TYPE_CHECKING:
    from meshlib.resources.types import StringMatch
    from meshlib.resources.virtual_service import HttpRoute, TcpRoute, TlsRoute, VirtualService

    Rule = HttpRoute | TcpRoute | TlsRoute

_NOT_COMPARED = {"scheme", "source_labels", "source_namespace", "gateways", "ignore_uri_case"}
"""Conditions of a match that Istio's comparison of prefixes passes over: here they have to be the same."""

_KINDS = ("http", "tcp", "tls")


def unreachable(index: Index) -> Iterator[Finding]:
    """As Istio's validation warns of them."""
    for service in index.analyzed(VIRTUAL_SERVICE):
        for kind in _KINDS:
            rules = getattr(service.spec, kind)
            if rules and not _guessed(service, kind):
                yield from _rules(service, kind, rules)


def _guessed(service: VirtualService, kind: str) -> bool:
    """Whether a match had a field that could not be read: it would look the same as others."""
    return any(loc[:2] == ("spec", kind) and "match" in loc for loc in service.lost_fields)


def _rules(service: VirtualService, kind: str, rules: Sequence[Rule]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    always = -1  # the first rule that takes every request
    prefixes: list[_PrefixMatch] = []
    for number, rule in enumerate(rules):
        take_turns()
        here: Loc = ("spec", kind, number)
        in_part = getattr(rule, "delegate", None) is not None  # takes only what the delegate's own matches take
        if not rule.match:
            if always >= 0:
                yield _never(service, here, f"{_name(rules, kind, always)} before it takes every request")
            elif not in_part:
                always = number
            continue
        doubles = 0
        for position, match in enumerate(rule.match):
            if always >= 0:
                yield _never(service, (*here, "match", position), f"{_name(rules, kind, always)} takes every request")
                continue
            said = _said(match)
            before = seen.get(said)
            if before is not None:
                yield Finding(
                    INEFFECTIVE_MATCH,
                    service,
                    (*here, "match", position),
                    f"the same match stands in {_name(rules, kind, before)} already",
                    "remove it, or make it differ",
                )
                doubles += 1
                continue
            if in_part:
                continue
            seen[said] = number
            if isinstance(match, HttpMatchRequest) and match.uri is not None and match.uri.prefix:
                prefixes.append(_prefix_match(match, match.uri.prefix, here, position, _name(rules, kind, number)))
        if doubles == len(rule.match):
            yield _never(service, here, "rules before it have all of its matches")
    yield from _overlaps(service, prefixes)


def _never(service: VirtualService, loc: Loc, reason: str) -> Finding:
    return Finding(
        UNREACHABLE_RULE, service, loc, f"no request comes to this rule: {reason}", "put it first, or remove it"
    )


def _name(rules: Sequence[Rule], kind: str, number: int) -> str:
    name = getattr(rules[number], "name", None)
    return f'{kind}[{number}] "{name}"' if name else f"{kind}[{number}]"


def _said(match: BaseModel) -> str:
    """What a match says, without its name."""
    said = match.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"name"}, exclude_none=True)
    return json.dumps(said, sort_keys=True)


@dataclass(frozen=True, slots=True)
class _PrefixMatch:
    """A match by path prefix, as Istio compares such with each other: texts begin with the kind of their match."""

    loc: Loc
    rule: str
    prefix: str
    port: int
    method: str
    authority: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    without: Mapping[str, str]
    others: str

    @property
    def looks_at(self) -> tuple[object, ...]:
        """What must be the same of two matches of which one covers the other."""
        return self.port, frozenset(self.headers), frozenset(self.query), frozenset(self.without), self.others


def _text(match: StringMatch | None) -> str:
    if match is None:
        return ""
    return f"exact {match.exact}" if match.exact else f"prefix {match.prefix}" if match.prefix else ""


def _texts(matches: Mapping[str, StringMatch] | None) -> dict[str, str]:
    return {key: _text(match) for key, match in (matches or {}).items()}


def _prefix_match(match: HttpMatchRequest, prefix: str, here: Loc, position: int, rule: str) -> _PrefixMatch:
    return _PrefixMatch(
        (*here, "match", position),
        rule,
        prefix,
        match.port or 0,
        _text(match.method) or "exact GET",  # Istio's reading of a match without method
        _text(match.authority),
        _texts(match.headers),
        _texts(match.query_params),
        _texts(match.without_headers),
        json.dumps(match.model_dump(mode="json", include=_NOT_COMPARED, exclude_none=True), sort_keys=True),
    )


def _overlaps(service: VirtualService, found: Sequence[_PrefixMatch]) -> Iterator[Finding]:
    """A prefix that an earlier, shorter one takes all requests of. Only prefixes of a prefix are compared."""
    by_prefix: dict[tuple[object, ...], list[_PrefixMatch]] = {}
    lengths: set[int] = set()
    for later in found:
        take_turns()
        for length in sorted(lengths):
            if length >= len(later.prefix):
                break
            for earlier in by_prefix.get((later.prefix[:length], *later.looks_at), ()):
                if _covers(earlier, later):
                    yield Finding(
                        INEFFECTIVE_MATCH,
                        service,
                        later.loc,
                        f"the prefix {earlier.prefix} of {earlier.rule} before it takes the requests of {later.prefix}",
                        "put the longer prefix first",
                    )
        by_prefix.setdefault((later.prefix, *later.looks_at), []).append(later)
        lengths.add(len(later.prefix))


def _covers(earlier: _PrefixMatch, later: _PrefixMatch) -> bool:
    """Whether ``later``, with a longer prefix and the same ``looks_at``, is left nothing."""
    if not earlier.method.startswith(later.method) or not earlier.authority.startswith(later.authority):
        return False
    return all(
        all(text.startswith(other[key]) for key, text in one.items())
        for one, other in (
            (earlier.headers, later.headers),
            (earlier.query, later.query),
            (earlier.without, later.without),
        )
    )
