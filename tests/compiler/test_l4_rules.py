"""tls and tcp rules: compiled for the proxy, which asks them about connections."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import pod, service, to, virtual_service

PORTS = [{"name": "tcp-db", "port": 5432}, {"name": "tls-db", "port": 5433}]
BASE = [
    service("db", ports=PORTS),
    pod("db", "v1", 1),
    service("b", ports=PORTS),
    pod("b", "v1", 2),
]


def snapshot(workload: Workload | None = None, **rules: Any):
    made = virtual_service("db", **rules)
    made["spec"]["http"] = None
    result = load_objects([*BASE, {**made, "spec": {k: v for k, v in made["spec"].items() if v is not None}}])
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, workload or Workload())


def host(snap: Any, port: int = 5433) -> Any:
    return snap.l4.get(("db.default.svc.cluster.local", port))


def sent_to(rule: Any) -> str | None:
    return None if rule is None else rule.destinations[0].host.partition(".")[0]


def test_the_server_name_decides_an_exact_one_before_a_wildcard():
    snap = snapshot(
        hosts=["db", "*.test"],
        tls=[
            {"match": [{"sniHosts": ["*.test"]}], "route": [to("db")]},
            {"match": [{"sniHosts": ["a.test"]}], "route": [to("b")]},
        ],
    )
    there = host(snap)
    assert sent_to(there.route("a.test")) == "b"
    assert sent_to(there.route("A.test")) == "b"
    assert sent_to(there.route("x.test")) == "db"
    assert there.route("test") is None
    assert there.route("other") is None


def test_the_first_tcp_rule_that_fits_decides():
    snap = snapshot(
        tcp=[
            {"match": [{"destinationSubnets": ["10.0.0.0/8"], "port": 5432}], "route": [to("b")]},
            {"match": [{"sourceSubnet": "192.168.0.0/16"}], "route": [to("b")]},
            {"route": [to("db")]},
        ],
    )
    there = host(snap, 5432)
    assert there.route(destination="10.1.2.3").index == 0
    assert there.route(destination="11.1.2.3").index == 2
    assert there.route(source="192.168.1.1").index == 1
    assert there.route(destination="::1").index == 2
    assert host(snap, 5433).route(destination="10.1.2.3").index == 2  # the first rule is for the other port


def test_rules_for_other_clients_do_not_exist():
    rules: list[dict[str, Any]] = [{"match": [{"sourceLabels": {"app": "x"}}], "route": [to("b")]}]
    assert host(snapshot(tcp=rules)) is None
    assert host(snapshot(Workload(labels={"app": "x"}), tcp=rules)).route().index == 0


def test_connections_are_split_by_weight():
    snap = snapshot(tcp=[{"route": [to("db", weight=3), to("b", weight=1)]}])
    rule = host(snap, 5432).route()
    assert (rule.choice.total, [d.weight for d in rule.destinations]) == (4, [3, 1])


def test_a_destination_that_is_not_there_is_reported():
    snap = snapshot(tcp=[{"route": [to("nowhere")]}])
    problem = next(p for p in snap.problems if p.code == "unknown-destination")
    assert problem.path == "VirtualService/default/db spec.tcp[0].route"


@pytest.mark.parametrize("subnet", ["10.0.0.0/40", "nonsense"])
def test_a_subnet_that_is_none_is_refused(subnet):
    made = virtual_service("db", tcp=[{"match": [{"destinationSubnets": [subnet]}], "route": [to("b")]}])
    result = load_objects([made])
    assert [e.code for e in result.errors] == ["bad-subnet"]
