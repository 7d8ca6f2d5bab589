"""Random meshes as a sidecar sees them: hosts inside and outside the registry, one and two ports, wildcards, several
VirtualServices that claim one host, delegates, and match blocks that exist for some clients only. All from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.differential.referee.generate import SUBSETS, Generator, Request
from tests.differential.sidecar.pilot import Client

Config = dict[str, Any]

CLIENTS = (
    Client("default", {"app": "x", "version": "v1"}),
    Client("other", {"app": "x"}),
    Client("default", {}),
)
NAMESPACES = ("default", "default", "other")
SHORT = "s1"
DESTINATIONS = ("d1.test", "d2.test", SHORT, f"{SHORT}.other.svc.cluster.local", "hidden.test", "nobody.test")
ODD_PATHS = (
    "/a/../b",
    "/b/%2e%2e/a",
    "/foo/%2E/bar",
    "/a/./1",
    "/a\\b",
    "/%41%62",
    "/foo/..",
    "/../a",
    "/x/..%2fa",
    "/%7eu",
    "/a|b",
    "/%e9%zz",
)
"""Paths that Envoy reads in their normal form."""


@dataclass(frozen=True)
class Mesh:
    """Resources, and requests of the client: (port dialled, request)."""

    seed: str
    client: Client
    resources: tuple[Config, ...]
    requests: tuple[tuple[int, Request], ...]

    def about(self, request: Request) -> list[Config]:
        """The VirtualServices that can have to do with a request, for a report."""
        host = request.authority.partition(":")[0].lower()
        number = host.removesuffix(".test").rpartition(".")[2].removeprefix("c")
        names = (f"c{number}-", f"leaf{number}-", f"c{number}")
        return [
            r
            for r in self.resources
            if r["metadata"]["name"].startswith(names[:2]) or r["metadata"]["name"] == names[2]
        ]

    def draws(self, request: Request) -> bool:
        """Whether a rule for this request may have several destinations."""
        rules = [r for v in self.about(request) if v["kind"] == "VirtualService" for r in v["spec"]["http"]]
        return any(len(rule.get("route", ())) > 1 for rule in rules)


def _resource(kind: str, name: str, namespace: str, spec: Config, **metadata: str) -> Config:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def entry(name: str, hosts: list[str], ports: list[int], namespace: str = "default", **spec: Any) -> Config:
    return _resource(
        "ServiceEntry",
        name,
        namespace,
        {
            "hosts": hosts,
            "ports": [{"number": port, "name": f"http-{port}", "protocol": "HTTP"} for port in ports],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "endpoints": [{"address": "127.0.0.1", "labels": {"version": v}} for v in SUBSETS],
            **spec,
        },
    )


def infrastructure() -> list[Config]:
    """Where routes lead to; ``hidden.test`` is exported to nobody else, ``nobody.test`` does not exist."""
    made = [
        entry("d1", ["d1.test"], [80, 8080]),
        entry("d2", ["d2.test"], [80, 8080]),
        entry("s1", [f"{SHORT}.default.svc.cluster.local"], [80, 8080]),
        entry("s1", [f"{SHORT}.other.svc.cluster.local"], [80, 8080], "other"),
        entry("hidden", ["hidden.test"], [80, 8080], "third", exportTo=["."]),
    ]
    for name, host in (("d1", "d1.test"), ("d2", "d2.test"), ("s1", SHORT)):
        spec = {"host": host, "subsets": [{"name": v, "labels": {"version": v}} for v in SUBSETS]}
        made.append(_resource("DestinationRule", name, "default", spec))
    return made


def mesh(seed: int, number: int, hosts: int, requests: int) -> Mesh:
    """One mesh of ``hosts`` hosts with ``requests`` requests to each."""
    client = CLIENTS[number % len(CLIENTS)]
    resources = infrastructure()
    asked: list[tuple[int, Request]] = []
    for host in range(hosts):
        made = HostGenerator(random.Random(f"sidecar/{seed}/{number}/{host}"), host, client)
        resources += made.resources()
        asked += [made.dial() for _ in range(requests)]
    return Mesh(f"{seed}/{number}", client, tuple(resources), tuple(asked))


class HostGenerator(Generator):
    """Makes all that concerns one host."""

    def __init__(self, rng: random.Random, number: int, client: Client) -> None:
        super().__init__(rng, number)
        self.client = client
        self.written: list[Config] = []  # rules, for requests to aim at
        self.names: list[tuple[str, list[int]]] = []  # what may be dialled, on which ports

    # -- resources --------------------------------------------------------------------------------------------------

    def resources(self) -> list[Config]:
        made: list[Config] = []
        kind = self.rng.random()
        if kind < 0.3:  # outside the registry
            self.names = [(self.host, [80])]
            hosts = [[self.host]] * self.rng.choice((1, 1, 2))
        elif kind < 0.75:
            ports = self.rng.choice(([80, 8080], [80, 8080], [8080], [80]))
            self.names = [(self.host, ports)]
            made.append(entry(f"c{self.number}", [self.host], ports))
            hosts = [[self.host]] * self.rng.choice((1, 1, 2, 3))
            if self.often(0.4):  # claimed on ports that it does not have, and with a host that is not registered
                self.names.append((self.host, [port for port in (80, 8080) if port not in ports] or ports))
                also = f"also.{self.host}"
                self.names.append((also, [80, 8080]))
                hosts = [[self.host, also], *hosts[1:]]
        else:
            subs = [f"a.{self.host}", f"b.x.{self.host}"]
            self.names = [(name, [80, 8080]) for name in subs]
            made.append(entry(f"c{self.number}", subs, [80, 8080]))
            hosts = [[f"*.{self.host}"]]
            if self.often(0.3):
                self.names.append((f"nobody.{self.host}", [80, 8080]))
            if self.often(0.5):
                hosts.append([f"*.x.{self.host}"])
            if self.often(0.5):
                hosts.append([subs[0]])
            self.rng.shuffle(hosts)
        made += [self.service(position, names) for position, names in enumerate(hosts)]
        made += self.leaves
        return made

    @property
    def leaves(self) -> list[Config]:
        """Delegates that rules of this host name."""
        return [
            self.leaf(delegate["namespace"], delegate["name"])
            for delegate in self._wanted_leaves
            if not delegate["name"].endswith("-missing")
        ]

    def service(self, position: int, hosts: list[str]) -> Config:
        self._position = position
        rules = [self.sidecar_rule(number) for number in range(self.rng.randint(1, 4))]
        self.written += rules
        namespace = self.rng.choice(NAMESPACES)
        spec: Config = {"hosts": hosts, "http": rules}
        if self.often(0.2):
            spec["gateways"] = self.rng.choice((["mesh"], ["default/gw"], ["default/gw", "mesh"]))
        if self.often(0.25):
            spec["exportTo"] = self.rng.choice((["."], ["*"], ["other"], ["default", "third"]))
        age = {"creationTimestamp": f"2026-01-0{self.rng.randint(1, 4)}T00:00:00Z"} if self.often(0.8) else {}
        return _resource("VirtualService", f"c{self.number}-{position}", namespace, spec, **age)

    _position = 0

    @property
    def _wanted_leaves(self) -> list[Config]:
        seen: dict[tuple[str, str], Config] = {}
        for rule in self.written:
            if "delegate" in rule:
                seen.setdefault((rule["delegate"]["namespace"], rule["delegate"]["name"]), rule["delegate"])
        return list(seen.values())

    def sidecar_rule(self, number: int) -> Config:
        rule = self.rule(number)
        rule["name"] = f"v{self._position}r{number}"
        if self.often(0.12):
            for action in ("route", "redirect", "directResponse"):
                rule.pop(action, None)
            name = f"leaf{self.number}-{self._position}-{number}{'-missing' if self.often(0.15) else ''}"
            rule["delegate"] = {"name": name, "namespace": self.rng.choice(NAMESPACES)}
            rule.pop("fault", None)
            rule.pop("rewrite", None)
        return rule

    def leaf(self, namespace: str, name: str) -> Config:
        root = next(r for r in self.written if r.get("delegate", {}).get("name") == name)
        rules = []
        for number in range(self.rng.randint(1, 3)):
            rule = self.rule(number)
            rule["name"] = f"{name}-{number}"
            if self.often(0.6) and root.get("match"):  # below what the root matches
                above = self.rng.choice(root["match"])
                for block in rule.get("match", ()):
                    self.narrow(block, above)
            rules.append(rule)
        self.written += rules
        spec: Config = {"http": rules}
        if self.often(0.2):
            spec["exportTo"] = self.rng.choice((["."], ["default"], ["other"]))
        return _resource("VirtualService", name, namespace, spec)

    def narrow(self, block: Config, above: Config) -> None:
        """Make a delegate's block fit the root's."""
        block["ignoreUriCase"] = above.get("ignoreUriCase", False)
        uri = above.get("uri", {})
        if "prefix" in uri:
            block["uri"] = {self.rng.choice(("exact", "prefix")): uri["prefix"] + self.rng.choice(("", "a", "/a"))}
        elif uri:
            block.pop("uri", None)
        for field in ("method", "authority", "scheme", "headers", "withoutHeaders", "queryParams"):
            if field in above:
                block.pop(field, None)
        if "sourceNamespace" in above:
            block["sourceNamespace"] = above["sourceNamespace"]

    def block(self, number: int) -> Config:
        block = super().block(number)
        if self.often(0.12):
            block["port"] = self.rng.choice((80, 8080, 8080, 9999))
        if self.often(0.12):
            block["sourceLabels"] = self.rng.choice(({"app": "x"}, {"app": "y"}, {"app": "x", "version": "v1"}))
        if self.often(0.08):
            block["sourceNamespace"] = self.rng.choice(("default", "other"))
        if self.often(0.08):
            block["gateways"] = self.rng.choice((["mesh"], ["default/gw"], ["default/gw", "mesh"]))
        return block

    def destinations(self) -> list[Config]:
        made = super().destinations()
        for target in made:
            destination = target["destination"]
            destination["host"] = self.rng.choice((*DESTINATIONS[:4], *DESTINATIONS))
            if self.often(0.4):
                destination["port"] = {"number": self.rng.choice((80, 8080, 8080, 9999))}
        return made

    # -- requests ---------------------------------------------------------------------------------------------------

    def dial(self) -> tuple[int, Request]:
        name, ports = self.rng.choice(self.names)
        port = self.rng.choice(ports)
        aimed = self.request(self.written)
        if port == 80 and 80 in self.names[0][1]:
            authority = self.rng.choice((name, name, f"{name}:80", name.upper()))
        else:
            authority = f"{name}:{port}"
        target = aimed.target
        if self.often(0.1):
            target = self.rng.choice(ODD_PATHS) + self.rng.choice(("", "", "?q=1", "?x=/../y"))
        return port, Request(aimed.method, target, authority, aimed.headers)
