"""Addresses for services that have none."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.changes import Change, everything
from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.problems import Severity
from meshlib.registry import automatic
from meshlib.registry.automatic import IPV4, IPV6, AutomaticAddresses
from meshlib.registry.build import RegistryBuilder, build_registry
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import service, service_entry


def loaded(*resources: dict) -> list:
    result = load_objects(list(resources))
    assert not result.errors, result.errors
    return result.resources


def addresses(*resources: dict) -> dict[str, tuple[str, ...]]:
    found = build_registry(loaded(*resources), automatic=True)
    return {each.host: each.addresses for each in found.all()}


def entry(name: str, **spec: object) -> dict:
    return service_entry(name, f"{name}.com", resolution="DNS", **spec)


def test_a_service_entry_without_addresses_gets_one_of_each_family():
    four, six = addresses(entry("api"))["api.com"]
    assert ipaddress.ip_address(four) in IPV4
    assert ipaddress.ip_address(six) in IPV6
    assert not four.endswith((".0", ".255"))


def test_without_capture_there_are_none():
    assert build_registry(loaded(entry("api"))).all()[0].addresses == ()


def test_each_host_of_an_entry_has_its_own():
    found = addresses(service_entry("both", "a.com", "b.com", resolution="DNS"))
    assert found["a.com"][0] != found["b.com"][0]


@pytest.mark.parametrize(
    "changed",
    [
        {"spec": {"resolution": "NONE"}},
        {"spec": {"addresses": ["10.0.0.1"]}},
        {"spec": {"addresses": ["10.0.0.0/8"], "resolution": "STATIC"}},
        {"spec": {"hosts": ["*.api.com"], "resolution": "STATIC"}},
        {"metadata": {"labels": {"networking.istio.io/enable-autoallocate-ip": "False"}}},
    ],
)
def test_istio_gives_none_to(changed):
    made = entry("api")
    for part, values in changed.items():
        made[part].update(values)
    (found,) = addresses(made).values()
    assert not any(each.startswith("240.") for each in found)


def test_a_wildcard_whose_names_are_looked_up_as_they_are_called_gets_one():
    (found,) = addresses(service_entry("wide", "*.wide.com", resolution="DYNAMIC_DNS")).values()
    assert len(found) == 2


def test_what_istio_has_given_stays():
    made = entry("api")
    made["status"] = {
        "addresses": [
            {"value": "240.240.0.7", "host": "api.com"},
            {"value": "2001:2::7", "host": "api.com"},
            {"value": "240.240.0.8", "host": "other.com"},
            {"value": "none", "host": "api.com"},
        ]
    }
    assert addresses(made)["api.com"] == ("240.240.0.7", "2001:2::7")


def test_what_istio_has_given_is_given_to_nobody_else():
    (four, six) = addresses(entry("api"))["api.com"]
    other = entry("other")
    other["status"] = {"addresses": [{"value": four, "host": "other.com"}]}
    found = addresses(entry("api"), other)
    assert found["other.com"] == (four,)
    assert found["api.com"][0] not in (four, six)


def test_a_service_without_a_cluster_ip_gets_one_where_no_api_server_has_given_any():
    found = addresses(service("web"), service("db", clusterIP="None"), service("has", clusterIP="10.0.0.1"))
    assert found["web.default.svc.cluster.local"][0].startswith("240.240.")
    assert found["db.default.svc.cluster.local"] == ()
    assert found["has.default.svc.cluster.local"] == ("10.0.0.1",)


def test_a_host_that_has_addresses_by_another_definition_of_its_namespace_gets_none():
    same = service_entry("same", "web.default.svc.cluster.local")
    found = build_registry(loaded(service("web", clusterIP="10.0.0.1"), same), automatic=True)
    assert found.lookup("web.default.svc.cluster.local", "default").addresses == ("10.0.0.1",)


def test_several_definitions_of_a_namespace_share_one():
    one, two = entry("one"), entry("two")
    two["spec"]["hosts"] = ["one.com"]
    found = build_registry(loaded(one, two), automatic=True)
    assert len(found.lookup("one.com", "default").addresses) == 2


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4), st.integers(1, 12))
def test_which_one_it_is_hangs_on_what_is_there_and_not_on_how_it_came_there(turns, places):
    """With few places, so that several want the same."""
    before = automatic.PLACES
    automatic.PLACES = places
    try:
        compiler = Compiler(Workload("me"), automatic=True)
        for names in turns:
            made = compiler.compile(loaded(*map(entry, names)))
            fresh = Compiler(Workload("me"), automatic=True).compile(loaded(*map(entry, sorted(names))))
            found = {each.host: each.addresses for each in made.hosts.services()}
            assert found == {each.host: each.addresses for each in fresh.hosts.services()}
            given_to = [each for each in found.values() if each]
            assert len(given_to) == len(set(given_to)) == min(places, len(names))
    finally:
        automatic.PLACES = before


def test_a_reload_changes_the_address_of_nobody_else():
    made = AutomaticAddresses()
    all_of_them = {each.host: [each] for each in build_registry(loaded(*(entry(f"n{i}") for i in range(200)))).all()}
    made.renew(all_of_them)
    before = {host: made.of(each).addresses for host, (each,) in all_of_them.items()}
    assert made.renew({"n7.com": []}) == {"n7.com"}
    assert all(made.of(each).addresses == before[host] for host, (each,) in all_of_them.items() if host != "n7.com")
    assert made.renew({"n7.com": all_of_them["n7.com"]}) == {"n7.com"}
    assert {host: made.of(each).addresses for host, (each,) in all_of_them.items()} == before


def test_connections_of_tcp_are_told_apart_by_them():
    tcp = [{"number": 5432, "name": "tcp", "protocol": "TCP"}]
    resources = loaded(*(entry(name, ports=tcp) for name in ("one", "two")))
    snapshot = Compiler(Workload("me"), https_rules="istio", automatic=True).compile(resources)
    for each in snapshot.hosts.services():
        four, six = each.addresses
        for authority in (f"{four}:5432", f"[{six}]:5432"):
            assert snapshot.virtual_host(authority, "http").host == each.host
    plain = compile_snapshot(resources, Workload("me"), https_rules="istio")
    assert {plain.virtual_host(f"240.240.0.{i}:5432", "http").host for i in range(1, 9)} == {"one.com"}  # they are not


def test_whom_no_address_is_left_for_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr(automatic, "PLACES", 2)
    made = [entry(name) for name in ("one", "two", "three")]
    for at, each in enumerate(made):
        each["metadata"]["creationTimestamp"] = f"2026-01-0{3 - at}T00:00:00Z"  # the first one is the youngest
    builder = RegistryBuilder(automatic=True)
    resources = loaded(*made)
    (found,) = builder.take(everything(resources)).problems
    assert (found.code, found.severity, found.path) == ("no-automatic-address", Severity.WARNING, resources[0].id)
    assert found.message.startswith(
        "no automatic address is left for one.com: older ones have all 2, and 1 host has none"
    )
    assert found.hint.startswith("give it addresses of its own")
    assert "enable-autoallocate-ip" in found.hint
    without = Change(gone=[resources[2]], come=[])
    assert builder.take(without).problems == [], "one is free again"


def test_many_for_whom_none_is_left_are_told_by_the_first_and_their_number(monkeypatch):
    monkeypatch.setattr(automatic, "PLACES", 1)
    monkeypatch.setattr(automatic, "MOST_SAID", 2)
    found = build_registry(loaded(*(entry(f"n{i}") for i in range(9))), automatic=True).problems
    assert len(found) == 2
    assert all("and 8 hosts have none" in each.message for each in found)
