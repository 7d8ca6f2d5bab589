"""AuthorizationPolicies as Envoy's RBAC filters: one for each action, a policy of Envoy for each rule, as istiod writes them.

What is judged is what the compiler has made of the resources (``policy/authorization/rules.py``: trust domains and their
aliases are in it already). What has no translation refuses the whole (``Untranslatable``): a policy is never left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from meshlib.envoy.values import EXTENSIONS, Json, typed
from meshlib.policy.authorization.tokens import claim_names
from meshlib.policy.regex import quoted

if TYPE_CHECKING:
    from meshlib.policy.authorization.decision import Authorization
    from meshlib.policy.authorization.rules import Clause, Condition, Policy, Rule

RBAC = "envoy.filters.http.rbac"
JWT_AUTHN = "envoy.filters.http.jwt_authn"
NETWORK_RBAC = "envoy.filters.network.rbac"
ACTIONS = ("DENY", "ALLOW")
"""In Istio's order. AUDIT decides nothing."""
TEMPLATE = f"{EXTENSIONS}path.match.uri_template.v3.UriTemplateMatchConfig"
NEVER: Json = {"permissions": [{"not_rule": {"any": True}}], "principals": [{"not_id": {"any": True}}]}
"""The rule of a policy without rules."""
EVERYBODY: Json = {"permissions": [{"any": True}], "principals": [{"any": True}]}
SCHEME = "spiffe://"


class Untranslatable(Exception):
    """Security that Envoy is not told here; says what and where. Whoever meets it lets nobody in."""


def rbac_filters(authorization: Authorization | None, port: int = 0) -> list[Json]:
    """In the order in which they act; none where nothing is to be judged. ``port``: the one that policies know the application
    by, wherever the proxy listens; 0: the listener's own. Raises ``Untranslatable``."""
    if authorization is None:
        return []
    found = []
    for action in ACTIONS:
        theirs = [policy for policy in authorization.policies if policy.action == action]
        made = typed("filters.http.rbac.v3.RBAC")
        for name, chosen in (
            ("rules", [policy for policy in theirs if not policy.dry_run]),
            ("shadow_rules", [policy for policy in theirs if policy.dry_run]),
        ):
            if chosen:
                made[name] = {"action": action, "policies": _policies(chosen, port)}
        if "shadow_rules" in made:
            made["shadow_rules_stat_prefix"] = f"istio_dry_run_{action.lower()}_"
        if theirs:
            found.append({"name": RBAC, "typed_config": made})
    return found


def network_filters(authorization: Authorization | None, port: int, stat: str) -> list[Json]:
    """Of connections of which no requests are seen: policies as ``compiler/connection_authorization.py`` has them. Raises
    ``Untranslatable``."""
    found = []
    for action in ACTIONS if authorization is not None else ():
        assert authorization is not None
        theirs = [policy for policy in authorization.policies if policy.action == action and not policy.dry_run]
        policies: Json = {}
        for policy in theirs:
            clauses = [clause for rule in policy.rules for clause in rule.clauses()]
            for number, clause in enumerate(clauses):
                policies[f"ns[{policy.namespace}]-policy[{policy.name}]-{number}"] = _connection(clause, port)
            if not clauses:
                policies[f"ns[{policy.namespace}]-policy[{policy.name}]"] = NEVER
        if theirs:
            rules = {"action": action, "policies": policies}
            made = typed("filters.network.rbac.v3.RBAC", rules=rules, stat_prefix=stat)
            found.append({"name": NETWORK_RBAC, "typed_config": made})
    return found


def _connection(clause: Clause, port: int) -> Json:
    permissions = [condition for condition in clause if condition.key in PERMISSIONS]
    principals = [condition for condition in clause if condition.key not in PERMISSIONS]
    return {
        "permissions": [{"and_rules": {"rules": _all(permissions, "rule", port) or [{"any": True}]}}],
        "principals": [{"and_ids": {"ids": _all(principals, "id", port) or [{"any": True}]}}],
    }


def nobody() -> Json:
    """The filter that lets nobody in."""
    rules = {"action": "DENY", "policies": {"all": EVERYBODY}}
    return {"name": RBAC, "typed_config": typed("filters.http.rbac.v3.RBAC", rules=rules)}


def _policies(policies: Iterable[Policy], port: int) -> Json:
    found: Json = {}
    for policy in policies:
        named = f"ns[{policy.namespace}]-policy[{policy.name}]-rule"
        if not policy.rules:
            found[f"{named}[0]"] = NEVER
        for number, rule in enumerate(policy.rules):
            try:
                found[f"{named}[{number}]"] = _rule(rule, port)
            except Untranslatable as error:
                raise Untranslatable(f"AuthorizationPolicy {policy.id} rules[{number}]: {error}") from None
    return found


def _rule(rule: Rule, port: int) -> Json:
    """Any of the permissions and any of the principals, each an AND."""
    of_rules = [c for c in rule.when if c.key in PERMISSIONS]
    of_ids = [c for c in rule.when if c.key not in PERMISSIONS]
    permissions = [[*clause, *of_rules] for clause in rule.operations or ((),)]
    principals = [[*clause, *of_ids] for clause in rule.sources or ((),)]
    return {
        "permissions": [{"and_rules": {"rules": _all(each, "rule", port) or [{"any": True}]}} for each in permissions],
        "principals": [{"and_ids": {"ids": _all(each, "id", port) or [{"any": True}]}} for each in principals],
    }


def _all(conditions: Iterable[Condition] | Clause, kind: str, port: int) -> list[Json]:
    """What must hold; ``kind`` is "rule" (of permissions) or "id" (of principals)."""
    found = []
    for condition in conditions:
        make = _made(condition, port)
        if condition.values:
            found.append(_any(make, condition.values, kind))
        if condition.not_values:
            found.append({f"not_{kind}": _any(make, condition.not_values, kind)})
    return found


def _any(make: Callable[[str], Json], values: Sequence[str], kind: str) -> Json:
    return {f"or_{kind}s": {f"{kind}s": [make(value) for value in values]}}


def _made(condition: Condition, port: int) -> Callable[[str], Json]:
    key = condition.key
    if key == "destination.port" and port:
        return lambda value: {"any": True} if int(value) == port else {"not_rule": {"any": True}}
    found = PERMISSIONS.get(key) or PRINCIPALS.get(key)
    if found is not None:
        return found
    if key.startswith("request.headers[") and key.endswith("]"):
        name = key[len("request.headers[") : -1].lower()
        return lambda value: {"header": _header(":authority" if name == "host" else name, value)}
    if key in CLAIMS:
        return lambda value: _claim((CLAIMS[key],), value)
    if key.startswith("request.auth.claims[") and key.endswith("]"):
        names = claim_names(key[len("request.auth.claims") :])
        return lambda value: _claim(names, value)
    raise Untranslatable(f"{condition.name} has no translation to Envoy here; --engine meshlib does it")


# -- one value --------------------------------------------------------------------------------------------------------


def _pattern(value: str, before: str = "") -> Json:
    """``*``, ``*suffix``, ``prefix*`` and exact ones; ``before`` stands before all but the bare ``*``."""
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        return {"safe_regex": {"regex": f"{before}.*{quoted(value[1:])}"}} if before else {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": before + value[:-1]}
    return {"exact": before + value}


def _header(name: str, value: str, *, any_case: bool = False) -> Json:
    if value == "*":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": {**_pattern(value), **({"ignore_case": True} if any_case else {})}}


def _path(value: str) -> Json:
    if "{*}" in value or "{**}" in value:
        template = value.replace("{**}", "**").replace("{*}", "*")
        config = {"@type": TEMPLATE, "path_template": template}
        return {"uri_template": {"name": "uri-template", "typed_config": config}}
    return {"url_path": {"path": _pattern(value)}}


def _cidr(value: str) -> Json:
    network = ipaddress.ip_network(value, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}


def _authenticated(name: Json) -> Json:
    return {"authenticated": {"principal_name": name}}


def _by_regex(regex: str) -> Json:
    return _authenticated({"safe_regex": {"regex": regex}})


def _namespace(value: str) -> Json:
    return _by_regex(f".*/ns/{'.*'.join(quoted(part) for part in value.split('*'))}/.*")


def _service_account(value: str) -> Json:
    namespace, _, account = value.partition("/")
    return _by_regex(f"{SCHEME}.+/ns/{quoted(namespace)}/(.+/|)sa/{quoted(account)}(/.+)?")


def _trust_domain(value: str) -> Json:
    if value == "*":
        return _authenticated({"prefix": SCHEME})
    if "*" not in value:
        return _authenticated({"prefix": f"{SCHEME}{value}/"})
    before, _, after = value.partition("*")
    return _by_regex(f"{SCHEME}{quoted(before)}[^/]*{quoted(after)}/.*")


def _metadata(names: Sequence[str], value: Json) -> Json:
    path = [{"key": name} for name in ("payload", *names)]
    return {"metadata": {"filter": JWT_AUTHN, "path": path, "value": value}}


def _claim(names: Sequence[str], value: str) -> Json:
    """A claim that is this value, or a list that has it."""
    one = {"string_match": _pattern(value)}
    return _metadata(names, {"or_match": {"value_matchers": [{"list_match": {"one_of": one}}, one]}})


def _request_principal(value: str) -> Json:
    """``issuer/subject``, apart at the last slash; what a ``*`` leaves open is anything that is not empty."""
    anything: Json = {"safe_regex": {"regex": ".+"}}
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        of_issuer = of_subject = anything
    elif value.startswith("*"):
        of_issuer = anything if issuer in ("", "*") else {"suffix": issuer[1:]}
        of_subject = {"exact": subject} if slash else {"suffix": value[1:]}
    elif value.endswith("*"):
        of_issuer = {"exact": issuer} if slash else {"prefix": value[:-1]}
        of_subject = anything if subject == "*" or not slash else {"prefix": subject[:-1]}
    else:
        of_issuer, of_subject = {"exact": issuer if slash else value}, {"exact": subject if slash else ""}
    both = [_metadata(["iss"], {"string_match": of_issuer}), _metadata(["sub"], {"string_match": of_subject})]
    return {"and_ids": {"ids": both}}


CLAIMS = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}
PERMISSIONS: dict[str, Callable[[str], Json]] = {
    "hosts": lambda value: {"header": _header(":authority", value, any_case=True)},
    "methods": lambda value: {"header": _header(":method", value)},
    "paths": _path,
    "destination.port": lambda value: {"destination_port": int(value)},
    "destination.ip": lambda value: {"destination_ip": _cidr(value)},
    "connection.sni": lambda value: {"requested_server_name": _pattern(value)},
}
PRINCIPALS: dict[str, Callable[[str], Json]] = {
    "source.ip": lambda value: {"direct_remote_ip": _cidr(value)},
    "remote.ip": lambda value: {"remote_ip": _cidr(value)},
    "source.principal": lambda value: _authenticated(_pattern(value, SCHEME)),
    "source.namespace": _namespace,
    "source.serviceAccount": _service_account,
    "source.trustDomain": _trust_domain,
    "request.auth.principal": _request_principal,
}
"""By the key of a condition; headers and claims by their names beside. Envoy's metadata is not among them."""
