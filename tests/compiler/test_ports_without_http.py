"""Ports that are not HTTP: http rules do not act there, and what a connection is for is told by its address."""

from __future__ import annotations

import pytest

from meshlib import Mesh
from meshlib.compiler.compile import Compiler
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_decisions import answering, compiled, decision, entry, http_entry
from tests.support.resources import Resource, pod, service, to


def with_port(name: str, port_name: str, number: int = 9080, **spec: object) -> Resource:
    return service(name, ports=[{"name": port_name, "port": number}], **spec)


def of(protocol: str, number: int = 5432) -> dict[str, object]:
    return {"number": number, "name": protocol.lower(), "protocol": protocol}


@pytest.mark.parametrize("name", ["tcp", "tls-x", "https", "mongo", "mysql", "redis-cache"])
def test_calls_to_a_port_that_is_not_http_go_to_its_service_by_no_rule(name):
    snap = compiled(with_port("db", name), answering("v", "db"))
    assert decision(snap, "http://db:9080/") == "tcp: default -> outbound|9080||db.default.svc.cluster.local"
    rule = snap.virtual_host("db:9080", "http").single
    assert (rule.retry.attempts, rule.timeout) == (0, None), "nor with retries: a connection is all there is"


def test_a_port_of_no_declared_protocol_takes_http():
    snap = compiled(with_port("a", "whatever"), answering("v", "a"))
    assert decision(snap, "http://a:9080/") == "default/v: 204"


def test_a_service_whose_port_declares_nothing_has_its_address_for_itself_whatever_host_says():
    resources = [with_port("a", "whatever"), service("web"), answering("v", "a")]
    snap = compiled(*resources)
    for host in ("web:9080", "elsewhere.test"):
        assert snap.virtual_host("a:9080", "http", host).resource == "VirtualService/default/v"
    assert snap.virtual_host("web:9080", "http", "a").resource == "VirtualService/default/v", (
        "where Host is asked it may say so"
    )
    with Mesh.from_resources(resources) as mesh:
        told = str(mesh.explain(url="http://a:9080/", headers={"Host": "web:9080"}))
    assert (
        "Host web:9080 is sent and does not decide: port 9080 of a.default.svc.cluster.local declares no protocol"
        in told
    )


def test_what_one_service_declares_does_not_change_the_port_of_another():
    snap = compiled(with_port("db", "tcp"), service("web"), answering("v", "web"))
    assert decision(snap, "http://web:9080/") == "default/v: 204"
    assert decision(snap, "http://db:9080/").startswith("tcp: default")


def test_an_explanation_says_why_no_rule_counts():
    with Mesh.from_resources([with_port("db", "tcp", 3306), answering("v", "db")]) as mesh:
        found = mesh.explain(url="http://db:3306/")
    assert "port 3306 of db.default.svc.cluster.local is TCP: http rules do not act there (Istio)" in str(found)
    assert found.to_dict()["virtual_host"] == "db.default.svc.cluster.local:3306"


def test_an_explanation_says_who_has_a_whole_port():
    with Mesh.from_resources([entry("db.test", of("TCP"))]) as mesh:
        assert "it has the port's connections to every other host" in str(mesh.explain(url="http://other.test:5432/"))


def test_the_host_header_is_not_asked_where_connections_are_forwarded():
    snap = compiled(with_port("db", "tcp"), service("web"))
    assert snap.virtual_host("db:9080", "http", "web:9080").host == "db.default.svc.cluster.local"
    assert snap.virtual_host("web:9080", "http", "db:9080") is snap.passthrough


def test_tcp_without_an_address_cannot_be_told_from_other_hosts_and_is_passed_through_beside_http():
    snap = compiled(entry("db.test", of("TCP", 9080)), service("web"))
    assert decision(snap, "http://db.test:9080/") == "passthrough"
    assert decision(snap, "http://web:9080/").startswith("default ->")


def test_tcp_without_an_address_has_the_whole_port_where_nobody_speaks_http():
    older = entry("db.test", of("TCP"))
    older["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    newer = entry("other.test", of("TCP"))
    newer["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z"
    snap = compiled(newer, older)
    for name in ("db.test", "other.test", "example.com"):
        assert decision(snap, f"http://{name}:5432/") == "tcp: default -> outbound|5432||db.test"


def test_of_two_of_the_same_age_the_first_by_host_has_it():
    snap = compiled(
        {**entry("b.test", of("TCP")), "metadata": {"name": "first", "namespace": "default"}},
        {**entry("a.test", of("TCP")), "metadata": {"name": "second", "namespace": "default"}},
    )
    assert decision(snap, "http://b.test:5432/") == "tcp: default -> outbound|5432||a.test"


def test_an_address_tells_what_a_connection_is_for():
    addressed = entry("db.test", of("TCP", 9080), addresses=["240.0.0.7"])
    snap = compiled(addressed, service("web"), answering("v", "db.test", "240.0.0.7"))
    for name in ("db.test", "240.0.0.7"):
        assert decision(snap, f"http://{name}:9080/") == "tcp: default -> outbound|9080||db.test"


def test_mysql_shares_its_listener_with_nobody():
    first = entry("db.test", of("MySQL", 9080))
    first["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    later = service("web")
    later["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z"
    assert decision(compiled(first, later), "http://web:9080/") == "tcp: default -> outbound|9080||db.test"
    first["metadata"]["creationTimestamp"] = "2022-01-01T00:00:00Z"
    snap = compiled(first, later)
    assert decision(snap, "http://web:9080/") == "default -> outbound|9080||web.default.svc.cluster.local"
    assert decision(snap, "http://db.test:9080/") == "passthrough"


def test_tcp_rules_decide_about_connections():
    rules = answering("v", "db")
    rules["spec"] = {"hosts": ["db"], "tcp": [{"route": [to("other")]}]}
    snap = compiled(with_port("db", "tcp"), with_port("other", "tcp"), pod("other", "v1", 1), rules)
    assert decision(snap, "http://db:9080/") == "tcp: default/v -> outbound|9080||other.default.svc.cluster.local"


def test_plaintext_to_a_port_with_tls_rules_is_none_of_theirs():
    rules = answering("v", "db")
    rules["spec"] = {"hosts": ["db", "db.test"], "tls": [{"match": [{"sniHosts": ["db.test"]}], "route": [to("db")]}]}
    assert decision(compiled(with_port("db", "tls"), rules), "http://db:9080/") == "passthrough"


def test_describe_and_status_know_such_hosts():
    with Mesh.from_resources([with_port("db", "tcp", 3306), http_entry("x.test", 80)]) as mesh:
        hosts = {(v["host"], v["port"], v["tcp"]) for v in mesh.describe()["virtual_hosts"]}
    db = "db.default.svc.cluster.local"
    assert hosts == {(db, 3306, True), (db, 3306, False), ("x.test", 80, False)}, "https URLs to it follow http rules"
    with Mesh.from_resources([with_port("db", "tcp", 3306)], https_rules="istio") as mesh:
        assert [v["tcp"] for v in mesh.describe()["virtual_hosts"]] == [True]


def test_a_headless_service_is_reached_where_it_has_pods():
    headless = with_port("db", "tcp", 5432, clusterIP="None")
    there = pod("db", "v1", 5432)
    there["spec"]["containers"][0]["ports"][0]["name"] = "tcp"
    assert decision(compiled(headless), "http://db:5432/") == "passthrough"
    assert decision(compiled(headless, there), "http://db:5432/").startswith("tcp: default -> outbound|5432||db.")
    compiler = Compiler(Workload())
    for resources in ([headless], [headless, there], [headless]):
        snap = compiler.compile(load_objects(resources).resources)
        assert decision(snap, "http://db:5432/") == decision(compiled(*resources), "http://db:5432/")
