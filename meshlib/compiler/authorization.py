"""Which AuthorizationPolicies count for a workload, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.target_refs import refs_of, why_not_attached
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.authorization.fields import BadCondition
from meshlib.policy.authorization.peers import SCHEME
from meshlib.policy.authorization.rules import Clause, Condition, Policy, Rule
from meshlib.policy.authorization.table import RuleTable
from meshlib.policy.authorization.trust_domains import domains_with_aliases, principals_with_aliases
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.policy.path_spellings import Normalization
    from meshlib.resources.authorization_policy import AuthorizationPolicy, Operation, Source
    from meshlib.resources.authorization_policy import Rule as WrittenRule
    from meshlib.workload import Workload

DRY_RUN = "istio.io/dry-run"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))

SOURCE = {
    "principals": ("principals", "source.principal"),
    "request_principals": ("requestPrincipals", "request.auth.principal"),
    "namespaces": ("namespaces", "source.namespace"),
    "service_accounts": ("serviceAccounts", "source.serviceAccount"),
    "trust_domains": ("trustDomains", "source.trustDomain"),
    "ip_blocks": ("ipBlocks", "source.ip"),
    "remote_ip_blocks": ("remoteIpBlocks", "remote.ip"),
}
"""Fields of a source (each has a ``not_`` too): as YAML has it, and the key of its condition."""
OPERATION = {
    "hosts": ("hosts", "hosts"),
    "methods": ("methods", "methods"),
    "paths": ("paths", "paths"),
    "ports": ("ports", "destination.port"),
}
_UNKNOWN_AT = {
    "hosts": "gRPC servers do not tell the host",
    "destination.port": "unknown unless the server reports its port",
    "destination.ip": "few servers tell the address that a request came to",
    "request.headers[x-forwarded-for]": "gRPC servers tell the last line alone",
    "request.headers[x-forwarded-host]": "gRPC servers tell the last line alone",
    "connection.sni": "few servers tell the name that TLS was asked for",
}
_NOWHERE = "Envoy's metadata is nowhere here"
_COUNTS_AGAINST = "where it is unknown, a DENY rule is taken to match there and an ALLOW rule not to"


class Policies:
    """Those that count for a workload. ``authorization`` has AUDIT, DENY and ALLOW (None without any), ``custom`` CUSTOM ones;
    ``problems`` is what is to be said of all of them."""

    __slots__ = ("authorization", "custom", "problems")

    def __init__(
        self, authorization: Authorization | None, custom: tuple[Policy, ...], problems: Sequence[Problem]
    ) -> None:
        self.authorization = authorization
        self.custom = custom
        self.problems = tuple(problems)


def compile_authorization(resources: Sequence[AuthorizationPolicy], workload: Workload, mesh: MeshSettings) -> Policies:
    """For the server of ``workload``. Problems are about all resources, whichever workloads they select."""
    problems: list[Problem] = []
    for resource in resources:
        problems += _problems(resource)
    policies = counting(resources, workload, mesh, problems)
    custom = tuple(policy for policy in policies if policy.action == "CUSTOM")
    judged = Authorization(policies, mesh.path_normalization)
    return Policies(judged or None, custom, problems)


def counting(
    resources: Sequence[AuthorizationPolicy],
    workload: Workload,
    mesh: MeshSettings,
    problems: list[Problem] | None = None,
) -> list[Policy]:
    """Those that count for the server of ``workload``; one that cannot be used refuses all, which ``problems`` get to know."""
    domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    policies: list[Policy] = []
    for resource in resources:
        if not counts_for(resource, workload, mesh.root_namespace):
            continue
        policy = policy_of(resource, domains)
        why = _unusable(policy, mesh)
        if why:
            policy = stand_in(policy, why)
            if problems is not None:
                problems.append(_problem(resource, Severity.ERROR, "refuses-everything", f"{REFUSES}: {why}"))
        policies.append(policy)
    return policies


def custom_rules(policies: Sequence[Policy], normalization: Normalization) -> dict[str, RuleTable]:
    """The rules of CUSTOM policies by the provider that they ask; they are judged as DENY rules are, at every spelling."""
    by_provider: dict[str, list[Policy]] = {}
    for policy in policies:
        by_provider.setdefault(policy.provider, []).append(policy)
    return {
        provider: RuleTable(theirs, permits=False, normalization=normalization)
        for provider, theirs in by_provider.items()
    }


def counts_for(resource: AuthorizationPolicy, workload: Workload, root_namespace: str) -> bool:
    """Whether it is in the workload's namespace or the root namespace, and selects it, by labels or targetRefs."""
    return not why_not_for(resource, workload, root_namespace)


def why_not_for(resource: AuthorizationPolicy, workload: Workload, root_namespace: str) -> str:
    """Why it does not count for ``workload``, for people; "" when it does."""
    spec = resource.spec
    if resource.stands_for and not resource.placed:
        return ""
    if resource.namespace not in (workload.namespace, root_namespace):
        return f"it is in namespace {resource.namespace}"
    if refs := refs_of(spec):
        return why_not_attached(refs, resource.namespace, workload)
    wanted = (spec.selector.match_labels or {}) if spec.selector is not None else {}
    missing = [f"{key}={value}" for key, value in wanted.items() if workload.labels.get(key) != value]
    return f"its selector wants {', '.join(missing)}" if missing else ""


def policy_of(resource: AuthorizationPolicy, trust_domains: Sequence[str] = ()) -> Policy:
    """What it says. Raises nothing: what cannot be used is found when it is put to work."""
    spec = resource.spec
    named = spec.provider.name if spec.provider is not None else None
    return Policy(
        resource.namespace,
        resource.name,
        spec.action or "ALLOW",
        tuple(_rule(rule, resource.namespace, trust_domains) for rule in spec.rules or ()),
        resource.annotations.get(DRY_RUN) in _TRUE,
        resource.stands_for,
        named or "",
    )


REFUSES = "it cannot be used, and everything that it may have refused is refused"


def stand_in(policy: Policy, why: str) -> Policy:
    """For a policy of which nothing is known but that it is there: it refuses everything that it could have."""
    return Policy(policy.namespace, policy.name, "DENY", (Rule(),), broken=why)


def _unusable(policy: Policy, mesh: MeshSettings) -> str:
    """Why the policy cannot be put to work: "" for all that have passed validation."""
    try:
        RuleTable([policy], permits=policy.action == "ALLOW", normalization=mesh.path_normalization)
    except (BadCondition, ValueError) as error:
        return str(error)
    return ""


# -- rules ------------------------------------------------------------------------------------------------------------


def _rule(rule: WrittenRule, namespace: str, trust_domains: Sequence[str]) -> Rule:
    return Rule(
        tuple(_clause(entry.source, SOURCE, namespace, trust_domains) for entry in rule.from_ or ()),
        tuple(_clause(entry.operation, OPERATION, namespace, trust_domains) for entry in rule.to or ()),
        tuple(
            _condition(c.key, c.key, c.values or (), c.not_values or (), namespace, trust_domains)
            for c in rule.when or ()
        ),
    )


def _clause(
    part: Source | Operation | None, fields: dict[str, tuple[str, str]], namespace: str, trust_domains: Sequence[str]
) -> Clause:
    found = []
    for attribute, (name, key) in fields.items():
        values: Sequence[str] = getattr(part, attribute, None) or ()
        not_values: Sequence[str] = getattr(part, f"not_{attribute}", None) or ()
        if values or not_values:
            found.append(_condition(key, name, values, not_values, namespace, trust_domains))
    return tuple(found)


def _condition(
    key: str, name: str, values: Sequence[str], not_values: Sequence[str], namespace: str, trust_domains: Sequence[str]
) -> Condition:
    def known(texts: Sequence[str]) -> tuple[str, ...]:
        if key == "source.principal" and trust_domains:
            return principals_with_aliases(texts, trust_domains)
        if key == "source.trustDomain" and trust_domains:
            return domains_with_aliases(texts, trust_domains)
        if key == "source.serviceAccount":
            return tuple(text if "/" in text else f"{namespace}/{text}" for text in texts)
        return tuple(texts)

    return Condition(key, known(values), known(not_values), name)


# -- what is to be said -----------------------------------------------------------------------------------------------


def _problems(resource: AuthorizationPolicy) -> Iterator[Problem]:
    if resource.stands_for or resource.spec.action == "CUSTOM":
        return
    unknown: dict[str, list[str]] = {}
    for index, rule in enumerate(policy_of(resource).rules):
        for condition in _conditions(rule):
            why = _NOWHERE if condition.key.startswith("experimental.") else _UNKNOWN_AT.get(_plain(condition.key))
            if why is not None:
                named = unknown.setdefault(why, [])
                place = f"rules[{index}] {condition.name}"
                if place not in named:
                    named.append(place)
            if condition.key == "source.principal":
                yield from _never(resource, index, (*condition.values, *condition.not_values))
    if unknown:
        said = "; ".join(f"{', '.join(places)} ({why})" for why, places in unknown.items())
        yield _problem(resource, Severity.NOTICE, "may-be-unknown", f"{said}: {_COUNTS_AGAINST}")


def _never(resource: AuthorizationPolicy, index: int, principals: Iterable[str]) -> Iterator[Problem]:
    wrong = [principal for principal in principals if principal.startswith(SCHEME)]
    if wrong:
        yield _problem(
            resource,
            Severity.WARNING,
            "never-matches",
            f"rules[{index}]: {', '.join(wrong)} matches no caller: principals are written without {SCHEME}",
            f"write {wrong[0][len(SCHEME) :]}",
        )


def _conditions(rule: Rule) -> Iterator[Condition]:
    for clause in (*rule.sources, *rule.operations, rule.when):
        yield from clause


def _plain(key: str) -> str:
    lower = key.lower()
    if lower in ("request.headers[:authority]", "request.headers[host]"):
        return "hosts"
    return lower if lower.startswith("request.headers[") else key


def _problem(resource: AuthorizationPolicy, severity: Severity, code: str, message: str, hint: str = "") -> Problem:
    origin = resource.origin
    return Problem(code, severity, origin.file, origin.line, origin.column, resource.id, message, hint)
