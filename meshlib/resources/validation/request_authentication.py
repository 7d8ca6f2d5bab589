"""What Istio refuses, or warns of, in a RequestAuthentication whose types are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.policy.secret_values import url_shown
from meshlib.resources.jwks import jwks_problem, secret_keys
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.urls import BadUrl, scheme_of
from meshlib.resources.validation.headers import header_name
from meshlib.resources.validation.selection import selection_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.request_authentication import JwtRule, RequestAuthentication

_RULES: Loc = ("spec", "jwtRules")
_HEADER = re.compile(r"[-_A-Za-z0-9]+")
_PORT = re.compile(r"https?://(?:[^/?#]*@)?(?:\[[^/?#]*\]|[^/?#:]*):([0-9]+)(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)
_EXAMPLE = "for example https://idp.example.com/.well-known/jwks.json"


def refusals(resource: RequestAuthentication) -> Iterator[Notice]:
    """Errors of the selection, then of the rules in their order."""
    spec = resource.spec
    yield from selection_refusals(spec.selector, spec.target_ref, spec.target_refs)
    for index, rule in enumerate(spec.jwt_rules or ()):
        yield from _rule(rule, (*_RULES, index))


def warnings(resource: RequestAuthentication) -> Iterator[Notice]:
    """A selector of nothing, and secrets in a key set that everybody may read."""
    spec = resource.spec
    if spec.selector is not None:
        yield from selector_warnings(spec.selector.match_labels, ("spec", "selector"))
    for index, rule in enumerate(spec.jwt_rules or ()):
        for position in secret_keys(rule.jwks) if rule.jwks else ():
            yield warned(
                "private-key",
                (*_RULES, index, "jwks"),
                f"key {position} of jwks is a secret; public keys are all that verifying needs",
                "remove the key, which is not a secret any more, and make a new one",
            )


def _rule(rule: JwtRule, loc: Loc) -> Iterator[Notice]:
    if not rule.issuer and not rule.jwks_uri:
        yield refused(
            "missing-issuer", loc, "neither issuer nor jwksUri is given", "name the issuer that tokens have as iss"
        )
    for field, values in (
        ("audiences", rule.audiences),
        ("fromParams", rule.from_params),
        ("fromCookies", rule.from_cookies),
    ):
        for index, value in enumerate(values or ()):
            if not value:
                yield refused("empty-value", (*loc, field, index), f"an entry of {field} is empty", "remove it")
    for index, header in enumerate(rule.from_headers or ()):
        if not header.name:
            yield refused("missing-name", (*loc, "fromHeaders", index, "name"), "the header has no name", "name it")
        else:
            yield from header_name(header.name, (*loc, "fromHeaders", index, "name"))
    if rule.output_payload_to_header:
        yield from header_name(rule.output_payload_to_header, (*loc, "outputPayloadToHeader"))
    if rule.jwks_uri and (problem := _uri_problem(rule.jwks_uri)):
        yield refused(
            "bad-url", (*loc, "jwksUri"), f"{url_shown(rule.jwks_uri)!r} is not a URL of keys: {problem}", _EXAMPLE
        )
    if rule.jwks and (problem := jwks_problem(rule.jwks)):
        yield refused("bad-jwks", (*loc, "jwks"), f"jwks is not a key set: {problem}", 'for example {"keys": [...]}')
    for index, output in enumerate(rule.output_claim_to_headers or ()):
        here: Loc = (*loc, "outputClaimToHeaders", index)
        missing = [name for name in ("claim", "header") if not getattr(output, name)]
        if missing:
            yield refused(
                "missing-name", (*here, missing[0]), f"{missing[0]} is empty", "name the claim and its header"
            )
        elif not _HEADER.fullmatch(output.header):
            yield refused(
                "bad-header-name",
                (*here, "header"),
                f"{output.header!r} is not a header name",
                "letters, digits, - and _",
            )


def _uri_problem(text: str) -> str:
    try:
        scheme = scheme_of(text)
    except BadUrl as error:
        return str(error)
    if scheme not in ("http", "https"):
        return f"its scheme is {scheme!r}" if scheme else "it has no scheme"
    port = _PORT.fullmatch(text)
    return "its port is too large" if port and len(port[1].lstrip("0")) > 18 else ""
