"""What istiod's webhook refuses of a ServiceEntry, a WorkloadEntry and a WorkloadGroup is refused at its own line; what it
lets pass loads."""

from __future__ import annotations

import pytest

from tests.support.marked_lines import assert_accepted, assert_refused, document, errors

PORTS = "ports: [{number: 80, name: http, protocol: HTTP}]"


def entry(more: str, hosts: str = "[api.example.com]") -> str:
    return f"hosts: {hosts}\n{more}"


def endpoint(resolution: str, settings: str) -> str:
    return entry(f"{PORTS}\nresolution: {resolution}\nendpoints:\n- {settings}")


REFUSED = [
    ("no hosts", f"hosts: []  # here\n{PORTS}", "missing-host", "name the hosts"),
    ("the host *", f"hosts: ['*']  # here\n{PORTS}", "wildcard-host", "too wide"),
    ("a host with a space", f"hosts:\n- a b  # here\n{PORTS}", "bad-host", "not a DNS label"),
    ("an address as host", f"hosts: [10.0.0.1]  # here\n{PORTS}", "bad-host", "only digits"),
    # addresses
    ("an address of no form", entry("addresses:\n- 10.0.0.256  # here"), "bad-subnet", "10.0.0.0/8"),
    ("leading zeros of bits", entry("addresses: [10.0.0.0/08]  # here"), "bad-subnet", "10.0.0.0/8"),
    (
        "a network and DNS",
        entry(f"{PORTS}\nresolution: DNS\naddresses: [10.0.0.0/8]  # here"),
        "network-needs-addresses",
        "NONE or STATIC",
    ),
    # ports
    ("a number twice", entry("ports:\n- {number: 80, name: a}\n- {number: 80, name: b}  # here"), "duplicate-port", "80"),
    ("a name twice", entry("ports:\n- {number: 80, name: a}\n- {number: 81, name: a}  # here"), "duplicate-port", "name a"),
    ("a name with a dot", entry("ports: [{number: 80, name: a.b}]  # here"), "bad-name", "a.b"),
    ("an unknown protocol", entry("ports: [{number: 80, name: a, protocol: SMTP}]  # here"), "bad-protocol", "MONGO"),
    ("a port of 0", entry("ports: [{number: 0, name: a}]  # here"), "bad-port", "1..65535"),
    ("a target port of 70000", entry("ports: [{number: 80, name: a, targetPort: 70000}]  # here"), "bad-port", "70000"),
    ("a target port of 0", entry("ports: [{number: 80, name: a, targetPort: 0}]  # here"), "crd-rule", "not a port"),
    (
        "two hosts on a TCP port",
        entry("ports: [{number: 80, name: a, protocol: TCP}]  # here\nresolution: STATIC", "[a.com, b.com]"),
        "several-hosts-on-tcp",
        "2 hosts",
    ),
    (
        "two hosts on a port without protocol",
        entry("ports: [{number: 80, name: a}]  # here\nresolution: STATIC", "[a.com, b.com]"),
        "several-hosts-on-tcp",
        "one ServiceEntry a host",
    ),
    # where the endpoints come from
    (
        "a wildcard of the selector",
        entry(f"{PORTS}\nresolution: STATIC\nworkloadSelector: {{labels: {{app: 'a*'}}}}  # here"),
        "wildcard-label",
        "compared as they are",
    ),
    (
        "endpoints and a selector",
        entry(
            f"{PORTS}\nresolution: STATIC\nworkloadSelector: {{labels: {{a: b}}}}\nendpoints: [{{address: 10.0.0.1}}]  # here"
        ),
        "several-sources",
        "exclude each other",
    ),
    ("no resolution", entry(f"{PORTS}\nendpoints: [{{address: 10.0.0.1}}]  # here"), "resolution-none", "STATIC"),
    ("a name and STATIC", endpoint("STATIC", "address: a.com  # here"), "resolution-static", "resolution: DNS"),
    ("an endpoint nowhere", endpoint("STATIC", "labels: {a: b}  # here"), "missing-field", "address"),
    ("an unknown port", endpoint("STATIC", "{address: 10.0.0.1, ports: {grpc: 1}}  # here"), "unknown-port", "http"),
    ("a port of an endpoint", endpoint("DNS", "{address: a.com, ports: {http: 0}}  # here"), "bad-port", "1..65535"),
    ("a label of an endpoint", endpoint("DNS", "{address: a.com, labels: {'/': a}}  # here"), "bad-label", "'/'"),
    ("a socket that is no file", endpoint("STATIC", "address: unix:///run/  # here"), "bad-unix-socket", "unix:///run/app.sock"),
    ("a socket and DNS", endpoint("DNS", "address: unix:///run/a  # here"), "bad-host", "neither"),
    (
        "a socket of two ports",
        entry(
            "ports: [{number: 1, name: a}, {number: 2, name: b}]\nresolution: STATIC\nendpoints:\n- address: unix:///a  # here"
        ),
        "ports-of-socket",
        "one port",
    ),
    ("a wildcard and DNS", entry(f"{PORTS}\nresolution: DNS", "['*.a.com']  # here"), "wildcard-dns", "endpoints"),
    (
        "two endpoints of one address",
        entry(f"{PORTS}\nresolution: DNS_ROUND_ROBIN\nendpoints: [{{address: a.com}}, {{address: b.com}}]  # here"),
        "too-many-endpoints",
        "one endpoint",
    ),
    # DYNAMIC_DNS
    ("a whole name", entry(f"{PORTS}\nresolution: DYNAMIC_DNS", "[a.com]  # here"), "dynamic-dns-host", "wildcards"),
    (
        "addresses",
        entry(f"{PORTS}\nresolution: DYNAMIC_DNS\naddresses: [10.0.0.1]  # here", "['*.a.com']"),
        "dynamic-dns-address",
        "addresses",
    ),
    (
        "endpoints",
        entry(f"{PORTS}\nresolution: DYNAMIC_DNS\nendpoints: [{{address: a.com}}]  # here", "['*.a.com']"),
        "dynamic-dns-address",
        "endpoints",
    ),
    (
        "an HTTPS port",
        entry("resolution: DYNAMIC_DNS\nports: [{number: 1, name: a, protocol: HTTPS}]  # here", "['*.a.com']"),
        "dynamic-dns-protocol",
        "HTTPS",
    ),
    # exportTo
    ("an export to nobody and some", entry(f"{PORTS}\nexportTo: ['~', a]  # here"), "export-to-all-and-some", "no namespace"),
    ("an unknown resolution", entry(f"{PORTS}\nresolution: LOGICAL  # here"), "bad-enum", "STATIC"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_refused_at_its_line(spec: str, code: str, words: str) -> None:
    assert_refused(document("ServiceEntry", spec), code, words)


def test_a_waypoint_is_not_for_hosts_that_are_resolved_as_they_are_called() -> None:
    spec = entry(f"{PORTS}\nresolution: DYNAMIC_DNS\nlocation: MESH_INTERNAL  # here", "['*.a.com']")
    assert_accepted(document("ServiceEntry", spec))
    labelled = document("ServiceEntry", spec, metadata="  labels: {istio.io/use-waypoint: w}\n")
    assert_refused(labelled, "dynamic-dns-waypoint", "MESH_EXTERNAL")
    assert errors(labelled.replace("use-waypoint: w", "use-waypoint: None")) == []


ACCEPTED = {
    "DNS without ports": entry("resolution: DNS"),
    "DNS_ROUND_ROBIN without ports": entry("resolution: DNS_ROUND_ROBIN"),
    "a flow list of addresses": entry(f"{PORTS}\naddresses: [1.2.3.4, 001:db8::]"),
    "a network with bits of its host": entry(f"{PORTS}\naddresses: [10.1.2.3/8, 'fd00::1/64']"),
    "a wildcard of a part": entry(PORTS, "['*a.com']"),
    "a protocol in lower case": entry("ports: [{number: 80, name: a, protocol: grpc-web}]"),
    "two hosts on TCP, as they are dialled": entry("ports: [{number: 80, name: a}]", "[a.com, b.com]"),
    "two hosts with TLS": entry("ports: [{number: 1, name: a, protocol: TLS}]\nresolution: DNS", "[a.com, b.com]"),
    "an endpoint of a network": endpoint("STATIC", "network: n"),
    "an abstract socket": endpoint("STATIC", "address: unix://@a"),
    "a wildcard whose endpoints have names": entry(
        f"{PORTS}\nresolution: DNS\nendpoints: [{{address: a.com}}]", "['*.a']"
    ),
    "nobody": entry(f"{PORTS}\nexportTo: ['~']"),
    "a host twice": entry(PORTS, "[a.com, a.com]"),
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what: str) -> None:
    assert_accepted(document("ServiceEntry", ACCEPTED[what]))


WORKLOADS = [
    ("WorkloadEntry", "nowhere", "address: ''  # here", "missing-field", "address"),
    ("WorkloadEntry", "a name with a space", "address: a b  # here", "bad-host", "neither a name nor an IP"),
    ("WorkloadEntry", "a socket with ports", "address: unix:///a\nports: {a: 1}  # here", "ports-of-socket", "no ports"),
    ("WorkloadEntry", "a relative socket", "address: unix://a  # here", "bad-unix-socket", "absolute"),
    ("WorkloadEntry", "the name of a port", "address: 10.0.0.1\nports: {a.b: 1}  # here", "bad-name", "a.b"),
    ("WorkloadEntry", "a port", "address: 10.0.0.1\nports: {a: 65536}  # here", "bad-port", "1..65535"),
    ("WorkloadEntry", "a label", "address: 10.0.0.1\nlabels: {app: -a}  # here", "bad-label", "-a"),
    ("WorkloadEntry", "a weight", "address: 10.0.0.1\nweight: -1  # here", "negative", "-1"),
    ("WorkloadGroup", "labels", "metadata: {labels: {app: 'a b'}}  # here\ntemplate: {}", "bad-label", "a b"),
    ("WorkloadGroup", "a probe of nothing", "template: {}\nprobe: {periodSeconds: 1}  # here", "missing-field", "httpGet"),
    ("WorkloadGroup", "a probe by gRPC", "template: {}\nprobe: {grpc: {port: 1}}  # here", "not-supported", "httpGet"),
    ("WorkloadGroup", "a port", "template: {}\nprobe: {tcpSocket: {port: 0}}  # here", "bad-port", "1..65535"),
    ("WorkloadGroup", "a scheme", "template: {}\nprobe: {httpGet: {port: 1, scheme: https}}  # here", "bad-enum", "HTTPS"),
    (
        "WorkloadGroup",
        "a header",
        "template: {}\nprobe: {httpGet: {port: 1, httpHeaders: [{name: a_b}]}}  # here",
        "bad-header-name",
        "a_b",
    ),
    ("WorkloadGroup", "no command", "template: {}\nprobe: {exec: {command: []}}  # here", "missing-field", "command"),
    (
        "WorkloadGroup",
        "a period",
        "template: {}\nprobe: {periodSeconds: -1, tcpSocket: {port: 1}}  # here",
        "negative",
        "-1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "spec", "code", "words"),
    [pytest.param(kind, *rest, id=f"{kind}: {what}") for kind, what, *rest in WORKLOADS],
)
def test_workloads_are_refused_at_their_line(kind: str, spec: str, code: str, words: str) -> None:
    if "address: ''" in spec:
        (problem,) = errors(document(kind, spec))
        assert (problem.code, problem.path) == (code, "spec")
    else:
        assert_refused(document(kind, spec), code, words)


GOOD_WORKLOADS = [
    ("WorkloadEntry", "address: 10.0.0.1"),
    ("WorkloadEntry", "address: vm.example.com\nports: {http: 80}\nweight: 4294967295"),
    ("WorkloadEntry", "network: n"),
    ("WorkloadEntry", "address: unix://@a"),
    ("WorkloadEntry", "address: 'fe80::1%eth0'"),
    ("WorkloadGroup", "template: {}"),
    ("WorkloadGroup", "template: {labels: {app: 'a b'}}"),
    ("WorkloadGroup", "template: {}\nprobe: {httpGet: {port: 1, scheme: HTTP, httpHeaders: [{name: a-b, value: c}]}}"),
]


@pytest.mark.parametrize(("kind", "spec"), GOOD_WORKLOADS)
def test_workloads_that_are_accepted(kind: str, spec: str) -> None:
    assert_accepted(document(kind, spec))
