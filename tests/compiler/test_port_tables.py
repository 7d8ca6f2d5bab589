"""The virtual hosts of each port: which name on which port is whose, as istiod writes a sidecar's routes."""

from __future__ import annotations

import pytest

from meshlib import Mesh
from meshlib.compiler.compile import Compiler
from meshlib.compiler.routes import PortTable
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_decisions import answering, compiled, decision, entry, http_entry
from tests.support.resources import service, to, virtual_service

WEB = service("web", port=80)
"""Some service has port 80, as in any cluster."""


def test_an_exact_name_on_one_port_does_not_hide_a_wildcard_on_another():
    snap = compiled(http_entry("x.test", 8080), http_entry("*.test", 80))
    assert decision(snap, "http://x.test/") == "default -> outbound|80||*.test"
    assert decision(snap, "http://x.test:8080/") == "default -> outbound|8080||x.test"
    assert decision(snap, "http://y.test:8080/") == "passthrough"


def test_a_wildcard_of_the_clients_own_namespace_is_not_every_host_there_is():
    snap = compiled(
        WEB, answering("all", "*.default.svc.cluster.local"), http_entry("*.default.svc.cluster.local", 9000)
    )
    assert decision(snap, "http://web/") == "default/all: 204"
    assert decision(snap, "http://example.com/") == "passthrough"
    assert decision(snap, "http://example.com:9000/") == "passthrough"


def test_the_longest_wildcard_of_a_port_names_the_virtual_host():
    snap = compiled(http_entry("*.test", 80), http_entry("*.b.test", 80), http_entry("*.c.b.test", 8080))
    assert decision(snap, "http://a.b.test/") == "default -> outbound|80||*.b.test"
    assert decision(snap, "http://a.c.b.test/") == "default -> outbound|80||*.b.test"
    assert decision(snap, "http://a.test/") == "default -> outbound|80||*.test"
    assert decision(snap, "http://test/") == "passthrough"


def test_a_claimed_host_is_also_there_on_port_80_by_its_full_name():
    snap = compiled(WEB, service("a"), answering("a", "a"))
    assert decision(snap, "http://a.default.svc.cluster.local:80/") == "default/a: 204"
    assert decision(snap, "http://a:80/") == "passthrough", "a host that is not the registry's has no short forms"
    assert decision(snap, "http://a:8080/") == "passthrough"


def test_hosts_of_a_virtual_service_come_along_to_the_ports_of_those_that_are_registered():
    snap = compiled(WEB, service("a"), answering("both", "a", "nobody.test"))
    assert decision(snap, "http://a:9080/") == "default/both: 204"
    assert decision(snap, "http://nobody.test:9080/") == "default/both: 204"
    assert decision(snap, "http://nobody.test/") == "default/both: 204"
    assert decision(snap, "http://nobody.test:8080/") == "passthrough"


def test_a_partial_host_claims_the_very_name_that_it_is_on_port_80():
    snap = compiled(service("a", port=80, namespace="other"), answering("v", "a.other"))
    assert decision(snap, "http://a.other/") == "default/v: 204"
    assert decision(snap, "http://a.other.svc.cluster.local/") == "default -> outbound|80||a.other.svc.cluster.local"
    elsewhere = compiled(service("a", namespace="other"), answering("v", "a.other"))
    assert decision(elsewhere, "http://a.other:9080/") == "default -> outbound|9080||a.other.svc.cluster.local"


def test_of_equal_wildcard_claims_only_the_oldest_counts_even_without_a_rule_for_this_client():
    nobody = [{"sourceLabels": {"app": "nobody"}}]
    older = answering("older", "*.default.svc.cluster.local", created="2020", match=nobody)
    newer = answering("newer", "*.default.svc.cluster.local", created="2021")
    assert decision(compiled(service("a"), older, newer), "http://a:9080/").startswith("default ->")
    exact = answering("exact", "a", created="2022", match=nobody)
    assert decision(compiled(service("a"), exact, newer), "http://a:9080/").startswith("default ->"), (
        "nor behind an exact one"
    )


def test_a_wildcard_claim_narrower_than_the_service_entry_does_not_act():
    snap = compiled(http_entry("*.test", 80), answering("v", "*.b.test"))
    assert decision(snap, "http://a.b.test/") == "default -> outbound|80||*.test"


def test_a_virtual_service_for_one_host_of_a_wildcard_service_entry_acts_on_port_80_only():
    snap = compiled(http_entry("*.test", 80, 8080), answering("v", "x.test"))
    assert decision(snap, "http://x.test/") == "default/v: 204"
    assert decision(snap, "http://y.test/") == "default -> outbound|80||*.test"
    assert decision(snap, "http://x.test:8080/") == "default -> outbound|8080||*.test"


def test_a_wildcard_claim_serves_what_it_covers_and_nothing_else():
    snap = compiled(http_entry("x.test", 80), answering("v", "*.test"))
    assert decision(snap, "http://x.test/") == "default/v: 204"
    assert decision(snap, "http://y.test/") == "passthrough", (
        "some host of the registry is what the wildcard stands for"
    )
    nothing_fits = compiled(WEB, answering("v", "*.test"))
    assert decision(nothing_fits, "http://y.test/") == "default/v: 204"


def test_wildcards_need_not_begin_at_a_label():
    vhost = compiled(WEB).virtual_host("web", "http")
    table = PortTable({}, {"x.test": vhost, ".test": vhost})
    assert table.find("fox.test") is vhost
    assert table.find("x.test") is vhost
    assert PortTable({}, {"x.test": vhost}).find("x.test") is None, "the asterisk stands for something"


def test_a_service_entry_within_the_clusters_domain_has_the_short_forms_of_a_service():
    snap = compiled(http_entry("db.default.svc.cluster.local", 80), http_entry("db.other.svc.cluster.local", 80))
    assert decision(snap, "http://db/") == "default -> outbound|80||db.default.svc.cluster.local"
    assert decision(snap, "http://db.other.svc/") == "default -> outbound|80||db.other.svc.cluster.local"


def test_a_short_form_does_not_take_the_full_name_of_another_host():
    snap = compiled(service("a", port=80, namespace="test"), http_entry("a.test", 80))
    assert decision(snap, "http://a.test/") == "default -> outbound|80||a.test"


def test_a_url_without_a_port_means_the_only_port_of_its_service():
    snap = compiled(http_entry("x.test", 8080), http_entry("two.test", 8080, 8081), http_entry("*.wild.test", 8081))
    assert decision(snap, "http://x.test/") == "default -> outbound|8080||x.test"
    assert decision(snap, "http://two.test/") == "passthrough"
    assert decision(snap, "http://a.wild.test/") == "default -> outbound|8081||*.wild.test"


@pytest.mark.parametrize(
    "name", ["db-0.db", "db-0.db.default", "db-0.db.default.svc", "db-0.db.default.svc.cluster.local"]
)
def test_pods_of_a_headless_service_are_called_by_their_names(name):
    snap = compiled(service("db", port=80, clusterIP="None"))
    assert snap.virtual_host(name, "http").host == "db.default.svc.cluster.local"


def test_rules_that_no_port_changes_are_made_once():
    ports = [{"name": f"http-{n}", "port": n} for n in (8080, 9080)]
    rule = {"route": [to("web", port=80)]}
    snap = compiled(WEB, service("a", ports=ports), virtual_service("a", rule))
    assert snap.virtual_host("a:8080", "http").rules is snap.virtual_host("a:9080", "http").rules
    by_port = {"match": [{"port": 8080}], "route": [to("web", port=80)]}
    snap = compiled(WEB, service("a", ports=ports), virtual_service("a", by_port, rule))
    assert [len(snap.virtual_host(f"a:{n}", "http").rules) for n in (8080, 9080)] == [2, 1]


def test_a_destination_of_the_clients_namespace_need_not_be_exported_to_it():
    hidden = service("b", port=80)
    hidden["metadata"]["annotations"] = {"networking.istio.io/exportTo": "elsewhere"}
    snap = compiled(service("a", port=80), hidden, virtual_service("a", {"route": [to("b")]}))
    assert decision(snap, "http://a/") == "default/a -> outbound|80||b.default.svc.cluster.local"
    assert decision(snap, "http://b/") == "passthrough", "but it is no virtual host"


def test_unknown_hosts_are_unknown_on_every_port():
    snap = compiled(WEB, entry("*.test", {"number": 80, "name": "http", "protocol": "HTTP"}), workload=Workload())
    for url in ("http://example.com/", "http://example.com:80/", "https://example.com/", "http://web:81/"):
        assert decision(snap, url) == "passthrough"


def test_of_two_claims_on_an_unregistered_host_the_first_with_a_rule_counts():
    nobody = answering("a", "x.test", created="2020", match=[{"sourceLabels": {"app": "nobody"}}])
    snap = compiled(WEB, nobody, answering("b", "x.test", created="2021"))
    assert decision(snap, "http://x.test/") == "default/b: 204"


def test_a_port_that_a_url_writes_is_that_port():
    with Mesh.from_resources([WEB, service("a", port=9080)]) as mesh:
        assert mesh.explain(url="http://a/").to_dict()["virtual_host"] == "a.default.svc.cluster.local:9080"
        told = mesh.explain(url="http://a:80/")
        assert told.to_dict()["virtual_host"] == "*"
        assert "httpx leaves :80 out of its URLs, and such calls go to a.default.svc.cluster.local:9080" in str(told)
        assert "httpx" not in str(mesh.explain(url="http://web:80/")), "where it makes no difference nothing is said"


@pytest.mark.parametrize("host", ["a.other", "a.other.svc"])
def test_a_part_of_a_full_name_gets_the_full_name_as_a_hint(host):
    resources = [service("a", port=80, namespace="other"), answering("v", host)]
    (problem,) = [p for p in compiled(*resources).problems if p.code == "partial-host"]
    assert problem.path == "VirtualService/default/v spec.hosts[0]"
    assert problem.hint == "write a.other.svc.cluster.local"
    compiler = Compiler(Workload())
    for given in (resources, resources[1:], resources[:1], resources):
        made = compiler.compile(load_objects(given).resources)
        assert [p.code for p in made.problems if p.code == "partial-host"] == ["partial-host"] * (len(given) == 2)


@pytest.mark.parametrize("host", ["example.com", "a.other.svc.cluster.local", "a.nobody", "*.other"])
def test_other_names_are_no_part_of_one(host):
    found = compiled(service("a", port=80, namespace="other"), answering("v", host)).problems
    assert "partial-host" not in [p.code for p in found]
