"""Which of a port's servers a connection is for."""

from __future__ import annotations

import pytest

from meshlib.compiler.gateway_model import GatewayChain, GatewayPort, GatewayTls


def port(*snis: str) -> GatewayPort:
    chains = [GatewayChain(names, "s", tuple(names.split())) for names in snis]
    return GatewayPort(443, 443, "", chains, tls=True)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a.shop.test", "a.shop.test"),
        ("A.Shop.Test", "a.shop.test"),
        ("b.shop.test", "*.shop.test"),
        ("x.b.shop.test", "*.shop.test"),
        ("shop.test", "*.test"),
        ("test", "*"),
        ("other.example", "*"),
        ("", "*"),
    ],
)
def test_the_exact_name_counts_before_the_longest_wildcard_before_any(asked, found):
    chain = port("*", "*.test", "*.shop.test", "a.shop.test").find(asked)
    assert chain is not None
    assert chain.name == found


def test_a_name_that_nobody_has_finds_nothing():
    assert port("a.test", "*.b.test").find("c.test") is None
    assert port("a.test").find("") is None


def test_a_chain_may_be_for_some_protocols_alone():
    made = GatewayPort(443, 443, "", [GatewayChain("x", "s", ("a.test",), alpn=("istio",))], tls=True)
    assert made.find("a.test", ("h2",)) is None
    assert made.find("a.test", ("h2", "istio")) is not None


def test_a_port_in_plain_text_has_one_chain():
    chain = GatewayChain("http.80", "s")
    made = GatewayPort(80, 80, "", [chain], tls=False)
    assert made.plain is chain
    assert made.by_name["http.80"] is chain


def test_settings_of_tls_that_are_equal_are_one():
    assert GatewayTls("SIMPLE", ca=b"x") == GatewayTls("SIMPLE", ca=b"x")
    assert hash(GatewayTls("SIMPLE")) == hash(GatewayTls("SIMPLE"))
    assert GatewayTls("SIMPLE") != GatewayTls("MUTUAL")
