"""An independent reading of how istiod turns AuthorizationPolicies into Envoy's RBAC filters (pilot/pkg/security/authz at
86c9f01): which policies are a workload's, one filter for each action, a policy of Envoy for each rule, ANDs of ORs in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.differential.authorization.cases import LABELS, NAMESPACE, ROOT, Case, Config

RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3"
TEMPLATE = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
ACTIONS = {"AUDIT": "LOG", "DENY": "DENY", "ALLOW": "ALLOW"}
NEVER = {
    "permissions": [{"not_rule": {"any": True}}],
    "principals": [{"not_id": {"any": True}}],
}
Made = Callable[[str], Config]


class Writer:
    """Writes rules of a policy in ``namespace`` for a mesh with these trust domains (the mesh's own first)."""

    def __init__(self, namespace: str, trust_domains: Sequence[str]) -> None:
        self.namespace = namespace
        self.trust_domains = list(trust_domains)

    # -- a rule -------------------------------------------------------------------------------------------------------

    def rule(self, rule: Mapping[str, Any]) -> Config:
        """Envoy's Policy: any of the permissions and any of the principals, each an AND."""
        conditions_to, conditions_from = self._conditions(rule.get("when") or ())
        permissions = [self._permission(to.get("operation") or {}, conditions_to) for to in (rule.get("to") or ({},))]
        principals = [self._principal(of.get("source") or {}, conditions_from) for of in (rule.get("from") or ({},))]
        return {
            "permissions": [{"and_rules": {"rules": found or [{"any": True}]}} for found in permissions],
            "principals": [{"and_ids": {"ids": found or [{"any": True}]}} for found in principals],
        }

    def _conditions(self, conditions: Iterable[Mapping[str, Any]]) -> tuple[list[Config], list[Config]]:
        permissions: list[Config] = []
        principals: list[Config] = []
        for when in conditions:
            key, values, not_values = when["key"], when.get("values") or (), when.get("notValues") or ()
            if key == "destination.ip":
                permissions += _listed(values, not_values, destination_ip, of_rules)
            elif key == "destination.port":
                permissions += _listed(values, not_values, destination_port, of_rules)
            elif key == "connection.sni":
                permissions += _listed(values, not_values, sni, of_rules)
            elif key.startswith("experimental.envoy.filters."):
                permissions += _whole(values, not_values, lambda v, key=key: filter_metadata(key, v), "not_rule")
            else:
                principals += self._condition_of_source(key, values, not_values)
        return permissions, principals

    def _condition_of_source(self, key: str, values: Sequence[str], not_values: Sequence[str]) -> list[Config]:
        plain: dict[str, Made] = {
            "source.ip": direct_ip,
            "remote.ip": remote_ip,
            "source.namespace": namespace,
            "source.serviceAccount": self.service_account,
        }
        if key in plain:
            return _listed(values, not_values, plain[key], of_ids)
        if key == "source.principal":
            return _listed(self.principals(values), self.principals(not_values), principal, of_ids)
        if key == "source.trustDomain":
            return _listed(self.domains(values), self.domains(not_values), trust_domain, of_ids)
        if key == "request.auth.principal":
            return _whole(values, not_values, request_principals, "not_id")
        if key == "request.auth.audiences":
            return _whole(values, not_values, lambda v: claim(["aud"], v), "not_id")
        if key == "request.auth.presenter":
            return _whole(values, not_values, lambda v: claim(["azp"], v), "not_id")
        if key.startswith("request.headers["):
            name = key.removeprefix("request.headers[").removesuffix("]")
            return _listed(values, not_values, lambda value: {"header": header(name, value)}, of_ids)
        if key.startswith("request.auth.claims["):
            path = key.removeprefix("request.auth.claims[").removesuffix("]").split("][")
            return _whole(values, not_values, lambda v: claim(path, v), "not_id")
        raise ValueError(key)

    def _permission(self, operation: Mapping[str, Any], conditions: Sequence[Config]) -> list[Config]:
        def field(name: str, made: Made) -> list[Config]:
            negative = f"not{name[0].upper()}{name[1:]}"
            return _listed(operation.get(name) or (), operation.get(negative) or (), made, of_rules)

        return [
            *field("hosts", lambda value: {"header": header(":authority", value, ignore_case=True)}),
            *field("methods", lambda value: {"header": header(":method", value)}),
            *field("paths", path),
            *field("ports", destination_port),
            *conditions,
        ]

    def _principal(self, source: Mapping[str, Any], conditions: Sequence[Config]) -> list[Config]:
        def pair(name: str) -> tuple[Sequence[str], Sequence[str]]:
            return source.get(name) or (), source.get(f"not{name[0].upper()}{name[1:]}") or ()

        principals, not_principals = pair("principals")
        domains, not_domains = pair("trustDomains")
        return [
            *_listed(self.principals(principals), self.principals(not_principals), principal, of_ids),
            *_whole(*pair("requestPrincipals"), request_principals, "not_id"),
            *_listed(*pair("serviceAccounts"), self.service_account, of_ids),
            *_listed(self.domains(domains), self.domains(not_domains), trust_domain, of_ids),
            *_listed(*pair("namespaces"), namespace, of_ids),
            *_listed(*pair("remoteIpBlocks"), remote_ip, of_ids),
            *_listed(*pair("ipBlocks"), direct_ip, of_ids),
            *conditions,
        ]

    # -- trust domains ------------------------------------------------------------------------------------------------

    def principals(self, values: Iterable[str]) -> list[str]:
        """Principals of this mesh (or of ``cluster.local``, which always means this mesh) under each of its names."""
        found: list[str] = []
        for value in values:
            domain, *rest = value.split("/")
            ours = domain == "cluster.local" or any(_either(domain, known) for known in self.trust_domains)
            if len(rest) != 4 or domain == "*" or not ours:
                found.append(value)
                continue
            made = [
                value if domain.startswith("*") and known.endswith(domain[1:]) else "/".join((known, *rest))
                for known in self.trust_domains
            ]
            found += dict.fromkeys(made)
        return found

    def domains(self, values: Iterable[str]) -> list[str]:
        found: list[str] = []
        for value in values:
            found += self.trust_domains if value in self.trust_domains else [value]
        return list(dict.fromkeys(found))

    def service_account(self, value: str) -> Config:
        space, slash, account = value.partition("/")
        if not slash:
            space, account = self.namespace, value
        return authenticated(
            {"safe_regex": {"regex": f"spiffe://.+/ns/{quoted(space)}/(.+/|)sa/{quoted(account)}(/.+)?"}}
        )


def _either(one: str, other: str) -> bool:
    """Equal, or either is a pattern that takes the other."""

    def takes(pattern: str, text: str) -> bool:
        return (pattern.endswith("*") and text.startswith(pattern[:-1])) or (
            pattern.startswith("*") and text.endswith(pattern[1:])
        )

    return one == other or other == "*" or takes(one, other) or takes(other, one)


# -- lists of values -------------------------------------------------------------------------------------------------


def of_rules(found: Sequence[Config], negative: bool) -> Config:
    """An OR of permissions, or its NOT."""
    either: Config = {"or_rules": {"rules": list(found)}}
    return {"not_rule": either} if negative else either


def of_ids(found: Sequence[Config], negative: bool) -> Config:
    """An OR of principals, or its NOT."""
    either: Config = {"or_ids": {"ids": list(found)}}
    return {"not_id": either} if negative else either


def _listed(values: Sequence[str], not_values: Sequence[str], made: Made, joined: Any) -> list[Config]:
    found = [joined([made(value) for value in values], False)] if values else []
    return found + ([joined([made(value) for value in not_values], True)] if not_values else [])


def _whole(values: Sequence[str], not_values: Sequence[str], made: Any, negation: str) -> list[Config]:
    found: list[Config] = [made(values)] if values else []
    return found + ([{negation: made(not_values)}] if not_values else [])


# -- one value -------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """``text`` inside a regular expression of RE2."""
    return "".join(f"\\{c}" if c in r"\.+*?()|[]{}^$" else c for c in text)


def pattern(value: str, prefix: str = "") -> Config:
    """Istio's ``*``, ``*suffix``, ``prefix*`` and exact values; ``prefix`` stands before all but the bare ``*``."""
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        if prefix:
            return {"safe_regex": {"regex": f"{prefix}.*{quoted(value[1:])}"}}
        return {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": prefix + value[:-1]}
    return {"exact": prefix + value}


def header(name: str, value: str, ignore_case: bool = False) -> Config:
    if value == "*":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": {**pattern(value), "ignore_case": ignore_case}}


def path(value: str) -> Config:
    if "{*}" in value or "{**}" in value:
        template = value.replace("{*}", "*").replace("{**}", "**")
        return {
            "uri_template": {"name": "uri-template", "typed_config": {"@type": TEMPLATE, "path_template": template}}
        }
    return {"url_path": {"path": pattern(value)}}


def sni(value: str) -> Config:
    return {"requested_server_name": pattern(value)}


def destination_port(value: str) -> Config:
    return {"destination_port": int(value)}


def _cidr(value: str) -> Config:
    network = ipaddress.ip_network(value, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}


def destination_ip(value: str) -> Config:
    return {"destination_ip": _cidr(value)}


def direct_ip(value: str) -> Config:
    return {"direct_remote_ip": _cidr(value)}


def remote_ip(value: str) -> Config:
    return {"remote_ip": _cidr(value)}


def authenticated(name: Config) -> Config:
    return {"authenticated": {"principal_name": name}}


def principal(value: str) -> Config:
    return authenticated(pattern(value, "spiffe://"))


def namespace(value: str) -> Config:
    inner = ".*".join(quoted(part) for part in value.split("*"))
    return authenticated({"safe_regex": {"regex": f".*/ns/{inner}/.*"}})


def trust_domain(value: str) -> Config:
    if value == "*":
        return authenticated({"prefix": "spiffe://"})
    if "*" not in value:
        return authenticated({"prefix": f"spiffe://{value}/"})
    before, _, after = value.partition("*")
    return authenticated({"safe_regex": {"regex": f"spiffe://{quoted(before)}[^/]*{quoted(after)}/.*"}})


def _metadata(keys: Sequence[str], value: Config) -> Config:
    path = [{"key": key} for key in ("payload", *keys)]
    return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}}


def claim(keys: Sequence[str], values: Sequence[str]) -> Config:
    """A claim that is one of ``values``, or a list that has one of them."""
    found = [{"string_match": pattern(value)} for value in values]
    any_of = found[0] if len(found) == 1 else {"or_match": {"value_matchers": found}}
    return _metadata(keys, {"or_match": {"value_matchers": [{"list_match": {"one_of": any_of}}, any_of]}})


def request_principals(values: Sequence[str]) -> Config:
    found = []
    for value in values:
        issuer, subject = _issuer_and_subject(value)
        both = [_metadata(["iss"], {"string_match": issuer}), _metadata(["sub"], {"string_match": subject})]
        found.append({"and_ids": {"ids": both}})
    return found[0] if len(found) == 1 else {"or_ids": {"ids": found}}


def _issuer_and_subject(value: str) -> tuple[Config, Config]:
    """Split at the last slash; what a ``*`` on one side leaves open is anything that is not empty."""
    anything: Config = {"safe_regex": {"regex": ".+"}}
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        issuer, subject = value, ""
    if value == "*":
        return anything, anything
    if value.startswith("*"):
        if not slash:
            return anything, {"suffix": value[1:]}
        return (anything if issuer == "*" else {"suffix": issuer[1:]}), {"exact": subject}
    if value.endswith("*"):
        if not slash:
            return {"prefix": value[:-1]}, anything
        return {"exact": issuer}, (anything if subject == "*" else {"prefix": subject[:-1]})
    return {"exact": issuer}, {"exact": subject}


def filter_metadata(key: str, values: Sequence[str]) -> Config:
    name, _, inner = key.removeprefix("experimental.").removesuffix("]").partition("[")
    found = [
        {"list_match": {"one_of": {"string_match": pattern(value[1:-1])}}}
        if value.startswith("[") and value.endswith("]")
        else {"string_match": pattern(value)}
        for value in values
    ]
    any_of = found[0] if len(found) == 1 else {"or_match": {"value_matchers": found}}
    return {"metadata": {"filter": name, "path": [{"key": inner}], "value": any_of}}


# -- a workload ------------------------------------------------------------------------------------------------------


def applies(policy: Config) -> bool:
    """To the workload of the cases: it is of its namespace or of the root one, and its selector takes the workload."""
    wanted = ((policy["spec"].get("selector") or {}).get("matchLabels") or {}).items()
    refs = policy["spec"].get("targetRefs") or policy["spec"].get("targetRef")
    return (
        policy["metadata"]["namespace"] in (ROOT, NAMESPACE)
        and not refs
        and all(LABELS.get(name) == value for name, value in wanted)
    )


def rbac(case: Case) -> dict[str, Config]:
    """By action, Envoy's filter; an action without policies has none."""
    found: dict[str, Config] = {}
    for action, theirs in ACTIONS.items():
        enforced: Config | None = None
        shadow: Config | None = None
        for policy in case.policies:
            if policy["spec"].get("action", "ALLOW") != action or not applies(policy):
                continue
            dry = policy["metadata"].get("annotations", {}).get("istio.io/dry-run") == "true"
            if dry:
                shadow = target = shadow or {"action": theirs, "policies": {}}
            else:
                enforced = target = enforced or {"action": theirs, "policies": {}}
            target["policies"].update(_policies(policy, [case.trust_domain, *case.aliases]))
        if enforced is not None or shadow is not None:
            found[action] = {"@type": f"{RBAC}.RBAC"}
            if enforced is not None:
                found[action]["rules"] = enforced
            if shadow is not None:
                found[action] |= {"shadow_rules": shadow, "shadow_rules_stat_prefix": "dry_"}
    return found


def _policies(policy: Config, trust_domains: Sequence[str]) -> dict[str, Config]:
    name, space = policy["metadata"]["name"], policy["metadata"]["namespace"]
    rules = policy["spec"].get("rules") or ()
    writer = Writer(space, trust_domains)
    if not rules:
        return {f"ns[{space}]-policy[{name}]-rule[0]": NEVER}
    return {f"ns[{space}]-policy[{name}]-rule[{n}]": writer.rule(rule) for n, rule in enumerate(rules)}
