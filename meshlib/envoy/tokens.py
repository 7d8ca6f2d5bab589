"""RequestAuthentications as Envoy's ``jwt_authn`` filter, as istiod writes it: a token that is there has to be valid, and
what it says is metadata that AuthorizationPolicies ask (``rbac.py``).

Keys are those that the resource holds (``jwks``). Keys that would have to be fetched, none that can be used, a rule that
cannot be read, and one of several that is ``REQUIRED`` are ``Untranslatable``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.envoy.rbac import JWT_AUTHN, Untranslatable
from meshlib.envoy.values import Json, typed

if TYPE_CHECKING:
    from meshlib.compiler.token_rules import TokenRule, TokenRules

PAYLOAD = "payload"


def token_filters(tokens: TokenRules | None) -> list[Json]:
    """None without any rule. Raises ``Untranslatable``."""
    if tokens is None:
        return []
    if tokens.unread:
        raise Untranslatable(
            f"RequestAuthentication {tokens.unread[0].resource} cannot be read: {tokens.unread[0].why}"
        )
    providers = {f"origins-{number}": _provider(rule) for number, rule in enumerate(tokens.rules)}
    made = typed(
        "filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": _requirement(tokens, list(providers))}],
        bypass_cors_preflight=True,
    )
    return [{"name": JWT_AUTHN, "typed_config": made}]


def _requirement(tokens: TokenRules, names: list[str]) -> Json:
    """Any of the providers; or each of them valid or missing."""
    required = [rule for rule in tokens.rules if rule.required]
    if required and len(names) > 1:
        raise Untranslatable(
            f"RequestAuthentication {required[0].resource}: one of several rules is REQUIRED, which has no translation to "
            "Envoy here"
        )
    if required:
        return {"provider_name": names[0]}
    optional = [{"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}} for name in names]
    if len(names) == 1:
        return optional[0]
    any_of = [{"provider_name": name} for name in names]
    return {"requires_any": {"requirements": [*any_of, {"requires_all": {"requirements": optional}}]}}


def _provider(rule: TokenRule) -> Json:
    if rule.source is not None:
        raise Untranslatable(
            f"RequestAuthentication {rule.resource}: keys that are fetched ({rule.source.url}) have no translation to Envoy "
            "here; give them as jwks"
        )
    if not rule.keys.keys:
        raise Untranslatable(f"RequestAuthentication {rule.resource}: it has no key that can be used")
    places = rule.locations
    made: Json = {
        "audiences": sorted(rule.audiences),
        "forward": rule.forward,
        "payload_in_metadata": PAYLOAD,
        "normalize_payload_in_metadata": {"space_delimited_claims": sorted(rule.split)},
        "from_headers": [{"name": name, "value_prefix": prefix} for name, prefix in places.headers],
        "from_params": list(places.parameters),
        "from_cookies": list(places.cookies),
        "claim_to_headers": [
            {"header_name": header, "claim_name": ".".join(claim)} for claim, header in rule.claim_headers
        ],
        "local_jwks": {"inline_string": rule.jwks},
    }
    if rule.issuer:
        made["issuer"] = rule.issuer
    if rule.payload_header:
        made["forward_payload_header"] = rule.payload_header
    return made
