"""The tokens of RequestAuthentications as security schemes of an OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.compiler.token_rules import TokenRule, TokenRules

AUTHORIZATION = ("authorization", "bearer ")


def with_tokens(document: dict[str, Any], rules: TokenRules | None) -> dict[str, Any]:
    """A copy of the document that says how to send the tokens that ``rules`` take: a scheme for each place of each issuer, and
    that one of them may be sent (whether one must be is an AuthorizationPolicy's to say)."""
    schemes: dict[str, Any] = {}
    for rule in () if rules is None else rules.rules:
        for kind, scheme in _schemes(rule):
            name = rule.issuer or "any issuer"
            schemes[name if name not in schemes else f"{name} ({kind})"] = scheme
    if not schemes:
        return document
    components = {**document.get("components", {})}
    components["securitySchemes"] = {**components.get("securitySchemes", {}), **schemes}
    found = {**document, "components": components}
    found.setdefault("security", [{}, *({name: []} for name in schemes)])
    return found


def _schemes(rule: TokenRule) -> list[tuple[str, Mapping[str, str]]]:
    about = f"A token of {rule.issuer}" if rule.issuer else "A token"
    if rule.audiences:
        about += f" for {', '.join(sorted(rule.audiences))}"
    found: list[tuple[str, Mapping[str, str]]] = []
    for name, prefix in rule.locations.headers:
        if (name, prefix.lower()) == AUTHORIZATION:
            scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": about}
        else:
            said = f"{about}, after {prefix!r}" if prefix else about
            scheme = {"type": "apiKey", "in": "header", "name": name, "description": said}
        found.append((f"header {name}", scheme))
    for kind, names in (("query", rule.locations.parameters), ("cookie", rule.locations.cookies)):
        found += [
            (f"{kind} {name}", {"type": "apiKey", "in": kind, "name": name, "description": about}) for name in names
        ]
    return found


def documented(
    openapi: Callable[[], dict[str, Any]], rules: Callable[[], TokenRules | None]
) -> Callable[[], dict[str, Any]]:
    """An application's ``openapi`` with the tokens that count when it is asked."""

    def with_security() -> dict[str, Any]:
        return with_tokens(openapi(), rules())

    return with_security
