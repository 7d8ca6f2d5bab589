"""What a rule's destination means to this client: the cluster it names, or what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.clusters import cluster_key, compile_cluster, has_endpoints, hash_policy
from meshlib.compiler.destination_rules import DestinationRules, MergedRule
from meshlib.compiler.mesh_tls import MeshTls
from meshlib.compiler.routes import Cluster, Destination
from meshlib.compiler.traffic_policy import route_hash
from meshlib.policy.peer_metadata import FOR_THE_MESH
from meshlib.registry.lack import UNDEFINED, Lack, no_endpoints
from meshlib.registry.names import resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.compiler.resilience import Resilience
    from meshlib.compiler.routes import Target
    from meshlib.policy.consistent_hash import HashPolicy
    from meshlib.policy.peer_metadata import OwnMetadata
    from meshlib.registry.service import Service


class Destinations:
    """Finds destinations and makes their clusters, each once."""

    def __init__(
        self,
        lookup: Callable[[str], Service | None],
        destination_rules: DestinationRules,
        workload: Workload,
        domain: str,
        mesh_tls: MeshTls,
        peer_metadata: OwnMetadata | None = None,
        *,
        of_gateway: bool = False,
    ) -> None:
        self._lookup = lookup
        self._rules = destination_rules
        self._workload = workload
        self._domain = domain
        self._mesh_tls = mesh_tls
        self._of_gateway = of_gateway
        self._tells = () if peer_metadata is None else (peer_metadata.request_ops,)
        self._found: dict[tuple[str, str, int, str], Destination] = {}
        self._aliases: dict[str, bool] = {}
        self.resilience: Callable[[str], Resilience | None] = lambda host: None
        self.clusters: dict[str, Cluster] = {}
        self.services: dict[str, Service] = {}  # by cluster key: what each cluster was made of

    def of_model(self, model: Target, namespace: str, dialled_port: int) -> Destination:
        """The destination of a rule in a resource of ``namespace``; ``dialled_port`` counts when it names none."""
        host = resolve(model.host, namespace, self._domain)
        subset = model.subset or ""
        wanted = model.port.number if model.port is not None and model.port.number else 0
        named = (model.port.name or "") if model.port is not None and not wanted else ""
        key = (host, subset, wanted or -dialled_port, named)
        if wanted and self._is_alias(host):
            key = (host, subset, wanted, str(dialled_port))
        found = self._found.get(key)
        if found is None:
            found = self._make(host, subset, wanted, named, dialled_port)
            hashing = self._hash_of(host, subset, wanted)
            if hashing != found.hash_policy:
                found = replace(found, hash_policy=hashing)
            self._found[key] = found
        return found

    def _is_alias(self, host: str) -> bool:
        found = self._aliases.get(host)
        if found is None:
            service = self._lookup(host)
            found = self._aliases[host] = service is not None and bool(service.alias)
        return found

    def _hash_of(self, host: str, subset: str, port: int) -> HashPolicy | None:
        service = self._lookup(host)
        rule = self._rules.find(host, service.namespace) if service is not None else None
        return hash_policy(route_hash(rule, subset, port))

    def _make(self, host: str, subset: str, wanted: int, named: str, dialled_port: int) -> Destination:
        service = self._lookup(host)
        if service is None:
            lack = no_endpoints(
                host,
                self._workload.namespace,
                UNDEFINED,
                subset=subset,
                port=wanted or dialled_port,
                domain=self._domain,
            )
            return Destination(host, subset, wanted, 0, "", lack.message, lack=lack)
        if service.alias:
            return self._of_alias(service, subset, wanted, dialled_port)
        numbers = [p.number for p in service.ports]
        if named:  # a selector that Istio removed
            wanted = next((p.number for p in service.ports if p.name == named), 0)
            if not wanted:
                known = ", ".join(p.name for p in service.ports if p.name) or "none"
                return Destination(host, subset, 0, 0, "", f"host {host} has no port named {named} (it has {known})")
        port = wanted or (dialled_port if dialled_port in numbers or service.any_port else 0)
        port = port or (numbers[0] if len(numbers) == 1 else dialled_port)
        return self.of_service(service, subset, port, f"host {host}")

    def _of_alias(self, alias: Service, subset: str, wanted: int, dialled_port: int) -> Destination:
        """What an ExternalName stands for, on the port that the rule names, else on the one that was dialled. As in Istio one
        that lacks the port that was dialled is not there, and one that stands for another alias leads nowhere."""
        host = alias.host
        numbers = [p.number for p in alias.ports if alias.is_alias_on(p.number)]
        if dialled_port not in numbers:
            ports = ", ".join(map(str, numbers)) or "none"
            return Destination(host, subset, wanted, 0, "", f"host {host} has no port {dialled_port} (it has {ports})")
        service = self._lookup(alias.alias)
        what = f"host {alias.alias} (for which {host} stands)"
        if service is None or service.alias:
            return Destination(alias.alias, subset, wanted, 0, "", f"{what} is not in the registry")
        return self.of_service(service, subset, wanted or dialled_port, what)

    def of_service(self, service: Service, subset: str, port: int, what: str) -> Destination:
        """A subset ("" for all) of a service on one of its ports."""
        host = service.host
        if service.cluster_port(port) is None:
            there = service.ports if service.cluster_ports is None else service.cluster_ports
            ports = ", ".join(str(p.number) for p in there) or "none"
            return Destination(host, subset, port, 0, "", f"{what} has no port {port} (it has {ports})")
        rule = self._rules.find(host, service.namespace)
        if subset and (rule is None or subset not in rule.subsets):
            where = f"{rule.id} has {', '.join(rule.subsets) or 'no subsets'}" if rule else "it has no DestinationRule"
            return Destination(host, subset, port, 0, "", f"{what} has no subset {subset}: {where}")
        if service.by_name and not has_endpoints(service, rule, subset, port):
            which = f" with the labels of subset {subset}" if subset else ""
            message = f"{what} has no endpoint{which} to be resolved"
            lack = no_endpoints(host, self._workload.namespace, message, subset=subset, port=port, domain=self._domain)
            return Destination(host, subset, port, 0, "", message, lack=Lack(message, lack.remedy))
        key = cluster_key(host, subset, port)
        if key not in self.clusters:
            self.clusters[key] = self._cluster(service, rule, subset, port)
            self.services[key] = service
        inside = bool(self._tells) and not service.external
        return Destination(
            host,
            subset,
            port,
            1,
            key,
            request_ops=self._tells if inside else (),
            response_ops=(FOR_THE_MESH,) if inside else (),
            hash_policy=hash_policy(route_hash(rule, subset, port)),
        )

    def rule_of(self, host: str) -> MergedRule | None:
        """The DestinationRule that counts for a host."""
        service = self._lookup(host)
        return self._rules.find(host, service.namespace if service is not None else None)

    def keys_of(self, service: Service) -> list[str]:
        """The keys of all clusters that there may be of a service."""
        rule = self._rules.find(service.host, service.namespace)
        ports = dict.fromkeys(p.number for p in (*service.ports, *(service.cluster_ports or ())))
        return [cluster_key(service.host, subset, n) for n in ports for subset in ("", *(rule.subsets if rule else ()))]

    def recompile(self, key: str, cluster: Cluster, service: Service) -> Cluster:
        """The cluster once more, for a service whose endpoints have changed."""
        rule = self._rules.find(service.host, service.namespace)
        return self._cluster(service, rule, cluster.subset, cluster.port)

    def _cluster(self, service: Service, rule: MergedRule | None, subset: str, port: int) -> Cluster:
        made = compile_cluster(service, rule, subset, port, self._workload, self._mesh_tls, of_gateway=self._of_gateway)
        policy = self.resilience(service.host)
        if policy is not None and policy.peak_ewma is not None and policy.enforces("loadBalancer"):
            made = replace(made, balancer="PEAK_EWMA", hash_policy=None)
        return made
