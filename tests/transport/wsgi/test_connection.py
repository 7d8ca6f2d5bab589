"""Who is at the other end of a WSGI server's connection, and where it came to: nothing of it can come over the wire."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from cryptography import x509

from meshlib.identity.peers import Peers
from meshlib.transport.wsgi import connection
from meshlib.transport.wsgi.connection import local_ip_of, local_port_of, peer_address, peer_of, sni_of
from tests.support.spiffe import Authority
from tests.support.wsgi import PlainSock, Sock, environ

PRODUCTPAGE = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
AUTHORITY = Authority()


def der(*names: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(AUTHORITY.issue(*names)[1]).public_bytes(Encoding.DER)


def test_the_peers_identity_is_the_uri_of_its_certificate() -> None:
    identity, mutual, secure = peer_of(Sock(der(PRODUCTPAGE)), Peers(None))
    assert (str(identity), mutual, secure) == (PRODUCTPAGE, True, True)


@pytest.mark.parametrize(
    "names", [(), (PRODUCTPAGE, "spiffe://cluster.local/ns/a/sa/b"), (f"dns:{PRODUCTPAGE}",), (f"{PRODUCTPAGE}/",)]
)
def test_a_certificate_that_breaks_a_rule_of_spiffe_identifies_nobody(names: tuple[str, ...]) -> None:
    assert peer_of(Sock(der(*names)), Peers(None)) == (None, True, True)


@pytest.mark.parametrize(
    ("sock", "secure"),
    [
        (None, False),
        (PlainSock(), False),
        (Sock(None), True),
        (Sock(der(PRODUCTPAGE), verify=ssl.CERT_NONE), True),
        (Sock(der(PRODUCTPAGE), error=ValueError("handshake not done yet")), True),
        (Sock(der(PRODUCTPAGE), error=OSError("gone")), True),
    ],
)
def test_without_a_certificate_that_was_verified_a_peer_is_nobody(sock: Any, secure: bool) -> None:
    assert peer_of(sock, Peers(None)) == (None, False, secure)


def test_nothing_in_the_environ_but_the_socket_says_who_the_peer_is() -> None:
    from meshlib.transport.wsgi.request import request_of

    told = environ(
        SSL_CLIENT_S_DN="CN=x",
        REMOTE_USER=PRODUCTPAGE,
        HTTP_X_FORWARDED_CLIENT_CERT=f"URI={PRODUCTPAGE}",
        HTTP_GUNICORN_SOCKET="x",
        HTTP_X_MESHLIB_PRINCIPAL=PRODUCTPAGE,
    )
    request = request_of(told, None, Peers(None))
    assert (request.principal, request.mutual) == ("", False)


def test_the_name_that_was_asked_for_is_what_the_server_keeps_of_it() -> None:
    assert sni_of(Sock(sni="shop.example")) == "shop.example"
    assert sni_of(Sock()) == ""
    assert sni_of(PlainSock()) == ""


@pytest.mark.parametrize(
    ("more", "address"),
    [
        ({}, "10.0.0.1:4711"),
        ({"REMOTE_ADDR": "::1"}, "[::1]:4711"),
        ({"REMOTE_ADDR": "10.0.0.2", "REMOTE_PORT": None}, "10.0.0.2"),
        ({"REMOTE_ADDR": "", "REMOTE_PORT": None}, ""),  # a unix socket
        ({"REMOTE_ADDR": None}, ""),
        # what these write over REMOTE_ADDR is not the peer's
        ({"REMOTE_ADDR": "6.6.6.6", "werkzeug.proxy_fix.orig": {"REMOTE_ADDR": "10.0.0.1"}}, "10.0.0.1:4711"),
        ({"REMOTE_ADDR": "6.6.6.6", "PROXY_PROTOCOL": "TCP4"}, "10.0.0.1:4711"),
    ],
)
def test_the_peers_address_is_that_of_the_connection(more: dict[str, Any], address: str) -> None:
    assert peer_address(environ(**more)) == address


@pytest.mark.parametrize(
    ("more", "port"),
    [
        ({}, 8000),
        ({"SERVER_PORT": "x"}, 0),
        ({"SERVER_PORT": "65536"}, 0),
        ({"SERVER_PORT": "٣"}, 0),
        ({"SERVER_PORT": None}, 0),
        ({"SERVER_PORT": "80", "werkzeug.proxy_fix.orig": {"SERVER_PORT": "8001"}}, 8001),
        # over a unix socket gunicorn makes SERVER_PORT of Host, which is the client's to choose
        ({"REMOTE_PORT": None, "REMOTE_ADDR": "", "SERVER_PORT": "22", "gunicorn.socket": PlainSock("/run/x")}, 0),
        ({"PROXY_PROTOCOL": "TCP4", "SERVER_PORT": "22", "gunicorn.socket": PlainSock("/run/x")}, 0),
        ({"PROXY_PROTOCOL": "TCP4", "SERVER_PORT": "8000", "gunicorn.socket": PlainSock(("10.0.0.9", 8002))}, 8002),
        ({"REMOTE_PORT": None, "gunicorn.socket": Sock(here=OSError("gone"))}, 0),
        ({"gunicorn.socket": None}, 8000),
    ],
)
def test_the_port_is_one_that_the_client_cannot_have_made_up(more: dict[str, Any], port: int) -> None:
    assert local_port_of(environ(**more)) == port


@pytest.mark.parametrize(
    ("more", "address"),
    [
        ({"SERVER_NAME": "0.0.0.0", "gunicorn.socket": PlainSock(("10.0.0.9", 8000))}, "10.0.0.9"),
        ({"gunicorn.socket": PlainSock(("::ffff:10.0.0.9", 8000, 0, 0))}, "10.0.0.9"),
        ({"SERVER_NAME": "6.6.6.6", "gunicorn.socket": PlainSock("/run/x")}, ""),
        ({"gunicorn.socket": Sock(here=OSError("gone"))}, ""),
        ({"gunicorn.socket": None}, "10.0.0.9"),
        ({"gunicorn.socket": None, "SERVER_NAME": "0.0.0.0"}, ""),
        ({"gunicorn.socket": None, "SERVER_NAME": "::"}, ""),
        ({"gunicorn.socket": None, "SERVER_NAME": "shop"}, ""),
        (
            {"gunicorn.socket": None, "SERVER_NAME": "6.6.6.6", "werkzeug.proxy_fix.orig": {"SERVER_NAME": "10.0.0.9"}},
            "10.0.0.9",
        ),
    ],
)
def test_the_ip_that_a_connection_came_to_is_its_sockets_or_unknown(more: dict[str, Any], address: str) -> None:
    assert local_ip_of(environ(**more)) == address


def test_what_stands_for_a_socket_and_knows_the_certificate_alone_leaves_the_address_to_the_environ() -> None:
    class Certificate:
        def getpeercert(self, binary_form: bool = False) -> bytes:
            return der(PRODUCTPAGE)

    told = {
        "gunicorn.socket": Certificate(),
        "SERVER_NAME": "10.0.0.9",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "10.0.0.1",
    }
    assert (local_ip_of(told), local_port_of(told), peer_address(told)) == ("10.0.0.9", 8080, "10.0.0.1")


@pytest.mark.parametrize(
    "told",
    [
        environ(REMOTE_ADDR="10.1.2.3", REMOTE_PORT="4711"),
        environ(REMOTE_ADDR="::1", REMOTE_PORT="4711"),
        environ(REMOTE_ADDR="10.1.2.3"),
        environ(REMOTE_ADDR="10.1.2.3", REMOTE_PORT=4711),
        environ(REMOTE_ADDR="9.9.9.9", REMOTE_PORT="4711", **{"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": "10.1.2.3"}}),
        environ(REMOTE_ADDR=b"10.1.2.3", REMOTE_PORT="4711"),
        environ(REMOTE_ADDR="x" * 100, REMOTE_PORT="4711"),
    ],
)
def test_an_address_that_needs_no_escapes_is_the_peers(told: dict[str, Any]) -> None:
    """Whether or not it is remembered."""
    for _ in range(2):
        assert connection.plain_address(told) == peer_address(told)


@pytest.mark.parametrize("port", ["1", 1, None])
def test_an_address_that_needs_escapes_is_none(port: str | int | None) -> None:
    assert connection.plain_address(environ(REMOTE_ADDR='a"b', REMOTE_PORT=port)) is None
    fixed = {"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": 'a"b'}}
    assert connection.plain_address(environ(REMOTE_ADDR="10.1.2.3", REMOTE_PORT=port, **fixed)) is None


class Asked:
    """A socket that counts how often it was asked where it is."""

    def __init__(self, name: object) -> None:
        self.name, self.times = name, 0

    def getsockname(self) -> object:
        """What it says."""
        self.times += 1
        if isinstance(self.name, OSError):
            raise self.name
        return self.name


def test_a_connection_is_asked_once_where_it_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines are written of its requests; another one in its place in memory is asked itself."""
    kept: dict[int, Any] = {}
    monkeypatch.setattr(connection, "_where", kept)
    sock = Asked(("10.0.0.9", 8000))
    assert connection.local_facts(sock) == connection.local_facts(sock) == ("('10.0.0.9', 8000)", "")
    assert sock.times == 1
    other = Asked(("10.0.0.8", 8000))
    kept[id(other)] = kept.pop(id(sock))
    assert connection.local_facts(other) == ("('10.0.0.8', 8000)", "")


def test_of_a_connection_that_is_closed_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_where", {})
    sock = Asked(OSError("gone"))
    assert connection.local_facts(sock) == ("None", "")
    sock.name = ("10.0.0.9", 8000)
    assert connection.local_facts(sock) == ("('10.0.0.9', 8000)", "")


def test_so_many_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[int, Any] = {}
    monkeypatch.setattr(connection, "_where", kept)
    monkeypatch.setattr(connection, "MOST_REMEMBERED", 10)
    socks = [Asked(("10.0.0.9", n)) for n in range(25)]
    for sock in socks:
        connection.local_facts(sock)
    assert 0 < len(kept) <= 10
