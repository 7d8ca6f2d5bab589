"""AuthorizationPolicies with action CUSTOM, by provider: the rules that ask, and the authorizer of MeshConfig's
extensionProviders that is asked, as Istio turns them into Envoy's filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from meshlib.compiler.routes import Destination, Rule, VirtualHost
from meshlib.compiler.rules import SOLE
from meshlib.policy.ext_authz import Authorizer, BodyShown
from meshlib.policy.name_patterns import NamePatterns
from meshlib.policy.retry import NO_RETRY
from meshlib.policy.rule_index import RuleIndex
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import ExtAuthzProvider, MeshSettings
    from meshlib.policy.authorization.rules import Policy
    from meshlib.policy.inbound_view import InboundView
    from meshlib.policy.path_spellings import Normalization
    from meshlib.registry.service import Service
    from meshlib.resources.authorization_policy import AuthorizationPolicy

CODE = "provider-unusable"
CATCH_ALL = RuleIndex([()])


class Matched(Protocol):
    """A rule that has matched."""

    @property
    def id(self) -> str:
        """``ns[..]-policy[..]-rule[..]``."""
        ...


class Rules(Protocol):
    """The rules of policies, judged at once."""

    def first(self, request: InboundView) -> Matched | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Custom:
    """What one provider is asked about: requests that match one of ``rules``. ``authorizer`` and ``route`` are None when it
    cannot be asked (``problem`` says why): such requests are refused. ``host``: the service that MeshConfig names, "" when it
    names none, whether it is there or not."""

    provider: str
    rules: Rules
    host: str = ""
    authorizer: Authorizer | None = None
    route: VirtualHost | None = None
    problem: str = ""
    normalization: Normalization = "BASE"

    @property
    def cluster(self) -> str:
        """The key of the authorizer's cluster, "" when it cannot be asked."""
        return "" if self.route is None else self.route.rules[0].destinations[0].cluster


class Clusters(Protocol):
    """Where clusters are made (``compiler.destinations``)."""

    def of_service(self, service: Service, subset: str, port: int, what: str) -> Destination: ...


def compile_custom(
    rules: Mapping[str, Rules], settings: MeshSettings, find: Callable[[str], Service | None], clusters: Clusters
) -> tuple[Custom, ...]:
    """For each provider that policies name (``rules``), in the order of names: Istio's. ``find`` gives the service of a host
    that this workload sees."""
    made = []
    for name in sorted(rules):
        provider = settings.providers.get(name)
        host = "" if provider is None else provider.service
        custom = Custom(name, rules[name], host, normalization=settings.path_normalization)
        if provider is None:
            known = ", ".join(sorted(settings.providers)) or "none"
            problem = f"MeshConfig has no extension provider {name} that authorizes (it has {known})"
        else:
            problem = provider.unusable or _format_problem(provider)
        if provider is not None and not problem:
            destination, problem = _destination(provider, find, clusters)
            if destination is not None:
                custom = replace(custom, authorizer=authorizer_of(provider), route=route_of(provider, destination))
        made.append(replace(custom, problem=problem))
    return tuple(made)


def _format_problem(provider: ExtAuthzProvider) -> str:
    for name, value in provider.additional_headers:
        if "%" in value.replace("%%", ""):
            return (
                f"includeAdditionalHeadersInCheck: the value of {name} has a format with %, which is not supported here"
            )
    return ""


def _destination(
    provider: ExtAuthzProvider, find: Callable[[str], Service | None], clusters: Clusters
) -> tuple[Destination | None, str]:
    service = find(provider.service)
    if service is None or (provider.namespace and service.namespace != provider.namespace):
        where = f" in namespace {provider.namespace}" if provider.namespace else ""
        return None, f"the registry has no service {provider.service}{where} that this workload sees"
    destination = clusters.of_service(service, "", provider.port, f"host {service.host}")
    return (destination, "") if destination.cluster else (None, destination.missing)


def route_of(provider: ExtAuthzProvider, destination: Destination) -> VirtualHost:
    """Straight to the cluster, once, as Envoy's filter calls it: no VirtualService has a say, DestinationRules have."""
    rule = Rule(-1, f"ext_authz {provider.name}", (), (destination,), SOLE, NO_RETRY, timeout=provider.timeout)
    note = f"authorizer of provider {provider.name}"
    return VirtualHost(destination.host, destination.port, "", (rule,), CATCH_ALL, note=note, single=rule)


def authorizer_of(provider: ExtAuthzProvider) -> Authorizer:
    """The settings of a provider as they act."""
    body = provider.body
    on_deny = provider.downstream_headers_on_deny
    return Authorizer(
        name=provider.name,
        protocol=provider.protocol,
        host=provider.service,
        timeout=provider.timeout,
        fail_open=provider.fail_open,
        status_on_error=provider.status_on_error,
        body=None if body is None else BodyShown(body.max_bytes, body.allow_partial, body.as_bytes),
        path_prefix=provider.path_prefix,
        request_headers=NamePatterns.parse(provider.request_headers),
        additional=tuple((name, value.replace("%%", "%")) for name, value in provider.additional_headers),
        to_application=NamePatterns.parse(provider.upstream_headers_on_allow),
        to_caller_on_allow=NamePatterns.parse(provider.downstream_headers_on_allow),
        to_caller_on_deny=NamePatterns.parse(on_deny) if on_deny else None,
    )


def unusable(
    custom: Iterable[Custom], policies: Iterable[Policy], resources: Iterable[AuthorizationPolicy]
) -> list[Problem]:
    """What is to be said of ``policies`` whose provider cannot be asked; ``resources`` are where they come from."""
    why = {each.provider: each.problem for each in custom if each.problem}
    if not why:
        return []
    origins = {(resource.namespace, resource.name): resource for resource in resources}
    found = []
    for policy in policies:
        if policy.provider in why:
            resource = origins[policy.namespace, policy.name]
            line, column = resource.place_of(("spec", "provider", "name"))
            message = f"spec.provider.name: {why[policy.provider]}; requests that its rules match are refused"
            hint = "define the provider in extensionProviders of MeshConfig (ConfigMap istio in the root namespace)"
            found.append(Problem(CODE, Severity.ERROR, resource.origin.file, line, column, resource.id, message, hint))
    return found
