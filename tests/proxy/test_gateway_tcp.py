"""Connections of which a gateway reads no requests: where they go, who may, and what is told of them."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from tests.support.eventually import eventually
from tests.support.gateway_certificates import client, leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.inbound_policies import authorization_policy
from tests.support.listening import stop_accepting
from tests.support.resources import service_entry, to, virtual_service

SHOP, BANK = leaf("shop.test"), leaf("bank.test")
GONE = (ssl.SSLError, ConnectionError)


class Echo:
    """A server of TCP, or of TLS, that says who it is and then what it hears."""

    def __init__(self, name, pair=None):
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._name = name.encode()
        self._context = None if pair is None else server_context(pair)
        self.served = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            with sock if self._context is None else self._context.wrap_socket(sock, server_side=True) as peer:
                self.served += 1
                peer.sendall(self._name + b":")
                while data := peer.recv(65536):
                    peer.sendall(data)
        except OSError:
            return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop_accepting(self._sock, self._thread)


def server_context(pair):
    from meshlib.identity.memory_file import memory_file
    from tests.support.gateway_certificates import certificate_pem, key_pem

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with memory_file(key_pem(pair), certificate_pem(pair)) as path:
        context.load_cert_chain(path)
    return context


def entry(name, port, protocol="TCP"):
    return service_entry(
        name,
        f"{name}.internal.test",
        ports=[{"number": 5000, "name": "p", "protocol": protocol}],
        resolution="STATIC",
        endpoints=[{"address": "127.0.0.1", "ports": {"p": port}}],
    )


def tcp_rule(*names, host="*", port=0, **match):
    route = [{**to(f"{name}.internal.test", port=5000), "weight": weight} for name, weight in names]
    made = virtual_service("tcp", hosts=[host], gateways=["gw"])
    made["spec"].pop("http", None)
    made["spec"]["tcp"] = [{"route": route, **({"match": [{"port": port, **match}]} if port else {})}]
    return made


def tls_rules(*pairs, name="tls", hosts=("*.test",)):
    made = virtual_service(name, hosts=list(hosts), gateways=["gw"])
    made["spec"].pop("http", None)
    made["spec"]["tls"] = [
        {"match": [{"sniHosts": list(snis)}], "route": [to(f"{to_name}.internal.test", port=5000)]}
        for snis, to_name in pairs
    ]
    return made


def bound_port(sock):
    sock.bind(("127.0.0.1", 0))
    return sock.getsockname()[1]


def heard(gw, number, data=b"hello", wrap=None):
    with gw.client(number, wrap) as made:
        made.send(data)
        return made.until(data)


def passthrough(*hosts, **more):
    return server(*hosts, port=443, protocol="TLS", tls={"mode": "PASSTHROUGH"}, **more)


def test_bytes_of_tcp_go_where_the_tcp_rule_leads_both_ways_and_are_counted():
    with (
        Echo("db") as db,
        Gateway(entry("db", db.port), gateway(server("*", port=5432, protocol="TCP")), tcp_rule(("db", 100))) as gw,
    ):
        assert heard(gw, 5432) == b"db:hello"
        big = b"x" * 3_000_000 + b"!"
        got = bytearray()
        with gw.client(5432) as made:
            sender = threading.Thread(target=made.send, args=(big,))
            sender.start()
            while len(got) < len(big) + 3:
                got += made.sock.recv(1 << 20)
            sender.join(60)
        assert bytes(got) == b"db:" + big
        assert eventually(lambda: gw.metric("istio_tcp_connections_closed_total", reporter="source") == 2)
        assert gw.metric("istio_tcp_received_bytes_total") == len(big) + 5
        assert gw.metric("istio_tcp_sent_bytes_total") == len(big) + 5 + 6


def test_a_server_that_speaks_first_is_heard():
    with (
        Echo("db") as db,
        Gateway(entry("db", db.port), gateway(server("*", port=5432, protocol="MYSQL")), tcp_rule(("db", 100))) as gw,
        gw.client(5432) as made,
    ):
        assert made.until(b":") == b"db:"


def test_the_end_of_one_side_is_told_to_the_other():
    with (
        Echo("db") as db,
        Gateway(entry("db", db.port), gateway(server("*", port=5432, protocol="TCP")), tcp_rule(("db", 100))) as gw,
        gw.client(5432) as made,
    ):
        made.send(b"last")
        made.sock.shutdown(socket.SHUT_WR)
        assert made.until(b"last") == b"db:last"
        assert made.sock.recv(1) == b""


def test_weights_choose_for_each_connection():
    with (
        Echo("a") as a,
        Echo("b") as b,
        Gateway(
            entry("a", a.port),
            entry("b", b.port),
            gateway(server("*", port=5432, protocol="TCP")),
            tcp_rule(("a", 50), ("b", 50)),
        ) as gw,
    ):
        assert {heard(gw, 5432)[:1] for _ in range(24)} == {b"a", b"b"}


def test_a_match_on_the_port_chooses_the_rule():
    with (
        Echo("a") as a,
        Gateway(
            entry("a", a.port),
            gateway(server("*", port=5432, protocol="TCP"), server("*", port=5433, protocol="TCP")),
            tcp_rule(("a", 100), port=5433),
        ) as gw,
    ):
        assert heard(gw, 5433) == b"a:hello"
        assert not gw.has(5432), "nothing is bound to it"
        (problem,) = [p for p in gw.mesh.problems if p.code == "no-routes"]
        assert "servers[0]" in problem.message


def test_an_upstream_that_refuses_closes_the_client():
    with (
        socket.socket() as taken,  # nobody listens there, and nobody else can
        Gateway(
            entry("db", bound_port(taken)), gateway(server("*", port=5432, protocol="TCP")), tcp_rule(("db", 100))
        ) as gw,
        gw.client(5432) as made,
        pytest.raises(ConnectionError),
    ):
        made.until(b":")


# -- TLS that ends elsewhere ---------------------------------------------------------------------------------


def test_tls_is_passed_through_by_the_name_that_is_asked_for():
    with (
        Echo("shop", SHOP) as shop,
        Echo("bank", BANK) as bank,
        Gateway(
            entry("shop", shop.port, "TLS"),
            entry("bank", bank.port, "TLS"),
            gateway(passthrough("*.test")),
            tls_rules((["shop.test"], "shop"), (["*.bank.test", "bank.test"], "bank")),
        ) as gw,
    ):
        for name in ("shop", "bank"):
            context = client()
            with gw.client(
                443, lambda sock, n=name, c=context: c.wrap_socket(sock, server_hostname=f"{n}.test")
            ) as made:
                made.send(b"hi")
                assert made.until(b"hi") == f"{name}:hi".encode()
        with pytest.raises(GONE):
            gw.client(443, lambda sock: client().wrap_socket(sock, server_hostname="other.test"))
        assert gw.process.listener.counts["no_server"] == 1


def test_tls_that_ends_here_and_tls_that_does_not_share_a_port():
    with (
        Echo("db") as db,
        Echo("shop", SHOP) as shop,
        Gateway(
            entry("db", db.port),
            entry("shop", shop.port, "TLS"),
            tls_secret("bank", BANK),
            gateway(
                passthrough("shop.test"),
                server(
                    "bank.test", port=443, protocol="TLS", name="t", tls={"mode": "SIMPLE", "credentialName": "bank"}
                ),
            ),
            tls_rules((["shop.test"], "shop")),
            tcp_rule(("db", 100), host="bank.test"),
        ) as gw,
    ):
        assert (
            heard(gw, 443, wrap=lambda sock: client().wrap_socket(sock, server_hostname="shop.test")) == b"shop:hello"
        )
        assert heard(gw, 443, wrap=lambda sock: client().wrap_socket(sock, server_hostname="bank.test")) == b"db:hello"


# -- who may -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "rule", "served"),
    [
        ("ALLOW", {"from": [{"source": {"ipBlocks": ["127.0.0.1"]}}]}, True),
        ("ALLOW", {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}, False),
        ("ALLOW", {"to": [{"operation": {"paths": ["/"]}}]}, False),
        ("ALLOW", {"to": [{"operation": {"ports": ["5432"]}}]}, True),
        ("DENY", {"from": [{"source": {"ipBlocks": ["127.0.0.1"]}}]}, False),
        (
            "DENY",
            {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}], "to": [{"operation": {"methods": ["GET"]}}]},
            True,
        ),
        ("DENY", {"to": [{"operation": {"methods": ["GET"]}}]}, False),
    ],
)
def test_policies_count_for_connections_as_in_istio(action, rule, served):
    policy = authorization_policy("p", action, rule)
    policy["spec"]["selector"] = {"matchLabels": {"istio": "ingress"}}
    with (
        Echo("db") as db,
        Gateway(
            policy, entry("db", db.port), gateway(server("*", port=5432, protocol="TCP")), tcp_rule(("db", 100))
        ) as gw,
    ):
        if served:
            assert heard(gw, 5432) == b"db:hello"
        else:
            with pytest.raises(ConnectionError):
                heard(gw, 5432)
            assert db.served == 0


def test_a_stream_goes_on_through_reloads():
    resources = [gateway(server("*", port=5432, protocol="TCP"))]
    with Echo("db") as db, Echo("new") as new, Gateway(entry("db", db.port), *resources, tcp_rule(("db", 100))) as gw:
        with gw.client(5432) as made:
            made.send(b"1")
            assert made.until(b"1") == b"db:1"
            gw.mesh.apply([entry("new", new.port), *resources, tcp_rule(("new", 100))])
            assert heard(gw, 5432) == b"new:hello"
            made.send(b"2")
            assert made.until(b"2") == b"2"


def test_streams_of_every_kind_go_on_while_certificates_rotate_under_load():
    renewed = [leaf("bank.test", f"v{number}.bank.test") for number in range(2)]
    tls = {"mode": "SIMPLE", "credentialName": "bank"}
    resources = [
        gateway(
            server("*", port=5432, protocol="TCP"),
            passthrough("shop.test"),
            server("bank.test", port=443, protocol="TLS", name="t", tls=tls),
        ),
        tls_rules((["shop.test"], "shop")),
        tcp_rule(("db", 100)),
    ]

    def wrap(name):
        return lambda sock: client().wrap_socket(sock, server_hostname=name)

    with Echo("db") as db, Echo("shop", SHOP) as shop:
        resources += [entry("db", db.port), entry("shop", shop.port, "TLS")]
        with (
            Gateway(*resources, tls_secret("bank", renewed[0])) as gw,
            gw.client(5432) as plain,
            gw.client(443, wrap("shop.test")) as passed,
            gw.client(443, wrap("bank.test")) as ended,
        ):
            streams = {"db:": (plain, ended), "shop:": (passed,)}
            for greeting, made in streams.items():
                for each in made:
                    each.send(b"0")
                    assert each.until(b"0") == f"{greeting}0".encode()
            for turn in range(1, 101):
                gw.mesh.apply([*resources, tls_secret("bank", renewed[turn % 2])])
                assert heard(gw, 443, wrap=wrap("bank.test")) == b"db:hello"  # load: a handshake a turn
                for each in (plain, passed, ended):
                    each.send(f"{turn};".encode())
                    assert each.until(b";") == f"{turn};".encode()


def test_mtls_of_the_mesh_is_passed_through_to_the_service_that_is_asked_for():
    inside = entry("shop", 1, "TLS")
    name = "outbound_.5000_._.shop.internal.test"
    with Echo("shop", leaf(name)) as shop:
        inside["spec"].update(
            location="MESH_INTERNAL",
            endpoints=[
                {"address": "127.0.0.1", "ports": {"p": shop.port}, "labels": {"security.istio.io/tlsMode": "istio"}}
            ],
        )
        auto = server("*.internal.test", port=15443, protocol="TLS", tls={"mode": "AUTO_PASSTHROUGH"})
        nobody = authorization_policy("nobody", "ALLOW")  # is for what ends here
        with Gateway(inside, nobody, gateway(auto)) as gw:

            def wrap(sock, *offers):
                return client(alpn=offers).wrap_socket(sock, server_hostname=name)

            assert heard(gw, 15443, wrap=lambda sock: wrap(sock, "istio", "h2")) == b"shop:hello"
            with pytest.raises(GONE):
                heard(gw, 15443, wrap=lambda sock: wrap(sock, "h2"))
