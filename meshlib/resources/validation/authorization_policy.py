"""What Istio refuses, or warns of, in an AuthorizationPolicy whose types are right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.addresses import address_problem
from meshlib.resources.model_fields import field_names
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.headers import NAME_HINT, is_header_name
from meshlib.resources.validation.selection import selection_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.authorization_policy import AuthorizationPolicy, Operation, RulesWhen, Source

_SPEC: Loc = ("spec",)
_EMPTY_RULE = "write rules: [{}] to have it act on every request"
_NO_ENTRIES = "leave the field out, or give it entries"

# -- values: each function says what is wrong with one, "" when nothing is

Problem = Callable[[str], str]
_LONGEST_ACCOUNT = 320
_MOST_ACCOUNTS = 16
_LITERAL = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")
_PORT = re.compile(r"[0-9]+")


def _port(value: str) -> str:
    return "" if _PORT.fullmatch(value) and len(value.lstrip("0")) <= 5 and int(value) <= 65535 else "it is not a port"


def _wildcard(value: str) -> str:
    if value.count("*") > 1:
        return "it has more than one *"
    if "*" in value and not value.startswith("*") and not value.endswith("*"):
        return "a * stands at the beginning or at the end"
    return ""


def _trust_domain(value: str) -> str:
    return _wildcard(value) or ("a trust domain has no /" if "/" in value else "")


def _account(value: str) -> str:
    if "*" in value:
        return "a service account has no wildcards"
    if value.count("/") > 1 or value.startswith("/") or value.endswith("/"):
        return "it is neither a service account nor namespace/service-account"
    return f"it is longer than {_LONGEST_ACCOUNT} characters" if len(value.encode()) > _LONGEST_ACCOUNT else ""


def _path(value: str) -> str:
    """A template has whole segments {*} and, last of them, {**}; its other segments are plain characters of a path."""
    is_template = "{*}" in value or "{**}" in value
    any_depth = False
    for segment in value.strip("/").split("/"):
        if segment in ("{*}", "{**}"):
            if any_depth:
                return "{**} must be the last operator"
            any_depth = segment == "{**}"
        elif "{" in segment or "}" in segment:
            return "braces are for the whole segments {*} and {**} only"
        elif is_template and not _LITERAL.fullmatch(segment):
            return f"{segment!r} is not a plain segment of a path, which all others of a template are"
    return ""


def _any(value: str) -> str:
    return ""


_SOURCE: dict[str, Problem] = {
    "principals": _any,
    "request_principals": _any,
    "namespaces": _any,
    "service_accounts": _account,
    "trust_domains": _trust_domain,
    "ip_blocks": address_problem,
    "remote_ip_blocks": address_problem,
}
_OPERATION: dict[str, Problem] = {"ports": _port, "methods": _any, "paths": _path, "hosts": _any}
_HINTS = {
    address_problem: "for example 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32",
    _port: 'a number 0..65535 in quotes, for example "8080"; list each port',
    _account: "for example reviews, or prod/reviews",
    _trust_domain: "for example cluster.local, or *.example.com",
    _wildcard: "one * for anything, prefix* or *suffix",
    _path: "for example /users/{*}/cart or /static/{**}; a path without operators may end or begin with *",
}
_NOT_WITH_CUSTOM = ("namespaces", "service_accounts", "trust_domains", "principals", "request_principals")
_TCP_SOURCE = ("principals", "ip_blocks", "namespaces", "remote_ip_blocks", "service_accounts")  # not_ ones too

# -- conditions: key -> its values

_PLAIN_KEYS: dict[str, Problem] = {
    "source.ip": address_problem,
    "remote.ip": address_problem,
    "source.namespace": _any,
    "source.serviceAccount": _account,
    "source.principal": _any,
    "source.trustDomain": _wildcard,
    "request.auth.principal": _any,
    "request.auth.audiences": _any,
    "request.auth.presenter": _any,
    "destination.ip": address_problem,
    "destination.port": _port,
    "connection.sni": _any,
}
_MAP_KEYS = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_FORMER_KEYS = {
    "destination.namespace": "put the policy into that namespace",
    "destination.name": "select the workloads with selector",
    "destination.user": "select the workloads with selector",
}
_CUSTOM_WITHOUT_KEYS = ("source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal")


def refusals(resource: AuthorizationPolicy) -> Iterator[Notice]:
    """Errors of the whole policy, then of its rules in their order."""
    spec = resource.spec
    yield from selection_refusals(spec.selector, spec.target_ref, spec.target_refs)
    action = spec.action or "ALLOW"
    if action == "CUSTOM":
        if not spec.rules:
            yield refused("no-rules", (*_SPEC, "rules"), "CUSTOM without rules never acts", _EMPTY_RULE)
        elif spec.provider is None or not spec.provider.name:
            yield refused(
                "missing-provider",
                (*_SPEC, "provider"),
                "CUSTOM needs provider.name",
                "name one of the extensionProviders of the mesh's configuration",
            )
    else:
        if spec.provider is not None:
            yield refused(
                "provider-without-custom",
                (*_SPEC, "provider"),
                f"provider has no meaning with action {action}",
                "write action: CUSTOM, or remove provider",
            )
        if action == "DENY" and not spec.rules:
            yield refused("no-rules", (*_SPEC, "rules"), "DENY without rules never acts", _EMPTY_RULE)
    for index, rule in enumerate(spec.rules or ()):
        here: Loc = (*_SPEC, "rules", index)
        for position, entry in enumerate(rule.from_ or ()):
            yield from _source(entry.source, (*here, "from", position, "source"), action)
        for position, target in enumerate(rule.to or ()):
            yield from _operation(target.operation, (*here, "to", position, "operation"))
        for position, condition in enumerate(rule.when or ()):
            yield from _condition(condition, (*here, "when", position), action)


def warnings(resource: AuthorizationPolicy) -> Iterator[Notice]:
    """A selector of nothing, and a DENY that HTTP alone can match: it closes TCP ports, whatever they carry."""
    spec = resource.spec
    if spec.selector is not None:
        yield from selector_warnings(spec.selector.match_labels, (*_SPEC, "selector"))
    if spec.action != "DENY":
        return
    for index, rule in enumerate(spec.rules or ()):
        sources = [entry.source for entry in rule.from_ or () if entry.source is not None]
        operations = [entry.operation for entry in rule.to or () if entry.operation is not None]
        tcp_from = any(getattr(s, f) for s in sources for name in _TCP_SOURCE for f in (name, f"not_{name}"))
        tcp_to = any(o.ports or o.not_ports for o in operations)
        if (sources and not operations and not tcp_from) or (operations and not tcp_to):
            yield warned(
                "deny-all-tcp",
                (*_SPEC, "rules", index),
                "this DENY is about HTTP only, and so refuses everything on TCP ports",
                "name the ports it is for: to: [{operation: {ports: [...]}}]",
            )


def _source(source: Source | None, loc: Loc, action: str) -> Iterator[Notice]:
    if source is None:
        yield refused("empty-source", loc[:-1], "source is missing", "write from: [{source: {principals: [...]}}]")
        return
    names = field_names(type(source))
    given = [yaml for yaml, attribute in names.items() if getattr(source, attribute)]
    if not given:
        yield refused("empty-source", loc, "source names nothing", "remove the entry, or name principals, ipBlocks ...")
    if source.service_accounts or source.not_service_accounts:
        for attribute in ("principals", "not_principals", "namespaces", "not_namespaces"):
            if getattr(source, attribute):
                name = _yaml_name(names, attribute)
                yield refused(
                    "service-accounts-and-others",
                    (*loc, name),
                    f"serviceAccounts and {name} exclude each other",
                    "serviceAccounts: [prod/reviews] has the namespace in it",
                )
    for attribute, problem in _SOURCE.items():
        for field in (attribute, f"not_{attribute}"):
            name = _yaml_name(names, field)
            values = getattr(source, field)
            if action == "CUSTOM" and values and attribute in _NOT_WITH_CUSTOM:
                yield refused(
                    "not-with-custom",
                    (*loc, name),
                    f"{name} cannot be used with action CUSTOM",
                    "let the provider check it",
                )
            yield from _values(values, problem, (*loc, name))


def _operation(operation: Operation | None, loc: Loc) -> Iterator[Notice]:
    if operation is None:
        yield refused(
            "empty-operation",
            loc[:-1],
            "operation is missing",
            "write to: [{operation: {methods: [GET]}}], for example",
        )
        return
    names = field_names(type(operation))
    if not any(getattr(operation, attribute) for attribute in names.values()):
        yield refused(
            "empty-operation",
            loc,
            "operation names nothing",
            "remove the entry, or name methods, paths, hosts or ports",
        )
    for attribute, problem in _OPERATION.items():
        for field in (attribute, f"not_{attribute}"):
            yield from _values(getattr(operation, field), problem, (*loc, _yaml_name(names, field)))


def _condition(condition: RulesWhen, loc: Loc, action: str) -> Iterator[Notice]:
    key: str = condition.key
    if not key:
        yield refused("missing-key", (*loc, "key"), "the key is empty", "for example key: source.ip")
        return
    if action == "CUSTOM" and (key in _CUSTOM_WITHOUT_KEYS or key.startswith("request.auth.")):
        yield refused(
            "not-with-custom", (*loc, "key"), f"{key} cannot be used with action CUSTOM", "let the provider check it"
        )
    if not condition.values and not condition.not_values:
        yield refused("empty-condition", loc, f"neither values nor notValues are given for {key}", _NO_ENTRIES)
        return
    problem = _key_problem(key)
    if problem:
        yield refused("bad-key", (*loc, "key"), f"{key!r} is not a condition: {problem[0]}", problem[1])
        return
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        yield from _values(values, _PLAIN_KEYS.get(key, _any), (*loc, name))


def _key_problem(key: str) -> tuple[str, str] | None:
    """What is wrong with the key of a condition and what to write, None when it is one."""
    if key in _PLAIN_KEYS:
        return None
    for prefix in _MAP_KEYS:
        if key.startswith(prefix):
            opened = key.find("[")
            if key.endswith("]") and 0 < opened < len(key) - 2:
                if prefix == "request.headers" and not is_header_name(name := key[opened + 1 : -1], pseudo=True):
                    return f"{name!r} is not the name of a header", NAME_HINT
                return None
            return "it has no name in brackets", f"write {prefix}[name]"
    if key in _FORMER_KEYS:
        return "Istio has it no more", _FORMER_KEYS[key]
    if key.startswith("destination.labels"):
        return "Istio has it no more", "select the workloads with selector"
    return "Istio has no such attribute", f"one of {', '.join([*_PLAIN_KEYS, *(f'{p}[name]' for p in _MAP_KEYS)])}"


def _values(values: Sequence[str] | None, problem: Problem, loc: Loc) -> Iterator[Notice]:
    if problem is _account and len(values or ()) > _MOST_ACCOUNTS:
        yield refused(
            "too-many", loc, f"more than {_MOST_ACCOUNTS} service accounts", "split them over several sources"
        )
    for index, value in enumerate(values or ()):
        if not value:
            yield refused("empty-value", (*loc, index), "the value is empty", 'remove it; "*" stands for any')
        elif found := problem(value):
            yield refused("bad-value", (*loc, index), f"{value!r}: {found}", _HINTS[problem])


def _yaml_name(names: dict[str, str], attribute: str) -> str:
    return next(yaml for yaml, known in names.items() if known == attribute)
