"""Gateways: their workloads and the ports before them."""

from __future__ import annotations

from tests.support.analysis import expect
from tests.support.gateways import POD, gateway, server


def test_a_selector_that_finds_no_workload():
    text = POD + gateway("edge", "app: egde  # IST0101", server(80))
    (found,) = expect(text, "IST0101", "IST0162")
    assert found.hint == "did you mean app: edge?"


def test_istios_own_ingress_gateway_is_taken_to_be_there():
    expect(gateway("edge", "istio: ingressgateway", server(80), server(443)), "IST0101", "IST0162")
    (found,) = expect(gateway("edge", "istio: ingresgateway  # IST0101", server(80)), "IST0101")
    assert found.hint == "did you mean istio: ingressgateway?"


def test_a_port_that_no_service_before_the_workload_has():
    servers = (
        server(80),
        server(8080),
        "port:\n      number: 9000  # IST0162\n      name: x\n      protocol: HTTP\n    hosts: [a.example]",
    )
    (found,) = expect(POD + gateway("edge", "app: edge", *servers), "IST0101", "IST0162")
    assert found.hint == "ports there: 80, 8080"


def test_udp_ports_are_not_counted():
    bad = "port:\n      number: 53  # IST0162\n      name: x\n      protocol: HTTP\n    hosts: [a.example]"
    expect(POD + gateway("edge", "app: edge", bad), "IST0162")


def test_a_gateway_without_servers_is_judged_by_its_selector():
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector:
    app: nobody  # IST0101
"""
    expect(text, "IST0101")
