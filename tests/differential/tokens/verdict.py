"""Equal, stricter for a reason that docs/parity.md lists, or wrong: the verdict on two decisions."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from tests.differential.tokens.generate import FORGED, Case, Request
from tests.differential.tokens.sides import ABSENT, SEEN, Decision

EQUAL = "equal"


def verdict(case: Case, request: Request, envoy: Decision, ours: Decision) -> str:
    """ "equal", "stricter: why", or "LAXER" or "DIFFERENT" with what differs."""
    excuse = _excuse(case, request)
    if envoy.status == ours.status == 200:
        return _admitted(case, request, envoy, ours)
    if ours.status == 200:
        return f"LAXER: {envoy} {ours}"
    if (envoy.status, envoy.body, envoy.challenge) == (ours.status, ours.body, ours.challenge):
        return EQUAL
    if excuse:
        return f"stricter: {excuse}"
    return f"DIFFERENT: {envoy} {ours}"


def _excuse(case: Case, request: Request) -> str:
    for token in request.tokens:
        if token.stricter:
            return token.stricter
    names = [name for name, _ in request.query]
    if len(set(names)) < len(names):
        return "a parameter comes twice"
    if any(" " in value.strip(" ") for name, value in request.headers if name == "x-jwt"):
        return "spaces in base64"
    lines = [name.lower() for name, _ in request.headers]
    if len(case.rules) > 1 and len(request.tokens) > 1:
        return "good and bad tokens with several rules"
    if lines.count("x-jwt") > 1:
        return "lines of a header, which WSGI makes one of"
    if lines.count("cookie") > 1:
        return "a cookie comes twice"
    return ""


def _admitted(case: Case, request: Request, envoy: Decision, ours: Decision) -> str:
    if envoy.claims != ours.claims:
        if len(request.tokens) > 1 and ours.claims is not None:
            return "stricter: several tokens"
        return f"DIFFERENT claims: {envoy.claims} {ours.claims}"
    for name, theirs, mine in zip(SEEN, envoy.seen, ours.seen, strict=True):
        if theirs == mine:
            continue
        if name in FORGED and (theirs, mine) == (ABSENT, "forged") and name not in _outputs(case):
            continue  # Envoy's filter has the rules of all cases here, and keeps all their headers to itself
        if len(request.tokens) > 1:
            continue
        return f"DIFFERENT {name}: {theirs} {mine}"
    if _parts(envoy.target)[1] != _parts(ours.target)[1] and len(request.tokens) < 2:
        return f"DIFFERENT target: {envoy.target} {ours.target}"
    return EQUAL


def _outputs(case: Case) -> set[str]:
    found = {rule.get("outputPayloadToHeader", "") for rule in case.rules}
    return found.union(o["header"].lower() for rule in case.rules for o in rule.get("outputClaimToHeaders", ()))


def _parts(target: str) -> tuple[str, dict[str, list[str]]]:
    parts = urlsplit(f"http://x{target}")
    return parts.path, parse_qs(parts.query, keep_blank_values=True)
