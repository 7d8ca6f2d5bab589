"""The ports of a gateway come and go with its configuration."""

from __future__ import annotations

import socket
import threading

import pytest

from meshlib.compiler.gateway_model import GatewayPort
from meshlib.problems import MeshError
from meshlib.proxy.gateway_listeners import GatewayPlaces
from meshlib.proxy.places import TcpPlace
from meshlib.proxy.process import address_of
from tests.support.eventually import eventually
from tests.support.gateway_certificates import certificate_pem, client, key_pem, leaf, secret, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.proxy_command import free_port
from tests.support.resources import virtual_service

DIRECT = {"directResponse": {"status": 200}}
SHOP = virtual_service("shop", DIRECT, hosts=["shop.test"], gateways=["gw"])


def test_a_reload_adds_and_takes_away_ports_and_drops_no_other_connection():
    with Gateway(gateway(server("*")), SHOP) as gw, gw.client() as kept:
        assert kept.get("/", "GET", "shop.test").status == 200
        gw.mesh.apply([gateway(server("*"), server("*", port=81)), SHOP])
        assert gw.get("shop.test", number=81).status == 200
        with gw.client(81) as leaving:
            assert leaving.get("/", "GET", "shop.test").status == 200
            gw.mesh.apply([gateway(server("*")), SHOP])
            assert eventually(lambda: not gw.has(81))
            assert leaving.sock.recv(1) == b"", "an idle connection of a port that is gone closes"
        assert kept.get("/", "GET", "shop.test").status == 200


def test_nobody_sees_a_port_before_its_address(monkeypatch):
    with Gateway(gateway(server("*")), SHOP) as gw:
        seen = []

        def address(sock: socket.socket) -> str:
            seen.extend(gw.process.listeners())  # what another thread could read just now
            return address_of(sock)

        monkeypatch.setattr("meshlib.proxy.process.address_of", address)
        gw.mesh.apply([gateway(server("*"), server("*", port=81)), SHOP])
        assert gw.get("shop.test", number=81).status == 200
        assert [name for name, _, _ in seen] == ["gateway:80"]
        assert all(where for _, where, _ in seen)


def test_a_port_that_came_back_is_listened_on_again():
    with Gateway(gateway(server("*")), SHOP) as gw:
        for _ in range(3):
            gw.mesh.apply([gateway(server("*", port=81)), SHOP])
            assert gw.get("shop.test", number=81).status == 200
            gw.mesh.apply([gateway(server("*")), SHOP])
            assert gw.get("shop.test").status == 200


def port(number=80, bind=""):
    return GatewayPort(number, number, bind, [], tls=False, place="Gateway/ns/gw servers[0] (gw.yaml:7)")


def test_a_port_is_where_the_command_line_says_else_where_the_gateway_does():
    places = GatewayPlaces({80: TcpPlace("", 8080), 443: TcpPlace("127.0.0.1", 8443)})
    assert places.of(port()) == TcpPlace("0.0.0.0", 8080)
    assert places.of(port(bind="10.0.0.1")) == TcpPlace("10.0.0.1", 8080)
    assert places.of(port(443, "10.0.0.1")) == TcpPlace("127.0.0.1", 8443)
    assert places.of(port(81)) == TcpPlace("0.0.0.0", 81)


def test_a_port_that_is_taken_is_said_with_its_server_and_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        places = GatewayPlaces({80: TcpPlace("127.0.0.1", number)})
        with pytest.raises(MeshError) as raised:
            places.open(port(), share=False)
    assert str(raised.value).startswith(
        f"Gateway/ns/gw servers[0] (gw.yaml:7) 127.0.0.1:{number}: port {number} is in use"
    )
    assert "--gateway-port 80=" in str(raised.value)


def test_a_port_that_cannot_be_listened_at_stops_no_other(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken, Gateway(gateway(server("*")), SHOP) as gw:
        number = taken.getsockname()[1]
        gw._places.mapped[82] = TcpPlace("127.0.0.1", number)  # type: ignore[index]
        gw.mesh.apply([gateway(server("*"), server("*", port=82), server("*", port=83)), SHOP])
        assert gw.get("shop.test", number=83).status == 200
        assert not gw.has(82)
        assert f"port {number} is in use" in caplog.text


def https(host: str):
    return server(host, port=443, protocol="HTTPS", name=host, tls={"mode": "SIMPLE", "credentialName": host})


def test_a_certificate_that_cannot_be_used_is_said_before_anybody_connects_once_and_touches_no_other(caplog):
    shop = leaf("shop.test")
    good, bad, worse = (
        tls_secret("shop.test", shop),
        *(
            secret(name, tls_crt=certificate_pem(leaf(name)), tls_key=key_pem(shop))
            for name in ("bank.test", "late.test")
        ),
    )

    def said(host: str) -> int:
        return caplog.text.count(f"tls of Gateway/default/gw servers[{host}] cannot be used")

    with Gateway(gateway(https("shop.test"), https("bank.test")), good, bad, SHOP) as gw:
        assert (said("0"), said("1")) == (0, 1)
        with client().wrap_socket(gw.client(443).sock, server_hostname="shop.test") as sock:
            assert sock.getpeercert()["subjectAltName"][0][1] == "shop.test"
        hosts = ("shop.test", "bank.test", "late.test")
        gw.mesh.apply([gateway(*map(https, hosts), server("*", port=81)), good, bad, worse, SHOP])
        assert gw.get("shop.test", number=81).status == 200, "it follows"
        assert (said("1"), said("2")) == (1, 1)


def test_reloads_and_rotations_under_load_fail_no_request_and_drop_no_stream():
    renewed = [leaf("shop.test", f"v{number}.shop.test") for number in range(2)]
    servers = [
        server("*"),
        server("shop.test", port=443, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "shop"}),
    ]
    failed: list[object] = []
    done = {80: 0, 443: 0}
    stop = threading.Event()

    def call(gw, number):
        context = client()
        secure = (lambda sock: context.wrap_socket(sock, server_hostname="shop.test")) if number == 443 else None
        while not stop.is_set():
            try:
                with gw.client(number, secure) as made:
                    for _ in range(5):
                        status = made.get("/", "GET", "shop.test").status
                        if status != 200:
                            failed.append(status)
                        done[number] += 1
            except Exception as error:
                failed.append(error)

    with Gateway(gateway(*servers), SHOP, tls_secret("shop", renewed[0])) as gw:
        threads = [threading.Thread(target=call, args=(gw, number)) for number in done]
        for thread in threads:
            thread.start()
        try:
            for turn in range(100):
                before = dict(done)
                extra = [gateway(server("*", port=81), name="other")] if turn % 2 else []
                gw.mesh.apply([gateway(*servers), *extra, SHOP, tls_secret("shop", renewed[turn % 2])])
                assert eventually(lambda before=before: all(done[n] > before[n] for n in done) or failed)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert failed == []


def test_two_ports_that_would_be_at_one_place_are_said_with_both_and_the_remedy():
    places = GatewayPlaces({80: TcpPlace("", 8080), 443: TcpPlace("127.0.0.1", 0), 444: TcpPlace("127.0.0.1", 0)})
    apart = [port(80), port(81), port(443), port(444)]
    assert places.clash(apart) == "", "a free port is another one each time"
    assert places.clash([port(80, "10.0.0.1"), port(8080, "10.0.0.2")]) == ""
    said = places.clash([*apart, port(8080)])
    assert said.startswith("Gateway/ns/gw servers[0] (gw.yaml:7) 0.0.0.0:8080: that is where Gateway/ns/gw servers[0]")
    assert said.endswith("give --gateway-port 8080= another port")
    with pytest.raises(MeshError, match="another port"):
        places.looked_at([*apart, port(8080)])


def test_a_gateway_port_that_no_gateway_has_is_worth_a_warning():
    places = GatewayPlaces({80: TcpPlace("", 8080), 999: TcpPlace("127.0.0.1", 9000)})
    assert places.looked_at([port(80)]) == [
        "--gateway-port 999= has no effect: no Gateway that is served here has a server with routes on port 999"
    ]


def test_a_port_that_a_reload_would_have_where_another_one_is_stops_no_other(caplog):
    with Gateway(gateway(server("*")), SHOP) as gw:
        gw._places.mapped[82] = gw._places.mapped[84] = TcpPlace("127.0.0.1", free_port())  # type: ignore[index]
        gw.mesh.apply([gateway(*(server("*", port=number) for number in (80, 82, 84, 85))), SHOP])
        assert gw.get("shop.test", number=85).status == 200
        assert gw.get("shop.test", number=82).status == 200
        assert not gw.has(84)
        assert "that is where Gateway/default/gw servers[1]" in caplog.text
