"""Which endpoints take mTLS, under which name, and who may answer."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.routes import Cluster
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service

US = Workload("client", labels={"app": "client"})
REVIEWS = "reviews.default.svc.cluster.local"
V1, V2 = "127.0.0.1:1", "127.0.0.1:2"


def server(
    version: str, port: int, account: str = "reviews", mode: str | None = "istio", **more: Any
) -> dict[str, Any]:
    made = pod("reviews", version, port, **more)
    if mode is not None:
        made["metadata"]["labels"]["security.istio.io/tlsMode"] = mode
    made["spec"]["serviceAccountName"] = account
    return made


BOTH = (service("reviews"), server("v1", 1), server("v2", 2))


def cluster(
    *resources: dict[str, Any], subset: str = "", port: int = 9080, host: str = REVIEWS, us: Workload = US
) -> Cluster:
    loaded = load_objects(resources)
    assert not loaded.errors, loaded.errors
    return compile_snapshot(loaded.resources, us).clusters[f"outbound|{port}|{subset}|{host}"]


# -- auto mTLS --------------------------------------------------------------------------------------------------------


def test_endpoints_that_say_so_take_mtls_under_istios_server_name() -> None:
    found = cluster(*BOTH[:2], server("v2", 2, mode=None))
    assert found.auto_mtls is not None
    assert (found.tls, found.mutual) == (None, {V1})
    assert (found.auto_mtls.mode, found.auto_mtls.sni) == ("ISTIO_MUTUAL", f"outbound_.9080_._.{REVIEWS}")


@pytest.mark.parametrize("mode", ["disabled", "", "Istio", None])
def test_any_other_label_is_plain_text(mode: str | None) -> None:
    found = cluster(service("reviews"), server("v1", 1, mode=mode))
    assert (found.auto_mtls, found.mutual) == (None, frozenset())


def test_a_rule_without_a_tls_block_keeps_it_and_its_subsets_have_names_of_their_own() -> None:
    rule = destination_rule("reviews", "v1", "v2", connectionPool={"http": {"maxRetries": 1}})
    route = virtual_service("reviews", {"route": [to("reviews", "v1", 1), to("reviews", "v2", 1)]})
    found = cluster(*BOTH, rule, route, subset="v1")
    assert found.auto_mtls is not None
    assert (found.mutual, found.auto_mtls.sni) == ({V1}, f"outbound_.9080_.v1_.{REVIEWS}")


@pytest.mark.parametrize(
    ("tls", "mode"), [({}, ""), ({"mode": "DISABLE"}, ""), ({"mode": "SIMPLE"}, "SIMPLE"), ({"sni": "x"}, "")]
)
def test_any_tls_block_turns_it_off(tls: dict[str, Any], mode: str) -> None:
    found = cluster(*BOTH, destination_rule("reviews", tls=tls))
    assert (found.auto_mtls, found.mutual) == (None, frozenset())
    assert (found.tls.mode if found.tls is not None else "") == mode
    if not mode:
        assert found.why_plain == "DestinationRule/default/reviews has a tls block of mode DISABLE"


def test_the_mesh_config_turns_it_off() -> None:
    found = cluster(*BOTH, mesh_config(enableAutoMtls=False))
    assert (found.auto_mtls, found.mutual) == (None, frozenset())
    assert "enableAutoMtls" in found.why_plain
    assert cluster(*BOTH, mesh_config(enableAutoMtls=True)).mutual == {V1, V2}


ENTRY = {"address": "10.0.0.7", "labels": {"security.istio.io/tlsMode": "istio"}}


@pytest.mark.parametrize(("location", "mutual"), [("MESH_INTERNAL", {"10.0.0.7:80"}), ("MESH_EXTERNAL", set())])
def test_what_is_outside_the_mesh_is_called_in_plain_text(location: str, mutual: set[str]) -> None:
    entry = service_entry("vm", "vm.test", location=location, endpoints=[ENTRY])
    assert cluster(entry, host="vm.test", port=80).mutual == mutual


@pytest.mark.parametrize(
    ("labels", "account", "mutual"),
    [
        ({}, "vm", True),
        ({}, None, False),
        ({"security.istio.io/tlsMode": "disabled"}, "vm", False),
        ({"security.istio.io/tlsMode": "istio"}, None, True),
    ],
)
def test_a_workload_entry_takes_it_when_it_has_a_service_account(labels: Any, account: Any, mutual: bool) -> None:
    place = {"address": "10.0.0.7", "labels": labels, **({"serviceAccount": account} if account else {})}
    entry = service_entry("vm", "vm.test", location="MESH_INTERNAL", endpoints=[place])
    assert bool(cluster(entry, host="vm.test", port=80).mutual) == mutual


def test_a_server_that_disables_mtls_at_that_port_is_called_in_plain_text() -> None:
    off = peer_authentication("v2", "STRICT", version="v2")
    off["spec"]["portLevelMtls"] = {"2": {"mode": "DISABLE"}, "1": {"mode": "DISABLE"}}
    found = cluster(*BOTH, off)
    assert (found.mutual, found.mtls_disabled) == ({V1}, {V2: "default/v2"})


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE", "UNSET"])
def test_every_other_mode_is_called_by_mtls(mode: str) -> None:
    assert cluster(*BOTH, peer_authentication("all", mode)).mutual == {V1, V2}


def test_what_counts_is_the_mode_of_the_servers_namespace_and_not_of_ours() -> None:
    ours = peer_authentication("all", "DISABLE", namespace="web")
    assert cluster(*BOTH, ours, us=Workload("client", "web")).mutual == {V1, V2}
    theirs = peer_authentication("all", "DISABLE")
    assert cluster(*BOTH, theirs, us=Workload("client", "web")).mutual == frozenset()


def test_a_workload_that_is_strict_in_a_namespace_without_mtls_is_called_by_mtls() -> None:
    policies = peer_authentication("all", "DISABLE"), peer_authentication("v1", "STRICT", version="v1")
    assert cluster(*BOTH, *policies).mutual == {V1}


def test_where_addresses_are_dialled_each_takes_what_its_workload_takes() -> None:
    """On its own port and on the one that was dialled, which is another port of the same workload."""
    headless = service("reviews", clusterIP="None")
    found = cluster(headless, server("v1", 1), server("v2", 2, ip="10.0.0.2", mode=None))
    assert (found.resolution, found.mutual) == ("passthrough", {V1, "127.0.0.1:9080"})


def test_a_tls_block_around_a_port_level_without_one_decides_as_in_istio() -> None:
    """The cluster has none then, and so auto mTLS; istiod asks the wider level of each endpoint."""
    port = {"port": {"number": 9080}, "loadBalancer": {"simple": "RANDOM"}}
    simple = destination_rule("reviews", tls={"mode": "SIMPLE"}, portLevelSettings=[port])
    found = cluster(*BOTH, simple)
    assert (found.tls, found.auto_mtls) == (None, None)
    mutual = destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"}, portLevelSettings=[port])
    found = cluster(BOTH[0], BOTH[1], server("v2", 2, mode=None), mutual, peer_authentication("off", "DISABLE"))
    assert (found.tls, found.mutual) == (None, {V1})


# -- who may answer ---------------------------------------------------------------------------------------------------


def sans(*resources: dict[str, Any], **more: Any) -> tuple[str, ...]:
    found = cluster(*resources, **more)
    tls = found.tls or found.auto_mtls
    assert tls is not None
    return tls.subject_alt_names


def test_the_service_accounts_of_all_endpoints_on_all_ports_may_answer() -> None:
    ports = [{"name": "http", "port": 9080, "targetPort": 1}, {"name": "admin", "port": 81, "targetPort": 2}]
    pods = [server("v1", 1, "one", ip="10.0.0.1"), server("v2", 2, "two", mode=None, ip="10.0.0.2")]
    rule = destination_rule("reviews", "v1", "v2")
    route = virtual_service("reviews", {"route": [to("reviews", "v1")]})
    wanted = tuple(f"spiffe://cluster.local/ns/default/sa/{account}" for account in ("one", "two"))
    assert sans(service("reviews", ports=ports), *pods, rule, route, subset="v1") == wanted


def test_the_trust_domain_is_the_meshs_and_its_aliases_count() -> None:
    mesh = mesh_config(trustDomain="td1", trustDomainAliases=["old", "older"])
    assert sans(*BOTH, mesh) == tuple(f"spiffe://{d}/ns/default/sa/reviews" for d in ("old", "older", "td1"))


def test_a_service_entry_names_who_answers_beside_its_service_accounts() -> None:
    names = ["spiffe://other/vm", "vm.test"]
    place = {"address": "10.0.0.7", "serviceAccount": "vm"}
    entry = service_entry("vm", "vm.test", location="MESH_INTERNAL", endpoints=[place], subjectAltNames=names)
    assert set(sans(entry, host="vm.test", port=80)) == {"spiffe://cluster.local/ns/default/sa/vm", *names}
    aliased = sans(entry, mesh_config(trustDomainAliases=["old"]), host="vm.test", port=80)
    assert {name for name in aliased if "old" in name} == {"spiffe://old/ns/default/sa/vm"}


def test_without_any_account_nobody_is_named() -> None:
    place = {"address": "10.0.0.7", "labels": {"security.istio.io/tlsMode": "istio"}}
    assert (
        sans(service_entry("vm", "vm.test", location="MESH_INTERNAL", endpoints=[place]), host="vm.test", port=80) == ()
    )


# -- SIMPLE and MUTUAL ------------------------------------------------------------------------------------------------

NAMED = service_entry("api", "api.test", subjectAltNames=["b.test", "a.test"], endpoints=[{"address": "10.0.0.7"}])
ACCOUNT = service_entry(
    "api", "api.test", location="MESH_INTERNAL", endpoints=[{"address": "10.0.0.7", "serviceAccount": "api"}]
)


def simple(entry: dict[str, Any], **tls: Any) -> tuple[tuple[str, ...], bool]:
    found = cluster(entry, destination_rule("api.test", tls={"mode": "SIMPLE", **tls}), host="api.test", port=80).tls
    assert found is not None
    return found.subject_alt_names, found.named_too


@pytest.mark.parametrize("mode", [{}, {"mode": "MUTUAL", "clientCertificate": "c.pem", "privateKey": "k.pem"}])
def test_names_of_a_service_entry_count_where_the_rule_names_none(mode: dict[str, str]) -> None:
    """Beside the name that is asked for, unless the rule says which that is: as Envoy's auto_san_validation."""
    assert simple(NAMED, **mode) == simple(NAMED, **mode, subjectAltNames=[]) == (("a.test", "b.test"), True)
    assert simple(NAMED, **mode, sni="x.test") == (("a.test", "b.test"), False)
    assert simple(NAMED, **mode, subjectAltNames=["c.test"]) == (("c.test",), False)


def test_service_accounts_of_a_service_entrys_endpoints_count_as_well() -> None:
    assert simple(ACCOUNT) == (("spiffe://cluster.local/ns/default/sa/api",), True)


def test_without_any_name_the_one_that_is_asked_for_counts() -> None:
    assert simple(service_entry("api", "api.test", endpoints=[{"address": "10.0.0.7"}])) == ((), False)
    assert simple(NAMED, insecureSkipVerify=True) == ((), False)
    found = cluster(*BOTH, destination_rule("reviews", tls={"mode": "SIMPLE"})).tls  # not a ServiceEntry's
    assert found is not None
    assert (found.subject_alt_names, found.named_too) == ((), False)


# -- explicit ISTIO_MUTUAL --------------------------------------------------------------------------------------------


def test_it_is_for_all_endpoints_whatever_they_say() -> None:
    found = cluster(
        service("reviews"), server("v1", 1, mode=None), destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"})
    )
    assert found.tls is not None
    assert (found.auto_mtls, found.mutual) == (None, frozenset())
    assert (found.tls.mode, found.tls.sni) == ("ISTIO_MUTUAL", f"outbound_.9080_._.{REVIEWS}")
    assert found.tls.subject_alt_names == ("spiffe://cluster.local/ns/default/sa/reviews",)


def test_names_of_the_rule_count_before_those_of_the_registry() -> None:
    tls = {"mode": "ISTIO_MUTUAL", "sni": "x.test", "subjectAltNames": ["spiffe://cluster.local/ns/a/sa/b"]}
    found = cluster(*BOTH, destination_rule("reviews", tls=tls)).tls
    assert found is not None
    assert (found.sni, found.subject_alt_names) == ("x.test", ("spiffe://cluster.local/ns/a/sa/b",))
    assert sans(*BOTH, destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL", "subjectAltNames": []})) == (
        "spiffe://cluster.local/ns/default/sa/reviews",
    )


def test_a_subset_and_a_port_level_may_ask_for_it() -> None:
    rule = destination_rule("reviews", "v1", "v2", tls={"mode": "DISABLE"})
    rule["spec"]["subsets"][0]["trafficPolicy"] = {"tls": {"mode": "ISTIO_MUTUAL"}}
    port = {"port": {"number": 9080}, "tls": {"mode": "ISTIO_MUTUAL"}}
    rule["spec"]["subsets"][1]["trafficPolicy"] = {"portLevelSettings": [port]}
    route = virtual_service("reviews", {"route": [to("reviews", "v1", 1), to("reviews", "v2", 1)]})
    for subset, mode in (("v1", "ISTIO_MUTUAL"), ("v2", "ISTIO_MUTUAL")):
        tls = cluster(*BOTH, rule, route, subset=subset).tls
        assert tls is not None
        assert (tls.mode, tls.sni) == (mode, f"outbound_.9080_.{subset}_.{REVIEWS}")


# -- changes ----------------------------------------------------------------------------------------------------------


def test_pods_that_come_and_policies_that_change_are_seen() -> None:
    compiler = Compiler(US)
    kept = load_objects([BOTH[0], BOTH[1]]).resources
    key = f"outbound|9080||{REVIEWS}"
    assert compiler.compile(kept).clusters[key].mutual == {V1}
    more = [*kept, *load_objects([server("v2", 2, "second")]).resources]
    found = compiler.compile(more).clusters[key]
    assert found.auto_mtls is not None
    assert (found.mutual, len(found.auto_mtls.subject_alt_names)) == ({V1, V2}, 2)
    off = load_objects([peer_authentication("off", "DISABLE", version="v1")]).resources
    assert compiler.compile([*more, *off]).clusters[key].mutual == {V2}
    relabelled = load_objects([server("v2", 2, "second", mode=None)]).resources
    assert compiler.compile([*kept, *relabelled, *off]).clusters[key].mutual == frozenset()


def test_what_is_made_anew_of_a_part_knows_the_policies_and_secrets_of_the_whole() -> None:
    compiler = Compiler(US)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"ca.crt": "A"}}
    off = peer_authentication("off", "DISABLE", version="v1")
    kept = load_objects([*BOTH[:2], off, secret, service("other"), mesh_config(trustDomainAliases=["old"])]).resources
    key = f"outbound|9080||{REVIEWS}"
    assert compiler.compile(kept).clusters[key].mutual == frozenset()
    pods = [*kept, *load_objects([server("v2", 2)]).resources]
    found = compiler.compile(pods).clusters[key]
    assert found.auto_mtls is not None
    assert (found.mutual, len(found.auto_mtls.subject_alt_names)) == ({V2}, 2)
    pool = load_objects([destination_rule("reviews", connectionPool={"http": {"maxRetries": 1}})]).resources
    assert compiler.compile([*pods, *pool]).clusters[key].mutual == {V2}
    named = load_objects([destination_rule("reviews", tls={"mode": "SIMPLE", "credentialName": "s"})]).resources
    tls = compiler.compile([*pods, *named]).clusters[key].tls
    assert tls is not None
    assert tls.ca_pem == b"A"
    assert compiler.whole == 1
