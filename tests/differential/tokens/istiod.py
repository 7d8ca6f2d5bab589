"""What istiod makes of the rules of RequestAuthentications for Envoy's ``jwt_authn``."""

from __future__ import annotations

from typing import Any

JWT_AUTHN = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3"

Config = dict[str, Any]


def provider(rule: Config) -> Config:
    """One rule, whose keys are inline."""
    made: Config = {
        "issuer": rule.get("issuer", ""),
        "audiences": rule.get("audiences", []),
        "forward": rule.get("forwardOriginalToken", False),
        "forward_payload_header": rule.get("outputPayloadToHeader", ""),
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {
            "space_delimited_claims": sorted({"scope", "permission", *rule.get("spaceDelimitedClaims", ())})
        },
        "claim_to_headers": [
            {"header_name": output["header"], "claim_name": output["claim"]}
            for output in rule.get("outputClaimToHeaders", ())
        ],
        "from_headers": [
            {"name": header["name"], "value_prefix": header.get("prefix", "")} for header in rule.get("fromHeaders", ())
        ],
        "from_params": rule.get("fromParams", []),
        "from_cookies": rule.get("fromCookies", []),
        "local_jwks": {"inline_string": rule["jwks"]},
    }
    return made


def requirement(names: list[str]) -> Config:
    """Any of the providers; or each of them valid or missing."""
    optional = [{"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}} for name in names]
    if len(names) == 1:
        return optional[0]
    any_of = [{"provider_name": name} for name in names]
    return {"requires_any": {"requirements": [*any_of, {"requires_all": {"requirements": optional}}]}}


def jwt_authn(cases: list[list[Config]]) -> Config:
    """One filter for many lists of rules; requirement ``n`` is that of list n."""
    providers, requirements = {}, {}
    for number, rules in enumerate(cases):
        names = []
        for position, rule in enumerate(sorted(rules, key=lambda rule: rule.get("issuer", ""))):
            names.append(f"{number}-origins-{position}")
            providers[names[-1]] = provider(rule)
        requirements[str(number)] = requirement(names)
    return {
        "@type": f"{JWT_AUTHN}.JwtAuthentication",
        "providers": providers,
        "requirement_map": requirements,
        "bypass_cors_preflight": True,
    }
