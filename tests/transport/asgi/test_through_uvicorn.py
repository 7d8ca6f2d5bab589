"""Real bytes through a real uvicorn, with both of its parsers, to a real FastAPI: what is denied is served 0 times, however it
is spelled, and what is refused is refused before anything of it is read."""

from __future__ import annotations

import logging
import ssl

import pytest
from fastapi import FastAPI, Request, WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import meshlib
from tests.support.asgi import DENIED, Served
from tests.support.uvicorn_server import Uvicorn

SECRET = b"the secret"
PARSERS = ("h11", "httptools")


def deny(request):
    """As a policy would: by the path on the wire."""
    return DENIED if request.path.lower().startswith("/admin") else None


class Site:
    """A FastAPI application that counts what its secret pages serve."""

    def __init__(self) -> None:
        self.served_secrets = 0
        self.bodies: list[bytes] = []
        self.peers: list[tuple[str, str]] = []
        self.app = FastAPI()
        self.mesh = Served()
        self.mesh.checks(deny)

        @self.app.get("/admin")
        @self.app.post("/admin")
        async def admin() -> str:
            self.served_secrets += 1
            return SECRET.decode()

        @self.app.get("/")
        async def home(request: Request) -> str:
            inbound = self.mesh.mesh.inbound()
            assert inbound is not None
            self.peers.append((inbound.source_ip, inbound.local_ip))
            return request.headers.get("x-folded", "home")

        @self.app.post("/")
        async def take(request: Request) -> int:
            self.bodies.append(await request.body())
            return len(self.bodies[-1])

        @self.app.websocket("/admin")
        async def socket(websocket: WebSocket) -> None:
            self.served_secrets += 1
            await websocket.accept()

        @self.app.websocket("/chat")
        async def chat(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.close()

        self.wrapped = meshlib.MeshASGIMiddleware(self.app, self.mesh.mesh)


@pytest.fixture(scope="module", params=PARSERS)
def parser(request):
    return request.param


@pytest.fixture(scope="module")
def site(parser):
    made = Site()
    with Uvicorn(made.wrapped, http=parser, proxy_headers=False) as server:
        made.server = server  # type: ignore[attr-defined]
        yield made
    made.mesh.mesh.close()


def lines(*parts: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((*parts, b"Connection: close", b"", body))


HOST = b"Host: shop.test"
DENIED_SPELLINGS = {
    "plain": lines(b"GET /admin HTTP/1.1", HOST),
    "query": lines(b"GET /admin?x=/ HTTP/1.1", HOST),
    "absolute form": lines(b"GET http://shop.test/admin HTTP/1.1", HOST),
    "absolute form of another host": lines(b"GET http://evil.test/admin HTTP/1.1", HOST),
    "absolute form, upper case": lines(b"GET HTTP://SHOP.TEST/admin HTTP/1.1", HOST),
    "fragment": lines(b"GET /admin#x HTTP/1.1", HOST),
    "fragment before the path": lines(b"GET /#/admin HTTP/1.1", HOST),
    "two hosts": lines(b"GET /admin HTTP/1.1", HOST, b"Host: other.test"),
    "no host": lines(b"GET /admin HTTP/1.1"),
    "host with a comma": lines(b"GET /admin HTTP/1.1", b"Host: shop.test,other.test"),
    "http/1.0": lines(b"GET /admin HTTP/1.0"),
    "head": lines(b"HEAD /admin HTTP/1.1", HOST),
    "not origin form": lines(b"GET admin HTTP/1.1", HOST),
    "authority form": lines(b"CONNECT /admin HTTP/1.1", HOST),
    "obs-fold": lines(b"GET /admin HTTP/1.1", HOST, b"X-A: 1\r\n 2"),
    "fold of host": lines(b"GET /admin HTTP/1.1", b"Host:\r\n shop.test"),
    "te and cl": lines(
        b"POST /admin HTTP/1.1", HOST, b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "two lengths": lines(b"POST /admin HTTP/1.1", HOST, b"Content-Length: 0", b"Content-Length: 5"),
    "expect": lines(b"POST /admin HTTP/1.1", HOST, b"Content-Length: 9", b"Expect: 100-continue"),
}


@pytest.mark.parametrize("name", DENIED_SPELLINGS)
def test_what_is_denied_is_served_0_times_however_it_is_spelled(site, name):
    response = site.server.say(DENIED_SPELLINGS[name])
    # "GET /#/admin" is the home page to httptools, which drops fragments before anybody sees them
    if not (name == "fragment before the path" and b"200 OK" in response[:20]):
        assert response[:12] in (b"HTTP/1.1 403", b"HTTP/1.1 400"), response
    assert SECRET not in response
    assert b"100 Continue" not in response, "a refusal reads nothing"
    assert site.served_secrets == 0
    if name == "head":
        assert response.endswith(b"\r\n\r\n")


MALFORMED = {
    "two hosts": lines(b"GET / HTTP/1.1", HOST, b"Host: shop.test"),
    "host with a comma": lines(b"GET / HTTP/1.1", b"Host: shop.test,other.test"),
    "no host": lines(b"GET / HTTP/1.1"),
    "userinfo": lines(b"GET / HTTP/1.1", b"Host: u@shop.test"),
    "te and cl": lines(
        b"POST / HTTP/1.1", HOST, b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "two lengths": lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 0", b"Content-Length: 5"),
    "a space in a name": lines(b"GET / HTTP/1.1", HOST, b"X A: 1"),
    "a space before the colon": lines(b"GET / HTTP/1.1", HOST, b"X-A : 1"),
    "a NUL": lines(b"GET / HTTP/1.1", HOST, b"X-A: \0"),
    "asterisk": lines(b"GET * HTTP/1.1", HOST),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_two_readers_would_read_in_two_ways_is_a_400(site, name):
    assert site.server.say(MALFORMED[name])[:12] == b"HTTP/1.1 400"


def test_a_folded_header_is_one_line_or_none(site):
    response = site.server.say(lines(b"GET / HTTP/1.1", HOST, b"X-Folded: a\r\n b"))
    assert response[:12] == b"HTTP/1.1 400" or b'"a b"' in response or b'"ab"' in response


def test_two_requests_in_one_go_are_two_requests(site):
    first = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nabc"
    response = site.server.say(first + DENIED_SPELLINGS["plain"])
    assert response.count(b"HTTP/1.1 ") == 2
    assert b"403 Forbidden" in response
    assert site.bodies[-1] == b"abc"
    assert site.served_secrets == 0


def test_the_body_of_a_refused_request_is_no_request(site):
    inner = DENIED_SPELLINGS["plain"].replace(b"/admin", b"/")
    outer = b"POST /admin HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(inner)
    assert site.server.say(outer + inner).count(b"HTTP/1.1 ") == 1


def test_expect_is_answered_when_the_application_reads(site):
    head = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    assert site.server.say(head, until=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_absolute_form_that_agrees_with_host_is_served_by_its_path(site):
    response = site.server.say(lines(b"GET http://shop.test/ HTTP/1.1", HOST))
    assert response[:12] == b"HTTP/1.1 200"


def test_the_peer_and_the_local_address_are_those_of_the_connection(site):
    site.server.say(lines(b"GET / HTTP/1.1", HOST, b"X-Forwarded-For: 1.2.3.4"))
    assert site.peers[-1] == ("127.0.0.1", "127.0.0.1")


def test_a_websocket_that_is_refused_gets_a_403_before_it_is_accepted(site):
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{site.server.port}/admin", compression=None, proxy=None)
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"RBAC: access denied"
    assert site.served_secrets == 0


def test_a_websocket_that_is_let_in_talks(site):
    with connect(f"ws://127.0.0.1:{site.server.port}/chat", compression=None, proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"


def test_uvicorns_proxy_headers_hide_the_peer_and_that_is_told(parser, caplog):
    site = Site()
    with caplog.at_level(logging.WARNING, "meshlib.asgi"), Uvicorn(site.wrapped, http=parser) as server:
        server.say(lines(b"GET / HTTP/1.1", HOST))
        server.say(lines(b"GET / HTTP/1.1", HOST, b"X-Forwarded-For: 9.9.9.9, 1.2.3.4"))
        server.say(lines(b"GET / HTTP/1.1", HOST, b"X-Forwarded-For: 1.2.3.4:77"))
    assert site.peers == [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("", "127.0.0.1")]
    assert len([r for r in caplog.records if "--no-proxy-headers" in r.getMessage()]) == 1
    site.mesh.mesh.close()


def test_a_root_path_of_uvicorn_is_not_part_of_the_path_that_is_judged(parser):
    site = Site()
    with Uvicorn(site.wrapped, http=parser, root_path="/api") as server:
        assert b" 403 " in server.say(DENIED_SPELLINGS["plain"])[:16]
        assert b" 200 " in server.say(lines(b"GET / HTTP/1.1", HOST))[:16]
    assert site.served_secrets == 0
    site.mesh.mesh.close()


def test_over_tls_a_peer_whose_certificate_uvicorn_does_not_tell_is_nobody(parser, tmp_path):
    from tests.support.spiffe import Authority

    authority, site, seen = Authority(), Site(), []
    site.mesh.checks(lambda request: seen.append((request.principal, request.secure, request.mutual)))
    key, certificate = authority.issue("127.0.0.1")
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(certificate)
    with Uvicorn(
        site.wrapped, http=parser, ssl_keyfile=str(tmp_path / "key.pem"), ssl_certfile=str(tmp_path / "cert.pem")
    ) as server:
        import http.client

        context = ssl.create_default_context(cadata=authority.pem.decode())
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
        connection.request("GET", "/", headers={"x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/a/sa/b"})
        assert connection.getresponse().status == 200
        connection.close()
    assert seen == [("", True, False)]
    site.mesh.mesh.close()
