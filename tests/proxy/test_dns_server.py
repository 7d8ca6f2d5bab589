"""The port of ``--dns-capture``, asked over UDP and TCP as applications do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.proxy import dns_server
from meshlib.proxy.dns_server import DnsServer
from meshlib.proxy.dns_sockets import dns_listening
from meshlib.proxy.dns_upstream import Resolvers
from meshlib.proxy.metrics import ProxyMetrics
from tests.support.eventually import eventually
from tests.support.resolver import addresses, resolver, silent
from tests.support.resources import service_entry

SECONDS = 20
MESH = [
    service_entry("api", "api.example.com", addresses=["10.2.0.1"]),
    service_entry("many", "many.example.com", addresses=[f"10.2.1.{i}" for i in range(100)]),
]


class Served:
    """A server on a loop of its own."""

    def __init__(self, mesh: meshlib.Mesh, resolvers: Resolvers) -> None:
        self.mesh = mesh
        self.sockets = dns_listening(0)[0]
        self.port = self.sockets.address[1]
        self.server = DnsServer(self.sockets, mesh._core, ["ns1.svc.cluster.local"], resolvers, lambda: None)
        self._up, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.server.start()
        self._up.set()
        await self._over.wait()
        await self.server.close()

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._up.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(SECONDS)
        ended = not self._thread.is_alive()
        self.sockets.close()
        assert ended, "the server has not ended"

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **more: object) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **more)
        over = dns.query.tcp if tcp else dns.query.udp
        return over(query, "127.0.0.1", timeout=SECONDS, port=self.port)

    def addresses(self, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
        response = self.ask(name, kind, tcp=tcp)
        return [str(each) for answer in response.answer for each in answer]


@contextlib.contextmanager
def served(
    *servers: tuple[str, int], resources: list[dict] = MESH, patience: float = SECONDS, most: int = 1000
) -> Iterator[Served]:
    with (
        meshlib.Mesh.from_resources(resources, seed=1) as mesh,
        Served(mesh, Resolvers(servers, patience, most)) as made,
    ):
        yield made


both = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


@both
def test_a_name_of_the_mesh_is_told_and_nobody_is_asked(tcp):
    with resolver(addresses("9.9.9.9")) as upstream, served(upstream.place) as dns_port:
        assert dns_port.addresses("API.example.com", tcp=tcp) == ["10.2.0.1"]
        assert dns_port.ask("api.example.com", "AAAA", tcp=tcp).answer == []
        assert dns_port.addresses("api.example.com.ns1.svc.cluster.local", tcp=tcp) == ["api.example.com.", "10.2.0.1"]
        assert upstream.asked == []
        assert dns_port.server.requests["tcp" if tcp else "udp", "mesh"] == 3


@both
def test_all_else_is_asked_of_the_resolvers_as_it_came(tcp):
    with resolver(addresses("9.9.9.9")) as upstream, served(upstream.place) as dns_port:
        response = dns_port.ask("example.org", tcp=tcp)
        assert [str(each) for each in response.answer] == ["example.org. 60 IN A 9.9.9.9"]
        protocol = "tcp" if tcp else "udp"
        assert upstream.asked == [(protocol, "example.org.")]
        assert dns_port.server.requests == {(protocol, "forwarded"): 1}


def test_other_records_of_a_name_of_the_mesh_are_the_resolvers_matter():
    def nothing(query, protocol):
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    with resolver(nothing) as upstream, served(upstream.place) as dns_port:
        assert dns_port.ask("api.example.com", "MX").rcode() == dns.rcode.NXDOMAIN
        assert len(upstream.asked) == 1


def test_a_response_that_is_too_long_is_asked_for_over_tcp():
    with resolver(addresses(*(f"9.9.9.{i}" for i in range(100)))) as upstream, served(upstream.place) as dns_port:
        for name in ("many.example.com", "example.org"):
            assert dns_port.ask(name).flags & dns.flags.TC
            assert len(dns_port.addresses(name, tcp=True)) == 100
        assert [protocol for protocol, _ in upstream.asked] == ["udp", "tcp"]


def test_a_client_that_takes_more_over_udp_gets_more():
    with served() as dns_port:
        response = dns_port.ask("many.example.com", use_edns=0, payload=4096)
        assert not response.flags & dns.flags.TC
        assert len(response.answer[0]) == 100


def test_several_addresses_are_told_in_another_order_each_time():
    with served() as dns_port:
        first = [dns_port.addresses("many.example.com", tcp=True)[0] for _ in range(10)]
        assert len(set(first)) > 1


@both
def test_where_no_resolver_responds_it_fails(tcp):
    with silent() as place, served(place, patience=0.1) as dns_port:
        assert dns_port.ask("example.org", tcp=tcp).rcode() == dns.rcode.SERVFAIL
        assert dns_port.server.requests == {("tcp" if tcp else "udp", "failed"): 1}
        assert dns_port.server.resolvers.failures == 1


def test_beyond_what_may_wait_it_fails_at_once():
    with silent() as place, served(place, most=0) as dns_port:
        assert dns_port.ask("example.org").rcode() == dns.rcode.SERVFAIL
        assert dns_port.addresses("api.example.com") == ["10.2.0.1"]
        assert dns_port.server.resolvers.overflows == 1


def test_names_follow_a_reload():
    with served() as dns_port:
        assert dns_port.addresses("api.example.com") == ["10.2.0.1"]
        dns_port.mesh.apply([service_entry("api", "api.example.com", addresses=["10.2.0.2"])])
        assert dns_port.addresses("api.example.com") == ["10.2.0.2"]


def test_what_is_malformed_is_dropped_and_counted():
    with served() as dns_port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for garbage in (
                b"",
                b"x",
                b"\xff" * 100,
                dns.message.make_response(dns.message.make_query("a", "A")).to_wire(),
            ):
                client.sendto(garbage, ("127.0.0.1", dns_port.port))
        assert eventually(lambda: dns_port.server.requests["udp", "malformed"] == 4)
        with socket.create_connection(("127.0.0.1", dns_port.port), SECONDS) as client:
            client.sendall(b"\x00\x03abc")
            assert client.recv(1) == b""
        assert dns_port.server.requests["tcp", "malformed"] == 1
        assert dns_port.addresses("api.example.com") == ["10.2.0.1"]


def test_a_client_may_ask_several_times_on_one_connection_in_pieces():
    with served() as dns_port, socket.create_connection(("127.0.0.1", dns_port.port), SECONDS) as client:
        wire = dns.message.make_query("api.example.com", "A").to_wire()
        message = len(wire).to_bytes(2) + wire
        for piece in (message[:1], message[1:9], message[9:] + message):
            client.sendall(piece)
        for _ in range(2):
            response, _ = dns.query.receive_tcp(client)
            assert str(response.answer[0][0]) == "10.2.0.1"


def test_a_client_over_tcp_that_asks_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(dns_server, "IDLE", 0.1)
    with served() as dns_port, socket.create_connection(("127.0.0.1", dns_port.port), SECONDS) as client:
        client.sendall(b"\x00")
        assert client.recv(1) == b""


def test_clients_over_tcp_are_bounded(monkeypatch):
    monkeypatch.setattr(dns_server, "CONNECTIONS", 1)
    with served() as dns_port, socket.create_connection(("127.0.0.1", dns_port.port), SECONDS) as one:
        assert eventually(lambda: dns_port.server._clients == 1)
        with socket.create_connection(("127.0.0.1", dns_port.port), SECONDS) as other:
            with contextlib.suppress(ConnectionResetError):
                assert other.recv(1) == b""
        wire = dns.message.make_query("api.example.com", "A").to_wire()
        one.sendall(len(wire).to_bytes(2) + wire)
        assert dns.query.receive_tcp(one)[0].answer


def test_a_server_that_ends_gives_up_what_is_asked():
    with silent() as place, served(place) as dns_port:
        query = dns.message.make_query("example.org", "A")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(query.to_wire(), ("127.0.0.1", dns_port.port))
            assert eventually(lambda: dns_port.server.resolvers.outstanding == 1)
    assert dns_port.server.resolvers.outstanding == 0


def test_only_this_machine_is_responded_to():
    with served() as dns_port:
        for sock in (*dns_port.sockets.udp, *dns_port.sockets.tcp):
            assert sock.getsockname()[0] in ("127.0.0.1", "::1")


def test_it_is_counted_where_the_proxy_is():
    class Process:
        overload = None

        def __init__(self, dns: DnsServer) -> None:
            self.dns = dns

        def listeners(self):
            return []

    registry = CollectorRegistry()
    with silent() as place, served(place, patience=0.1) as dns_port:
        metrics = ProxyMetrics(registry, Process(dns_port.server))
        dns_port.ask("api.example.com")
        dns_port.ask("example.org")
        for name, labels, value in (
            ("requests", {"protocol": "udp", "result": "mesh"}, 1),
            ("requests", {"protocol": "udp", "result": "failed"}, 1),
            ("upstream_requests", {}, 1),
            ("upstream_failures", {}, 1),
        ):
            assert registry.get_sample_value(f"meshlib_proxy_dns_{name}_total", labels) == value
        metrics.close()
