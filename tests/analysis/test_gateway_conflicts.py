"""Gateways that are in each other's way."""

from __future__ import annotations

from tests.support.analysis import expect
from tests.support.gateways import POD, gateway, server


def test_gateways_of_the_same_port_host_and_workload_are_in_each_others_way():
    one, other = server(80, "[a.example, b.example]  # IST0145"), server(80, "[b.example]  # IST0145")
    expect(gateway("one", "istio: ingressgateway", one) + gateway("other", "istio: ingressgateway", other), "IST0145")


def test_gateways_of_other_ports_hosts_or_binds_are_not():
    for other in (server(443), server(80, "[b.example]"), server(80, more="bind: 10.0.0.1")):
        text = gateway("one", "istio: ingressgateway", server(80)) + gateway("other", "istio: ingressgateway", other)
        expect(text, "IST0145")


def test_a_narrower_selector_is_for_the_same_workloads_when_one_has_both_labels():
    conflicting = server(80, "[a.example]  # IST0145")
    both = gateway("one", "app: edge", conflicting) + gateway("other", "{app: edge, track: canary}", conflicting)
    expect(POD + both, "IST0145")
    free = server(80, "[a.example]")
    expect(POD + gateway("one", "app: edge", free) + gateway("other", "{app: edge, track: stable}", free), "IST0145")
    expect(POD + gateway("one", "app: edge", free) + gateway("other", "track: canary", free), "IST0145")
