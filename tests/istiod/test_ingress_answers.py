"""The Gateways and VirtualServices that the real istiod makes of Ingresses, and where requests at a gateway go by them, as its
listeners, routes and clusters have it (``ingress.jsonl.xz``). Nothing differs but what is said here."""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter
from typing import Any

from meshlib.compiler.compile import Compiler
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.ingresses import Ingresses
from meshlib.compiler.kinds import Kinds
from meshlib.compiler.mesh_settings import IngressSettings
from meshlib.compiler.snapshot import Snapshot
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route_in
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.istiod.ingress_cases import KEPT, ROOT
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.mesh_config import mesh_config

with lzma.open(KEPT, "rt") as file:
    CASES: list[dict[str, Any]] = [json.loads(line) for line in file]


def loaded(one: dict[str, Any]) -> Any:
    secrets = [tls_secret(name, leaf("a.test"), namespace=ROOT) for name in ("cert", "other-cert")]
    found = load_objects([*one["resources"], *secrets, mesh_config(**one["mesh"])])
    assert not found.errors, found.errors
    return found.resources


def made_of(one: dict[str, Any]) -> Ingresses:
    kinds, mesh = Kinds(loaded(one)), one["mesh"]
    served_by = mesh.get("ingressSelector") or mesh.get("ingressService", "").removeprefix("istio-") or "ingressgateway"
    mode, name = mesh.get("ingressControllerMode", "STRICT"), mesh.get("ingressClass", "istio")
    settings = IngressSettings(mode, name, served_by)
    return Ingresses(kinds.ingresses, kinds.ingress_classes, kinds.services, settings, "cluster.local")


def compiled(one: dict[str, Any]) -> Snapshot:
    who = Workload("edge", namespace=ROOT, labels=one["labels"], service_account="edge")
    return Compiler(who, gateways=GatewayChoice()).compile(loaded(one))


def leads(snapshot: Snapshot, call: dict[str, Any]) -> str:
    """As the referee tells it: a cluster, "NC " before one that there is not, or why there is none."""
    ports = [port for port in snapshot.gateway.values() if port.server_port == call["port"] and port.chains]
    if not ports:
        return "no listener"
    (port,) = ports
    chain = port.plain or port.find(call["host"])
    if chain is None or chain.http is None:
        return "no chain"
    routes = chain.http.secure if port.tls else chain.http.plain
    request = PlainRequest("GET", "https" if port.tls else "http", call["host"], call["path"], {})
    rule = route_in(routes, snapshot, request).rule_object
    if rule is None:
        return "no route"
    (to,) = rule.destinations
    return to.cluster if to.cluster in snapshot.clusters else f"NC {to.host}"


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 250
    told = Counter(lead.partition("|")[0] for one in CASES for lead in one["istio"]["leads"])
    assert all(told[what] >= 100 for what in ("outbound", "NC outbound", "no route", "no chain", "no listener")), told


def as_made(one: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gateways and VirtualServices by name."""
    made = made_of(one)
    return tuple(  # type: ignore[return-value]
        {f"{each.namespace}/{each.name}": each.spec.model_dump(by_alias=True, exclude_unset=True) for each in found}
        for found in (made.gateways, made.virtual_services)
    )


def route_of(rule: dict[str, Any]) -> tuple[str, str, int]:
    """The path of a rule (a prefix of whole segments is written as two of ours), its host and port."""
    *_, match = rule.get("match") or [{"uri": {}}]
    ((kind, path),) = match["uri"].items() or [("prefix", "")]
    to = rule["route"][0]["destination"]
    path = path if kind == "exact" or path == "/" else path.removesuffix("/")
    return f"{kind} {path}", to["host"], to["port"]["number"]


def test_the_gateways_and_virtual_services_are_those_that_istiod_makes() -> None:
    told = 0
    for one in CASES:
        gateways, virtual_services = as_made(one)
        assert gateways == {each["name"]: each["spec"] for each in one["istio"]["gateways"]}, one["id"]
        theirs = {each["name"]: each["spec"] for each in one["istio"]["virtual"] if each["spec"].get("http")}
        assert virtual_services.keys() == theirs.keys(), one["id"]
        for name, spec in virtual_services.items():
            assert (spec["hosts"], spec["gateways"]) == (theirs[name]["hosts"], theirs[name]["gateways"]), one["id"]
            assert list(map(route_of, spec["http"])) == list(map(route_of, theirs[name]["http"])), one["id"]
            told += len(spec["http"])
    assert told > 1000


def test_the_ports_are_those_that_istiod_has_listened_on() -> None:
    for one in CASES:
        ports = [port.server_port for port in compiled(one).gateway.values() if port.chains]
        assert sorted(ports) == one["istio"]["ports"], one["id"]


def test_every_request_goes_where_istiod_has_it_go() -> None:
    wrong = [text for one in CASES for text in differences(one)]
    assert wrong == []


def differences(one: dict[str, Any]) -> list[str]:
    snapshot = compiled(one)
    return [
        f"{one['id']} {call}: {ours}, istiod has {theirs}"
        for call, theirs in zip(one["calls"], one["istio"]["leads"], strict=True)
        if (ours := leads(snapshot, call)) != re.sub(r"^NC .*\|", "NC ", theirs)
    ]
