"""What findings and the compiler's problems have in common is said once, and nothing else is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meshlib.analysis.messages import Suppression
from meshlib.cli.main import main
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import gateway, server
from tests.support.resources import destination_rule, pod, service, to, virtual_service


def validated(folder: Path, *resources: dict[str, Any], options: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Code and path of what `meshlib validate` says at least as a warning."""
    file = folder / "mesh.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": resources}))
    result = CliRunner().invoke(main, ["validate", str(file), "--format", "json", "--quiet", *options])
    return [(p["code"], p["path"]) for p in json.loads(result.stdout)["problems"]]


def test_an_unknown_host_a_missing_subset_and_a_missing_port_are_each_said_once(tmp_path: Path) -> None:
    said = validated(
        tmp_path,
        service("cart"),
        destination_rule("cart", "v1"),
        virtual_service(
            "cart",
            {"match": [{"uri": {"exact": "/1"}}], "route": [to("ghost")]},
            {"match": [{"uri": {"exact": "/2"}}], "route": [to("cart", "v9")]},
            {"route": [{"destination": {"host": "cart", "port": {"number": 1}}}]},
        ),
    )
    assert [code for code, _ in said] == ["IST0101"] * 3


def test_a_delegate_that_is_missing_and_one_that_cannot_be_one(tmp_path: Path) -> None:
    said = validated(
        tmp_path,
        service("cart"),
        virtual_service("other", {"route": [to("cart")]}),
        virtual_service(
            "cart",
            {"match": [{"uri": {"exact": "/1"}}], "delegate": {"name": "nobody"}},
            {"match": [{"uri": {"exact": "/2"}}], "delegate": {"name": "other"}},
        ),
    )
    assert sorted(said) == [
        ("IST0101", "VirtualService default/cart spec.http[0].delegate.name"),
        ("delegate", "VirtualService/default/cart spec.http[1].delegate"),
    ]


def test_a_missing_destination_of_a_delegate_is_said_of_the_delegate(tmp_path: Path) -> None:
    leaf = virtual_service("leaf", {"route": [to("ghost")]})
    del leaf["spec"]["hosts"]
    said = validated(tmp_path, service("cart"), leaf, virtual_service("cart", {"delegate": {"name": "leaf"}}))
    assert said == [("IST0101", "VirtualService default/leaf spec.http[0].route[0].destination.host")]


def test_what_only_this_client_does_not_see_is_still_said(tmp_path: Path) -> None:
    hidden = service("cart", namespace="shop")
    hidden["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    name = "cart.shop.svc.cluster.local"
    rules = virtual_service("cart", {"route": [to(name)]}, hosts=["cart.example"], namespace="shop")
    assert validated(tmp_path, hidden, rules, options=("--namespace", "shop")) == []
    assert [code for code, _ in validated(tmp_path, hidden, rules)] == ["unknown-destination"]


def test_a_host_that_two_claim_is_said_of_both_and_by_nobody_else(tmp_path: Path) -> None:
    said = validated(
        tmp_path,
        service("cart"),
        virtual_service("one", {"route": [to("cart")]}, hosts=["cart"]),
        virtual_service("other", {"route": [to("cart")]}, hosts=["cart"]),
    )
    assert [code for code, _ in said] == ["IST0109", "IST0109"]


def at_the_edge(*servers: dict[str, Any], name: str = "gw", selector: str = "edge") -> dict[str, Any]:
    made = gateway(*servers, name=name)
    return {**made, "spec": {**made["spec"], "selector": {"app": selector}}}


EDGE = [service("edge", 80, ports=[{"name": n, "port": p} for n, p in (("a", 80), ("b", 443))]), pod("edge", "v1", 1)]
SECURE = {"port": 443, "protocol": "HTTPS", "tls": {"mode": "SIMPLE", "credentialName": "cert"}}


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        # what findings have
        (
            [at_the_edge(server("a.test", **SECURE)), tls_secret("other", leaf("a.test"))],
            [("IST0101", "Gateway default/gw spec.servers[0].tls.credentialName")],
        ),
        (
            [
                at_the_edge(server("a.test")),
                virtual_service("vs", {"route": [to("edge", port=80)]}, hosts=["b.test"], gateways=["gw"]),
            ],
            [("IST0132", "VirtualService default/vs spec.gateways[0]")],
        ),
        # what the compiler has
        (
            [at_the_edge(server("a.test"), server("b.test", protocol="TCP", name="tcp"))],
            [("conflicting-server", "Gateway/default/gw spec.servers[1].port")],
        ),
        (
            [
                at_the_edge(server("a.test", **SECURE), server("a.test", **SECURE, name="again")),
                tls_secret("cert", leaf("a")),
            ],
            [("duplicate-host", "Gateway/default/gw spec.servers[1].hosts")],
        ),
        (
            [
                at_the_edge(server("a.test", **{**SECURE, "tls": {"mode": "MUTUAL", "credentialName": "cert"}})),
                tls_secret("cert", leaf("a.test")),
            ],
            [("certificate-missing", "Gateway/default/gw spec.servers[0].tls.credentialName")],
        ),
    ],
)
def test_problems_of_gateways_are_said_once_by_both_commands(tmp_path, resources, said):
    assert validated(tmp_path, *EDGE, *resources) == said
    result = CliRunner().invoke(main, ["analyze", str(tmp_path / "mesh.json"), "--output-threshold", "warning"])
    assert [result.stdout.count(f"[{code}") for code, _ in said] == [1] * len(said)
    assert result.stdout.count(": warning: ") + result.stdout.count(": error: ") == len(said)


@pytest.mark.parametrize("text", ["IST0101", "IST0101=a=b", ""])
def test_a_suppression_names_a_code_and_a_resource(text: str) -> None:
    with pytest.raises(ValueError, match="CODE=RESOURCE"):
        Suppression.parse(text)
