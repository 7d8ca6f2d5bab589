"""Istio's precedence of PeerAuthentications, down to the ports of a workload."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.inbound import InboundPorts
from meshlib.compiler.peer_authentication import PeerAuthentications, PortMode, WorkloadModes
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.resources.loader import load_objects
from meshlib.resources.peer_authentication import PeerAuthentication
from meshlib.workload import Workload
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication

STRICT, PERMISSIVE, DISABLE = MtlsMode.STRICT, MtlsMode.PERMISSIVE, MtlsMode.DISABLE
CART = {"app": "cart", "version": "v1"}
ROOT = "istio-system"


def policies(*documents: dict[str, Any]) -> PeerAuthentications:
    loaded = load_objects(documents)
    assert not loaded.errors
    return PeerAuthentications([r for r in loaded.resources if isinstance(r, PeerAuthentication)], ROOT)


def modes(*documents: dict[str, Any], namespace: str = "shop") -> WorkloadModes:
    return policies(*documents).of(namespace, CART)


def test_without_any_policy_both_are_let_in() -> None:
    assert modes().of(8080) == PortMode(PERMISSIVE, "", "")


MESH = peer_authentication("mesh", "STRICT", namespace=ROOT)
SHOP = peer_authentication("shop", "DISABLE", namespace="shop")
WORKLOAD = peer_authentication("cart", "PERMISSIVE", namespace="shop", app="cart")


def test_the_narrowest_policy_counts() -> None:
    assert modes(MESH).default == PortMode(STRICT, "istio-system/mesh")
    assert modes(MESH, SHOP).default == PortMode(DISABLE, "shop/shop")
    assert modes(MESH, SHOP, WORKLOAD).default == PortMode(PERMISSIVE, "shop/cart")
    other = peer_authentication("cart", "PERMISSIVE", namespace="shop", app="other")
    assert modes(MESH, SHOP, other).default.policy == "shop/shop"
    assert modes(MESH, SHOP, WORKLOAD, namespace="bank").default.policy == "istio-system/mesh"


@pytest.mark.parametrize("unset", ["UNSET", None])
def test_what_is_unset_is_what_the_next_wider_policy_says(unset: str | None) -> None:
    shop = peer_authentication("shop", unset, namespace="shop")
    cart = peer_authentication("cart", unset, namespace="shop", app="cart")
    assert modes(MESH, shop, cart).default == PortMode(STRICT, "istio-system/mesh")
    assert modes(shop, cart).default == PortMode(PERMISSIVE, "")
    assert modes(peer_authentication("mesh", unset, namespace=ROOT)).default == PortMode(PERMISSIVE, "")


def test_of_several_the_oldest_counts_also_where_it_says_nothing() -> None:
    old = peer_authentication("z", "UNSET", namespace="shop", created="2020-01-01T00:00:00Z")
    young = peer_authentication("a", "STRICT", namespace="shop", created="2024-01-01T00:00:00Z")
    assert modes(young, old).default == PortMode(PERMISSIVE, "")
    old["spec"]["selector"] = young["spec"]["selector"] = {"matchLabels": {"app": "cart"}}
    young["spec"]["portLevelMtls"] = {8080: {"mode": "DISABLE"}}
    assert modes(young, old) == WorkloadModes(PortMode(PERMISSIVE, ""))


def test_ports_count_in_a_policy_that_selects_and_inherit_what_it_says() -> None:
    cart = peer_authentication("cart", "STRICT", namespace="shop", app="cart")
    cart["spec"]["portLevelMtls"] = {8080: {"mode": "DISABLE"}, 9090: {"mode": "UNSET"}, 7070: {}}
    found = modes(cart)
    assert [found.of(port).mtls for port in (8080, 9090, 7070, 6060)] == [DISABLE, STRICT, STRICT, STRICT]
    assert found.of(8080) == PortMode(DISABLE, "shop/cart")


def test_ports_of_a_workload_whose_mode_is_inherited() -> None:
    """The acceptance vector: the namespace is STRICT, the workload UNSET, one port DISABLE."""
    strict = peer_authentication("default", "STRICT", namespace="shop")
    cart = peer_authentication("cart", "UNSET", namespace="shop", app="cart")
    cart["spec"]["portLevelMtls"] = {8080: {"mode": "DISABLE"}}
    found = modes(strict, cart)
    assert (found.of(8080).mtls, found.of(9090)) == (DISABLE, PortMode(STRICT, "shop/default"))


def test_a_port_that_nobody_tells_is_strict_where_any_is() -> None:
    cart = peer_authentication("cart", "PERMISSIVE", namespace="shop", app="cart")
    cart["spec"]["portLevelMtls"] = {8080: {"mode": "STRICT"}}
    assert [modes(cart).of(port).mtls for port in (0, 9090)] == [STRICT, PERMISSIVE]
    cart["spec"] |= {"mtls": {"mode": "STRICT"}, "portLevelMtls": {8080: {"mode": "DISABLE"}}}
    assert modes(cart).of(0).mtls is STRICT


def test_a_selector_in_the_root_namespace_is_for_workloads_there_and_only_makes_stricter() -> None:
    chosen = peer_authentication("cart", "STRICT", namespace=ROOT, app="cart")
    assert modes(chosen).default == PortMode(PERMISSIVE, "")
    assert modes(chosen, namespace=ROOT).default == PortMode(STRICT, "istio-system/cart")
    chosen["spec"] |= {"mtls": {"mode": "DISABLE"}, "portLevelMtls": {1: {"mode": "STRICT"}, 2: {"mode": "DISABLE"}}}
    found = modes(peer_authentication("mesh", "PERMISSIVE", namespace=ROOT), chosen, namespace=ROOT)
    assert [found.of(port).mtls for port in (1, 2, 3)] == [STRICT, PERMISSIVE, PERMISSIVE]


def test_one_that_cannot_be_read_is_strict_for_all_that_it_may_have_selected() -> None:
    def standing(namespace: str, placed: bool = True, **labels: str) -> PeerAuthentications:
        [made] = load_objects([peer_authentication("broken", "STRICT", namespace=namespace, **labels)]).resources
        assert isinstance(made, PeerAuthentication)
        made._stands_for, made._placed = "spec is not an object", placed
        # the oldest and narrowest of those that can be read does not count against it
        [cart] = load_objects([peer_authentication("a", "DISABLE", namespace="shop", app="cart")]).resources
        assert isinstance(cart, PeerAuthentication)
        return PeerAuthentications([cart, made], ROOT)

    strict = PortMode(STRICT, "shop/broken", "spec is not an object")
    assert standing("shop").of("shop", CART) == WorkloadModes(strict)
    assert standing("shop", app="cart").of("shop", CART).default == strict
    assert standing("shop", app="other").of("shop", CART).default.mtls is DISABLE
    assert standing("bank").of("shop", CART).default.mtls is DISABLE
    assert standing("bank", placed=False).of("shop", CART).default.mtls is STRICT
    assert standing(ROOT).of("shop", CART).default.mtls is STRICT
    assert standing(ROOT, app="cart").of("shop", CART).default.mtls is DISABLE


# -- in a snapshot ----------------------------------------------------------------------------------------------------

US = Workload("cart-1", "shop", CART)


def inbound(*documents: dict[str, Any]) -> InboundPorts:
    return compile_snapshot(load_objects(documents).resources, US).inbound


def test_each_port_of_our_server_has_its_mode_and_says_whose_it_is() -> None:
    cart = peer_authentication("cart", "PERMISSIVE", namespace="shop", app="cart")
    cart["spec"]["portLevelMtls"] = {8080: {"mode": "STRICT"}}
    found = inbound(cart)
    assert [found.of(port).mtls for port in (8080, 9090, 0)] == [STRICT, PERMISSIVE, STRICT]
    assert (found.of(8080).mtls_policy, found.of(8080).mtls_broken) == ("shop/cart", "")


def test_the_root_namespace_is_the_mesh_configs() -> None:
    mesh = peer_authentication("mesh", "STRICT", namespace="mesh-root")
    assert inbound(mesh).default.mtls is PERMISSIVE
    assert inbound(mesh, mesh_config(rootNamespace="mesh-root")).default.mtls is STRICT


def test_a_change_of_one_is_seen() -> None:
    compiler = Compiler(US)
    kept = load_objects([peer_authentication("other", "STRICT", namespace="bank")]).resources
    assert compiler.compile(kept).inbound.default.mtls is PERMISSIVE
    added = load_objects([peer_authentication("cart", "STRICT", namespace="shop", app="cart")]).resources
    assert compiler.compile([*kept, *added]).inbound.default.mtls is STRICT
    assert compiler.compile(kept).inbound.default.mtls is PERMISSIVE


def test_policies_that_are_not_what_they_look_like_are_named() -> None:
    said = compile_snapshot(
        load_objects(
            [
                peer_authentication("first", "STRICT", namespace="shop", created="2020-01-01T00:00:00Z"),
                peer_authentication("second", "DISABLE", namespace="shop", created="2021-01-01T00:00:00Z"),
                peer_authentication("chosen", "STRICT", namespace=ROOT, app="x"),
            ]
        ).resources,
        US,
    ).problems
    assert {(p.path, p.code) for p in said} == {
        ("PeerAuthentication/shop/second", "not-the-oldest"),
        ("PeerAuthentication/istio-system/chosen", "selector-in-root-namespace"),
    }
