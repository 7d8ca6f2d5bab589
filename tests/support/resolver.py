"""A resolver that says what a test gives it, over UDP and TCP, and one that says nothing."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator

import dns.message
import dns.rrset

Says = Callable[[dns.message.Message, str], bytes | None]
"""What is responded to a message that has come by a protocol; None: nothing."""


def addresses(*ips: str) -> Says:
    """Whatever is asked has these."""

    def says(query: dns.message.Message, protocol: str) -> bytes:
        made = dns.message.make_response(query)
        asked = query.question[0]
        made.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", asked.rdtype, ips))
        return made.to_wire(max_size=65535 if protocol == "tcp" else 512, prefer_truncation=True)

    return says


class Resolver:
    """``asked``: what has come, by protocol."""

    def __init__(self, says: Says) -> None:
        self.asked: list[tuple[str, str]] = []
        self.says = says
        self.port = 0

    @property
    def place(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def respond(self, wire: bytes, protocol: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        self.asked.append((protocol, query.question[0].name.to_text()))
        return self.says(query, protocol)


@contextlib.contextmanager
def resolver(says: Says) -> Iterator[Resolver]:
    """At a free port of 127.0.0.1."""
    made = Resolver(says)

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, sock = self.request
            if (response := made.respond(wire, "udp")) is not None:
                sock.sendto(response, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(2):
                response = made.respond(self.rfile.read(int.from_bytes(head)), "tcp")
                if response is None:
                    return
                self.wfile.write(len(response).to_bytes(2) + response)

    class UdpServer(socketserver.ThreadingUDPServer):
        daemon_threads = True
        max_packet_size = 65535

    class TcpServer(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with contextlib.ExitStack() as undo:
        for _ in range(20):
            tcp = TcpServer(("127.0.0.1", 0), Tcp)
            try:
                udp = UdpServer(tcp.server_address, Udp)
            except OSError:
                tcp.server_close()
                continue
            break
        for server in (tcp, udp):
            undo.enter_context(server)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            undo.callback(thread.join, 20)
            undo.callback(server.shutdown)
        made.port = tcp.server_address[1]
        yield made


@contextlib.contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """Where a resolver hears everything and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        yield udp.getsockname()
