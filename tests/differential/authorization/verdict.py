"""Equal, stricter (and listed in docs/parity.md), or laxer: the verdict on two decisions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.differential.authorization.cases import Case, Config, Decision, Request

PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*)*/?")
OF_THE_PEER = ("Principals", "Namespaces", "ServiceAccounts", "TrustDomains")
KEYS_OF_THE_PEER = ("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain")


def rules_of(case: Case, *actions: str) -> Iterator[Config]:
    for policy in case.policies:
        if policy["spec"].get("action", "ALLOW") in actions:
            yield from policy["spec"].get("rules") or ()


def fields_of(rule: Config, where: str, what: str) -> Iterator[str]:
    for part in rule.get(where) or ():
        yield from part.get(what) or {}


def asks(case: Case, operations: tuple[str, ...], key: str) -> bool:
    """Whether a rule that decides has one of these fields of ``operation``, or this key of ``when``."""
    rules = [*rules_of(case, "ALLOW", "DENY")]
    return any(name in operations for rule in rules for name in fields_of(rule, "to", "operation")) or any(
        condition["key"] == key for rule in rules for condition in rule.get("when") or ()
    )


def path_of_many_spellings(case: Case, request: Request) -> bool:
    """The path can be read in another way than Envoy does, and a rule is about paths, or about the header ``:path``."""
    path = request.target.partition("#")[0].partition("?")[0]
    asked = any(
        name in ("paths", "notPaths")
        for rule in rules_of(case, "ALLOW", "DENY")
        for name in fields_of(rule, "to", "operation")
    )
    asked = asked or asks(case, (), "request.headers[:path]")
    return asked and PLAIN_PATH.fullmatch(path) is None


def empty_query(case: Case, request: Request) -> bool:
    """The target ends with a bare ``?``, which servers do not tell, and a rule asks for the header ``:path``."""
    return request.target.partition("#")[0].endswith("?") and asks(case, (), "request.headers[:path]")


def path_that_is_no_text(_case: Case, request: Request) -> bool:
    """The path has a control character, or is not UTF-8: no policy can judge what the application makes of it."""
    path = unquote_to_bytes(request.target.partition("#")[0].partition("?")[0])
    try:
        return any(character < " " for character in path.decode())
    except UnicodeDecodeError:
        return True


def negative_of_nobody(case: Case, request: Request) -> bool:
    """An ALLOW rule excludes some peers, and this one shows no identity."""
    if request.caller.principal:
        return False
    return any(
        name.startswith("not") and name[3:] in OF_THE_PEER
        for rule in rules_of(case, "ALLOW")
        for name in fields_of(rule, "from", "source")
    ) or any(
        condition["key"] in KEYS_OF_THE_PEER and condition.get("notValues")
        for rule in rules_of(case, "ALLOW")
        for condition in rule.get("when") or ()
    )


def header_of_several_items(case: Case, request: Request) -> bool:
    """A rule asks a header that has several lines, or several items in one."""
    asked = {
        condition["key"][16:-1].lower()
        for rule in rules_of(case, "ALLOW", "DENY")
        for condition in rule.get("when") or ()
        if condition["key"].startswith("request.headers[")
    }
    named = [(name.lower(), value) for name, value in request.headers if name.lower() in asked]
    return len(named) > len({name for name, _ in named}) or any("," in value for _, value in named)


def host_with_port_or_dot(case: Case, request: Request) -> bool:
    """A DENY rule names hosts, or an ALLOW rule excludes some, and this one has a port or ends with a dot. The header
    ``:authority`` is compared in any case, too."""
    denied = any("hosts" in fields_of(rule, "to", "operation") for rule in rules_of(case, "DENY"))
    excluded = any("notHosts" in fields_of(rule, "to", "operation") for rule in rules_of(case, "ALLOW"))
    if asks(case, (), "request.headers[:authority]") or asks(case, (), "request.headers[Host]"):
        return True
    return (denied or excluded) and (":" in request.authority or request.authority.endswith("."))


def star_in_a_half(case: Case, request: Request) -> bool:
    """A rule that forbids names token principals with a ``*`` where Istio takes it to the letter."""
    return request.claims is not None and any(
        "*" in value.strip("*")
        or (value.startswith("*") and value.endswith("*") and len(value) > 1)
        or "/*" in value[:-1]
        for rule in rules_of(case, "ALLOW", "DENY")
        for value in [
            *(v for f in rule.get("from") or () for k, vs in f["source"].items() if "equestPrinc" in k for v in vs),
            *(
                value
                for condition in rule.get("when") or ()
                if condition["key"] == "request.auth.principal"
                for value in (*condition.get("values", ()), *condition.get("notValues", ()))
            ),
        ]
    )


def line_end_in_claim(_case: Case, request: Request) -> bool:
    """A token has a claim that goes over lines."""
    return request.claims is not None and any("\n" in str(value) for value in request.claims.values())


def no_sni(case: Case, request: Request) -> bool:
    """A rule asks the SNI of TLS that has none, or whose server does not tell it."""
    return request.caller.secure and not request.caller.sni and asks(case, (), "connection.sni")


def clothes_of_ipv6(_case: Case, request: Request) -> bool:
    """X-Forwarded-For ends with an IPv4 address mapped into IPv6."""
    return any(name.lower() == "x-forwarded-for" and "::ffff:" in value for name, value in request.headers)


Applies = Callable[[Case, Request], bool]
STRICTER: dict[str, Applies] = {
    "paths with a control character": path_that_is_no_text,
    "AuthorizationPolicy: DENY and AUDIT rules with `paths`": path_of_many_spellings,
    "an empty query (`/a?`) and the header `:path` in `when`": empty_query,
    "peers without identity and the negative fields of the peer": negative_of_nobody,
    "headers in `when`": header_of_several_items,
    "`hosts` of DENY, `notHosts` of ALLOW": host_with_port_or_dot,
    "`requestPrincipals` of DENY such as `*/*`": star_in_a_half,
    "claims with a line end, and `*`": line_end_in_claim,
    "IPv4 addresses in IPv6's clothes": clothes_of_ipv6,
    "what a server cannot know: no SNI": no_sni,
}
"""Differences in which meshlib refuses what Envoy lets through, by the beginning of their row in docs/parity.md (and what of
it, behind a colon)."""


@dataclass
class Difference:
    """Two decisions about one request that should be the same."""

    case: Case
    request: Request
    ours: Decision
    theirs: Decision
    why: str = ""

    def __str__(self) -> str:
        mesh = f"{self.case.normalization} {self.case.trust_domain} {self.case.aliases}"
        return "\n".join(
            [
                f"case {self.case.number} ({mesh}): ours {self.ours}, Envoy's {self.theirs} {self.why}",
                f"  {self.request}",
                *(f"  {json.dumps({**p['metadata'], **p['spec']}, ensure_ascii=False)}" for p in self.case.policies),
            ]
        )


@dataclass
class Tally:
    """What a run has found. ``kinds`` counts what the decisions were about, so that a run that only met refusals shows."""

    equal: int = 0
    stricter: Counter[str] = field(default_factory=Counter)
    unlisted: list[Difference] = field(default_factory=list)
    laxer: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def decisions(self) -> int:
        return self.equal + sum(self.stricter.values()) + len(self.laxer) + len(self.unlisted)

    @property
    def wrong(self) -> list[Difference]:
        return self.laxer + self.unlisted

    def add(self, other: Tally) -> None:
        self.equal += other.equal
        self.stricter.update(other.stricter)
        self.unlisted += other.unlisted
        self.laxer += other.laxer
        self.kinds.update(other.kinds)

    def __str__(self) -> str:
        return (
            f"{self.decisions:,} decisions: {self.equal:,} equal, {sum(self.stricter.values()):,} stricter, "
            f"{len(self.unlisted):,} stricter and not listed, {len(self.laxer):,} laxer"
        )


def kind(decision: Decision) -> str:
    """What a decision was, in a word."""
    return {200: "let in", 400: "no request"}.get(decision.status, "denied" if decision.by else "not allowed")


def judge(
    cases: Sequence[Case],
    ours: Iterable[Decision],
    theirs: Iterable[Decision],
    more: dict[str, Applies] | None = None,
) -> Tally:
    """Compare the decisions about all requests of the cases, in order. ``more``: reasons of this way in alone."""
    reasons: dict[str, Applies] = {**STRICTER, **(more or {})}
    tally = Tally()
    asked: Iterator[Any] = ((case, request) for case in cases for request in case.requests)
    for (case, request), our, their in zip(asked, ours, theirs, strict=True):
        tally.kinds[kind(their)] += 1
        if (our.status == 200) == (their.status == 200):
            tally.equal += 1
        elif our.status == 200:
            tally.laxer.append(Difference(case, request, our, their))
        else:
            reason = next((name for name, applies in reasons.items() if applies(case, request)), None)
            if reason is None:
                tally.unlisted.append(Difference(case, request, our, their))
            else:
                tally.stricter[reason] += 1
    return tally
