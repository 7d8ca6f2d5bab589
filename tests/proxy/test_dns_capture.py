"""An application that knows nothing of a mesh calls a name that only the mesh knows: in network namespaces, with the rules of
``meshlib iptables --dns-capture`` in force, through the resolver of the C library."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.proxy.test_transparent import GROUP, SERVER, cluster
from tests.support.namespace import Namespace, end, namespaces, why_none
from tests.support.resources import pod, service, service_entry

kernel = pytest.mark.skipif(bool(why_none()), reason=why_none())

RESOLVER = """
import socketserver, sys, threading
import dns.message, dns.rcode, dns.rrset

def respond(wire):
    query = dns.message.from_wire(wire)
    made = dns.message.make_response(query)
    asked = query.question[0]
    if asked.name.to_text() != "outside.example.":
        made.set_rcode(dns.rcode.NXDOMAIN)
    elif asked.rdtype == 1:
        made.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "A", "10.1.9.9"))
    return made.to_wire()

class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(respond(self.request[0]), self.client_address)

class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        while head := self.rfile.read(2):
            wire = respond(self.rfile.read(int.from_bytes(head, "big")))
            self.wfile.write(len(wire).to_bytes(2, "big") + wire)

udp = socketserver.ThreadingUDPServer(("10.1.9.9", 53), Udp)
tcp = socketserver.ThreadingTCPServer(("10.1.9.9", 53), Tcp)
for server in (udp, tcp):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("up", flush=True)
threading.Event().wait()
"""
CALL = """
import http.client, sys
name, port = sys.argv[1:]
connection = http.client.HTTPConnection(name, int(port), timeout=20)
connection.request("GET", "/x", headers={"Host": name})
response = connection.getresponse()
print(response.status, response.read().decode())
"""
ASK = """
import sys
import dns.message, dns.query, dns.rcode
protocol, name, port = sys.argv[1:]
over = getattr(dns.query, protocol)
response = over(dns.message.make_query(name, "A"), "10.1.9.9", timeout=20, source_port=int(port))
print(dns.rcode.to_text(response.rcode()), *[each for answer in response.answer for each in answer])
"""


HEAR = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as sock:
    print(sock.getpeername()[0], sock.makefile().readline().strip())
"""


def without_addresses() -> list[dict]:
    """Two ServiceEntries of TCP on one port, one of HTTP, and a Service that no API server has given an address."""
    tcp = [{"number": 7001, "name": "tcp", "protocol": "TCP"}]
    return [
        service_entry(
            "one", "one.example.com", ports=tcp, endpoints=[{"address": "127.0.0.1", "ports": {"tcp": 8002}}]
        ),
        service_entry("two", "two.example.com", ports=tcp, endpoints=[{"address": "10.1.9.9", "ports": {"tcp": 7000}}]),
        service_entry("web", "web.example.com", endpoints=[{"address": "127.0.0.1", "ports": {"http": 8001}}]),
        service("ratings"),
        pod("ratings", "v1", 8001),
    ]


class Machine:
    """A namespace whose queries and connections a proxy takes."""

    def __init__(self, here: Namespace, resolv_conf: str) -> None:
        self.here = here
        self.resolv_conf = resolv_conf

    def call(self, name: str, port: int) -> str:
        """What an application is told that calls this name by the C library."""
        return self.run(CALL, name, port)

    def run(self, program: str, name: str, port: int) -> str:
        """What a program prints that is told of no resolver but that of the namespace."""
        program = shlex.join([sys.executable, "-c", program, name, str(port)])
        line = f"mount --bind {shlex.quote(self.resolv_conf)} /etc/resolv.conf && exec {program}"
        done = self.here.run("unshare", "--mount", "sh", "-c", line)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, protocol: str, name: str, port: int = 0, group: int | None = None) -> str:
        """What is responded by who is thought to be the resolver."""
        return self.here.python(ASK, protocol, name, str(port), group=group)


@pytest.fixture(scope="module", params=["nft", "legacy"])
def machine(request, tmp_path_factory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("mesh")
    (folder / "mesh.yaml").write_text(yaml.safe_dump_all([*cluster(), *without_addresses()]))
    resolv_conf = tmp_path_factory.mktemp("etc") / "resolv.conf"
    resolv_conf.write_text("nameserver 10.1.9.9\nsearch default.svc.cluster.local svc.cluster.local\noptions ndots:5\n")
    with namespaces() as (here, world):
        assert here.run("ip", "route", "add", "default", "via", "10.1.9.9").returncode == 0
        started = [
            here.start([sys.executable, "-c", SERVER, "mine", "127.0.0.1,8001,http", "127.0.0.1,8002,tcp"]),
            world.start([sys.executable, "-c", SERVER, "world", "10.1.9.9,9080,http", "10.1.9.9,7000,tcp"]),
            world.start([sys.executable, "-c", RESOLVER]),
        ]
        capture = ["--transparent", "--dns-capture", "--resolv-conf", str(resolv_conf)]
        proxy = here.meshlib("proxy", "--config", str(folder), "--outbound", "127.0.0.1:15001", *capture, group=GROUP)
        try:
            for server in started:
                assert server.stdout.readline() == "up\n"
            for line in proxy.stdout:
                if "listening on" in line:
                    break
            rules = ["--proxy-group", str(GROUP), "--dns-capture", "--dns-servers", "10.1.9.9"]
            here.run_meshlib("iptables", "apply", *rules, "--flavour", request.param)
            yield Machine(here, str(resolv_conf))
            here.run_meshlib("iptables", "remove", "--flavour", request.param)
        finally:
            end(*started, proxy)


@kernel
@pytest.mark.parametrize("name", ["reviews", "reviews.default", "reviews.default.svc.cluster.local"])
def test_a_name_that_only_the_mesh_has_is_called_by_its_rules(machine, name):
    assert machine.call(name, 9080) == f"200 mine {name} /x\n"


@kernel
def test_a_name_that_the_mesh_does_not_have_is_the_resolvers(machine):
    assert machine.call("outside.example", 9080) == "200 world outside.example /x\n"


@kernel
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_resolver_that_was_meant_seems_to_respond(machine, protocol):
    assert machine.ask(protocol, "reviews") == "NOERROR 10.1.0.5\n"
    assert machine.ask(protocol, "outside.example") == "NOERROR 10.1.9.9\n"
    assert machine.ask(protocol, "nowhere.example") == "NXDOMAIN\n"


@kernel
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_proxys_own_queries_are_left_alone(machine, protocol):
    assert machine.ask(protocol, "reviews", group=GROUP) == "NXDOMAIN\n"


@kernel
def test_the_application_and_the_proxy_may_use_one_port_to_one_resolver(machine):
    """The kernel tells the two by their zones."""
    assert machine.ask("udp", "reviews", 5353) == "NOERROR 10.1.0.5\n"
    assert machine.ask("udp", "reviews", 5353, group=GROUP) == "NXDOMAIN\n"
    assert machine.ask("udp", "reviews", 5353) == "NOERROR 10.1.0.5\n"


@kernel
@pytest.mark.parametrize(
    ("name", "port"), [("web.example.com", 80), ("ratings", 9080), ("ratings.default.svc.cluster.local", 9080)]
)
def test_what_has_no_address_is_called_at_an_automatic_one(machine, name, port):
    assert machine.ask("udp", name).startswith("NOERROR 240.240.")
    assert machine.call(name, port) == f"200 mine {name} /x\n"


@kernel
def test_tcp_on_one_port_is_told_apart_by_automatic_addresses(machine):
    one, two = (machine.run(HEAR, f"{name}.example.com", 7001).split() for name in ("one", "two"))
    assert one[1:] == ["mine", "greets"]
    assert two[1:] == ["world", "greets"]
    assert one[0] != two[0]
    assert machine.ask("tcp", "one.example.com") == f"NOERROR {one[0]}\n"
