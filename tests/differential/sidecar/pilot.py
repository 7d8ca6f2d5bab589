"""What istiod decides when it writes a sidecar's configuration: which hosts exist on which port, which VirtualService claims
them, which rules and match blocks are left for this client, what a delegate becomes, which clusters there are.

An independent reading of Istio's semantics; nothing of meshlib is imported. What one rule becomes in Envoy is in
``referee.istiod``; here it is decided which rules there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.differential.referee import istiod

Config = dict[str, Any]
PASSTHROUGH = "PassthroughCluster"


@dataclass(frozen=True)
class Client:
    """The workload that the sidecar belongs to."""

    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)


def namespace_of(resource: Config) -> str:
    return str(resource["metadata"].get("namespace", "default"))


def full_name(host: str, namespace: str) -> str:
    """A name without a dot belongs to the namespace of the resource that uses it."""
    return host if "." in host else f"{host}.{namespace}.svc.cluster.local"


def covers(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*") else pattern == host


class Pilot:
    """Resources as dicts -> what Envoy needs for one client."""

    def __init__(self, resources: Sequence[Config], client: Client) -> None:
        self.client = client
        self.ports: dict[str, list[int]] = {}  # of the hosts in the registry
        for entry in self._of_kind(resources, "ServiceEntry"):
            if self._visible(entry):
                for host in entry["spec"]["hosts"]:
                    self.ports.setdefault(host, [p["number"] for p in entry["spec"]["ports"]])
        services = self._of_kind(resources, "VirtualService")
        self.delegates = {(namespace_of(r), r["metadata"]["name"]): r for r in services if not r["spec"].get("hosts")}
        roots = [r for r in services if r["spec"].get("hosts") and self._for_sidecars(r) and self._visible(r)]
        self.claims = sorted(roots, key=lambda r: (self._rank(r), *self._age(r)))
        self.destination_rules = self._of_kind(resources, "DestinationRule")

    @staticmethod
    def _of_kind(resources: Sequence[Config], kind: str) -> list[Config]:
        return [r for r in resources if r["kind"] == kind]

    @staticmethod
    def _age(resource: Config) -> tuple[str, str, str]:
        """The oldest first, then by name."""
        return (
            resource["metadata"].get("creationTimestamp", ""),
            resource["metadata"]["name"],
            namespace_of(resource),
        )

    @staticmethod
    def _for_sidecars(resource: Config) -> bool:
        gateways = resource["spec"].get("gateways")
        return not gateways or "mesh" in gateways

    def _visible(self, resource: Config) -> bool:
        exports = resource["spec"].get("exportTo") or ["*"]
        names = {namespace_of(resource) if e == "." else e for e in exports}
        return "*" in names or self.client.namespace in names

    def _rank(self, resource: Config) -> int:
        """Private ones of the client's own namespace count first, then those exported to it by name, then public ones."""
        exports = resource["spec"].get("exportTo") or ["*"]
        if "*" in exports:
            return 2
        return 0 if namespace_of(resource) == self.client.namespace else 1

    # -- rules ------------------------------------------------------------------------------------------------------

    def exists(self, block: Config, port: int) -> bool:
        """Whether a match block is there for this client on this port."""
        if block.get("port", port) != port:
            return False
        if block.get("gateways"):
            return "mesh" in block["gateways"]
        if any(self.client.labels.get(k) != v for k, v in block.get("sourceLabels", {}).items()):
            return False
        return block.get("sourceNamespace", self.client.namespace) == self.client.namespace

    def rules(self, resource: Config) -> Iterator[tuple[Config, str]]:
        """Its http rules with delegates put in, and the namespace that their short names belong to."""
        for rule in resource["spec"]["http"]:
            if "delegate" not in rule:
                yield rule, namespace_of(resource)
                continue
            where = rule["delegate"].get("namespace") or namespace_of(resource)
            target = self.delegates.get((where, rule["delegate"]["name"]))
            if target is None or not exported(target, namespace_of(resource)):
                continue  # a rule with nothing behind it is no rule
            for leaf in target["spec"]["http"]:
                merged = delegated(rule, leaf)
                if merged is not None:
                    yield merged, where

    def routes(self, resource: Config, port: int) -> list[Config]:
        """The Envoy routes of a VirtualService on a port; none: it is as if it were not there."""
        out: list[Config] = []
        for rule, namespace in self.rules(resource):
            for block in rule.get("match") or [{}]:
                if not self.exists(block, port):
                    continue
                made = next(istiod.routes({**self._named(rule, namespace), "match": [block]}, port))
                out.append(made)
                if is_catch_all(made["match"]):
                    return out
        return out

    @staticmethod
    def _named(rule: Config, namespace: str) -> Config:
        """The rule with full host names."""
        made = dict(rule)
        if "route" in rule:
            made["route"] = [
                {**target, "destination": _destination(target["destination"], namespace)} for target in rule["route"]
            ]
        return made

    # -- hosts ------------------------------------------------------------------------------------------------------

    def _patterns(self) -> Iterator[tuple[str, Config]]:
        for resource in self.claims:
            for host in resource["spec"]["hosts"]:
                yield full_name(host, namespace_of(resource)), resource

    def virtual_hosts(self, port: int) -> list[Config]:
        """In the order of the VirtualServices: those that serve a host of this port, with all of their hosts (on port 80 each
        of them); then what nobody serves."""
        served = [host for host, ports in self.ports.items() if port in ports]
        owners = {host: self._owners(host) for host in served}
        made: dict[str, list[Config]] = {}
        for resource in self.claims:
            routes = self.routes(resource, port)
            mine = [host for host in served if resource in owners[host]]
            if not routes or not (mine or port == 80):
                continue
            for pattern in (full_name(host, namespace_of(resource)) for host in resource["spec"]["hosts"]):
                # of a host that is registered, on this port, nothing but the registry's virtual host exists
                if not any(covers(pattern, host) or covers(host, pattern) for host in served):
                    made.setdefault(pattern, routes)
            for host in mine:
                made.setdefault(host, routes)
        for host in served:
            made.setdefault(host, [self._default(host, port)])
        # everything else is dialled as it is (outboundTrafficPolicy ALLOW_ANY); Istio's own name of this route is allow_any
        passed = {"name": "default", "match": {"prefix": "/"}, "route": {"cluster": PASSTHROUGH, "timeout": "0s"}}
        hosts = [istiod.marked_host(host, [host], routes) for host, routes in made.items()]
        return [*hosts, istiod.marked_host("allow_any", ["*"], [passed])]

    def _owners(self, host: str) -> list[Config]:
        """The VirtualServices that may serve a host of the registry: all that name it, else the first of the longest wildcard
        (which an exact one shadows even when no rule is left for this client)."""
        patterns = list(self._patterns())
        exact = [resource for pattern, resource in patterns if pattern == host]
        if exact:
            return exact
        covering = [pattern for pattern, _ in patterns if pattern.startswith("*") and covers(pattern, host)]
        best = max(covering, key=len, default="")
        return [resource for pattern, resource in patterns if pattern == best][:1]

    @staticmethod
    def _default(host: str, port: int) -> Config:
        action = {"cluster": f"outbound|{port}||{host}", "timeout": "0s"}
        return {"name": "default", "match": {"prefix": "/"}, "route": action}

    def route_configuration(self, port: int) -> Config:
        return {
            "virtual_hosts": self.virtual_hosts(port),
            "validate_clusters": False,
            "ignore_port_in_host_matching": True,
            "max_direct_response_body_size_bytes": 1 << 20,
        }

    def clusters(self) -> list[str]:
        """Names of the clusters that exist."""
        subsets: dict[str, list[str]] = {}
        for rule in self.destination_rules:
            host = full_name(rule["spec"]["host"], namespace_of(rule))
            subsets.setdefault(host, [s["name"] for s in rule["spec"].get("subsets", ())])
        return [PASSTHROUGH] + [
            f"outbound|{port}|{subset}|{host}"
            for host, ports in self.ports.items()
            for port in ports
            for subset in ("", *subsets.get(host, ()))
        ]


def _destination(destination: Config, namespace: str) -> Config:
    return {**destination, "host": full_name(destination["host"], namespace)}


def exported(resource: Config, namespace: str) -> bool:
    exports = resource["spec"].get("exportTo") or ["*"]
    return "*" in exports or namespace in {namespace_of(resource) if e == "." else e for e in exports}


def is_catch_all(match: Config) -> bool:
    """istiod writes no route after one that matches everything."""
    if match.get("headers") or match.get("query_parameters"):
        return False
    return match.get("prefix") == "/" or match.get("safe_regex", {}).get("regex") == ".*"


# -- delegates --------------------------------------------------------------------------------------------------------

FROM_ROOT = ("timeout", "retries", "rewrite", "directResponse", "fault", "corsPolicy", "headers", "mirror", "mirrors")
"""What a delegate's rule takes from the root's when it says nothing itself."""


def delegated(root: Config, leaf: Config) -> Config | None:
    """One rule of a delegate below one rule of its root; None when they contradict each other."""
    made = dict(leaf)
    above, below = root.get("match"), leaf.get("match")
    if above and below:
        blocks = []
        for lower in below:
            fitting = [upper for upper in above if compatible(upper, lower)]
            if not fitting:
                return None  # one block that fits nowhere takes the whole rule with it
            blocks.append((lower, fitting))
        made["match"] = [together(upper, lower) for lower, fitting in blocks for upper in fitting]
    elif above:
        made["match"] = above
    for field_name in FROM_ROOT:
        if field_name in root and field_name not in made:
            made[field_name] = root[field_name]
    made["name"] = "-".join(filter(None, (root.get("name"), leaf.get("name"))))
    return made


def _strings_fit(upper: Config | None, lower: Config | None) -> bool:
    """An exact value goes with the same one, a prefix with what begins with it; expressions and "is present" with nothing
    that the other side says too."""
    if upper is None or lower is None:
        return True
    if upper.get("exact"):
        return lower.get("exact") == upper["exact"]
    if upper.get("prefix"):
        value = lower.get("prefix") or lower.get("exact")
        return value is not None and value.startswith(upper["prefix"])
    return False


def compatible(upper: Config, lower: Config) -> bool:
    """Whether a delegate's block can narrow a root's."""
    if any(not _strings_fit(upper.get(f), lower.get(f)) for f in ("uri", "scheme", "method", "authority")):
        return False
    for group in ("headers", "withoutHeaders", "queryParams"):
        one, two = upper.get(group, {}), lower.get(group, {})
        if any(not _strings_fit(one[name], two[name]) for name in one.keys() & two.keys()):
            return False
    if upper.get("ignoreUriCase", False) != lower.get("ignoreUriCase", False):
        return False
    if upper.get("port") and lower.get("port") and upper["port"] != lower["port"]:
        return False
    if upper.get("sourceNamespace") and lower.get("sourceNamespace") != upper["sourceNamespace"]:
        return False  # a block that says nothing of it does not fit either
    one, two = upper.get("sourceLabels", {}), lower.get("sourceLabels", {})
    if any(one[k] != two[k] for k in one.keys() & two.keys()):
        return False
    if upper.get("gateways") and lower.get("gateways"):
        return set(lower["gateways"]) <= set(upper["gateways"])
    return True


def together(upper: Config, lower: Config) -> Config:
    made = {**upper, **lower}
    for group in ("headers", "withoutHeaders", "queryParams", "sourceLabels"):
        if group in upper and group in lower:
            made[group] = {**upper[group], **lower[group]}
    made["name"] = "-".join(filter(None, (upper.get("name"), lower.get("name"))))
    if not made["name"]:
        del made["name"]
    return made
